// What is left of a stack with sockets when its protocol is taken away: the bound of the rows that compare whole
// stacks. Calls that lock, copy and publish; packets with IPv4 and TCP headers, checksums made and verified;
// connections found by their four-tuple; rings of their own for both directions; an event set. No loss, no timers, no
// options, no state beyond open and closed, no TIME-WAIT, no thread beside the program's. A goal that this does not
// reach is out of reach for any stack of this design on this machine. One thread, that of its worker.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "benchmarks/stack/side.hpp"
#include "sockbuf/ring_view.hpp"

namespace bench {

struct BarePacket {
    static constexpr std::size_t headers = 40; // IPv4 and TCP without options
    std::size_t size = 0;
    alignas(64) std::array<std::byte, headers + 1460> bytes;
};

struct BareFlow {
    std::uint32_t local = 0;
    std::uint32_t remote = 0;
    std::uint16_t local_port = 0;
    std::uint16_t remote_port = 0;
    bool operator==(const BareFlow&) const = default;
};

// One end of a connection, or a listener. Offsets count bytes from the connection's begin, as in sockbuf/.
struct BareEnd {
    // A socket is the program's, not a thread's: calls lock a side and publish with a barrier, as sockets of any
    // threads do. (Here nobody else comes.)
    std::atomic<std::uint32_t> snd_lock{0};
    std::atomic<std::uint32_t> rcv_lock{0};
    std::atomic<std::uint64_t> snd_produced{0};
    std::atomic<std::uint64_t> rcv_consumed{0};

    BareFlow flow;
    std::uint64_t snd_sent = 0;
    std::uint64_t snd_acked = 0;
    std::uint64_t snd_limit = 0; // as far as the peer's window goes
    std::uint64_t rcv_produced = 0;
    std::uint64_t rcv_told = 0; // as far as our window goes that the peer knows
    sockbuf::RingView snd;
    sockbuf::RingView rcv;
    std::vector<std::byte> memory; // of both rings
    BareEnd* next_in_bucket = nullptr;
    void* user = nullptr;
    std::deque<BareEnd*> accepted; // of a listener
    unsigned segments_unacked = 0;
    bool listening = false;
    bool connecting = false;
    bool open = false;
    bool fin_received = false;
    bool fin_sent = false;
    bool fin_acked = false;
    bool closed = false; // by the program
    bool dirty = false;  // in dirty_
    bool ready = false;  // in ready_
};

class BareSide {
public:
    static constexpr const char* name = "bare";

    explicit BareSide(const Plan& plan);

    class Socket {
    public:
        Socket() = default;
        Socket(BareSide& side, BareEnd& end) : side_(&side), end_(&end) {}
        ~Socket() { close(); }
        Socket(Socket&& other) noexcept { *this = std::move(other); }
        Socket& operator=(Socket&& other) noexcept
        {
            close();
            side_ = other.side_;
            end_ = std::exchange(other.end_, nullptr);
            return *this;
        }
        ssize_t send(const void* data, std::size_t size) { return side_->send(*end_, data, size); }
        ssize_t recv(void* into, std::size_t size) { return side_->recv(*end_, into, size); }
        void close()
        {
            if (end_ != nullptr) {
                side_->close(*std::exchange(end_, nullptr));
            }
        }
        BareEnd* end() const { return end_; }

    private:
        BareSide* side_ = nullptr;
        BareEnd* end_ = nullptr;
    };

    class Set {
    public:
        explicit Set(BareSide& side) : side_(side) {}
        void add(const Socket& s, std::uint32_t, void* user)
        {
            s.end()->user = user;
            side_.happened(*s.end());
        }
        void remove(const Socket& s)
        {
            if (s.end() != nullptr) {
                s.end()->user = nullptr;
            }
        }
        template <typename Handle>
        void wait(int, Handle&& handle)
        {
            side_.work();
            side_.take_ready(handle);
        }

    private:
        BareSide& side_;
    };
    struct Entered {};
    Entered enter(unsigned) { return {}; }

    Socket open(int type);
    Socket open_server(int type, unsigned worker);
    int connect(Socket& s, unsigned destination, unsigned worker);
    int accept(Socket& listener, Socket& out);

    void start_counting() { packets_before_ = packets_; }
    nlohmann::json counters() const { return {{"packets", packets_ - packets_before_}}; }

private:
    ssize_t send(BareEnd& e, const void* data, std::size_t size);
    ssize_t recv(BareEnd& e, void* into, std::size_t size);
    void close(BareEnd& e);

    void work(); // until nothing is on its way
    void output(BareEnd& e);
    void emit(BareEnd& e, std::uint8_t flags, std::uint64_t offset, std::size_t bytes);
    void input(const BarePacket& p);
    void take_ack(BareEnd& e, std::uint32_t ack, std::uint16_t window, std::uint8_t flags);
    BareEnd* take_syn(const BareFlow& flow);

    BareEnd& new_end();
    void free_end(BareEnd& e);
    std::size_t bucket_of(const BareFlow& flow) const;
    BareEnd* find(const BareFlow& flow) const;
    void insert(BareEnd& e);
    void touch(BareEnd& e); // it has something to send, or to say
    void happened(BareEnd& e);
    static std::uint32_t events_of(const BareEnd& e);

    template <typename Handle>
    void take_ready(Handle&& handle)
    {
        now_ready_.swap(ready_);
        for (BareEnd* e : now_ready_) {
            e->ready = false;
            if (e->user != nullptr) {
                handle(e->user, events_of(*e));
            }
        }
        now_ready_.clear();
    }

    std::size_t ring_bytes_;
    std::vector<std::unique_ptr<BareEnd>> ends_;
    std::vector<BareEnd*> free_ends_;
    std::vector<BareEnd*> buckets_;
    std::unordered_map<std::uint16_t, BareEnd*> listeners_;
    std::vector<BareEnd*> dirty_;
    std::vector<BareEnd*> now_dirty_;
    std::vector<BareEnd*> ready_;
    std::vector<BareEnd*> now_ready_;
    std::vector<std::unique_ptr<BarePacket>> packet_memory_;
    std::vector<BarePacket*> free_packets_;
    std::vector<BarePacket*> wire_;
    std::vector<BarePacket*> arriving_;
    std::uint16_t next_port_ = 16384;
    std::uint64_t packets_ = 0;
    std::uint64_t packets_before_ = 0;
};

} // namespace bench
