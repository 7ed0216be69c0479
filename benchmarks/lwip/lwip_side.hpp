// lwIP's threaded side under the workloads of bench-stack: application threads use its netconns without blocking, its
// own thread (tcpip_thread) has the protocol and the wire. Readiness comes by the netconns' event callback into an
// inbox per worker, which is what epoll is on the other sides; lwIP's own select walks all sockets. A socket belongs to
// the worker that made it.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include <lwip/api.h>

#include "benchmarks/lwip/lwip_port.hpp"
#include "benchmarks/lwip/lwip_sys.hpp"
#include "benchmarks/stack/side.hpp"

namespace bench {

// What a netconn's callback tells of a socket; `socket` of the netconn is its place in the table.
struct LwipEntry {
    std::atomic<std::uint32_t> events{0}; // EPOLL*, and lwip_queued
    void* user = nullptr;                 // the worker's; null = nobody listens
    class LwipInbox* inbox = nullptr;     // c while the entry is in use
    bool closed = false;                  // free it once it is out of the inbox
};

// Sockets of one worker on which something happened. Callbacks put, one at a time (lwIP's lock or thread); the worker
// takes.
class LwipInbox {
public:
    LwipInbox();
    ~LwipInbox();

    int take_entry();
    void give_back(int entry); // no callback comes any more
    void happened(int entry, std::uint32_t event);
    // Some that happened; waits for the first of them.
    template <typename Handle>
    void wait(int timeout_ms, Handle&& handle)
    {
        sleeper_.await([this] { return in_.load() != out_; }, static_cast<std::uint64_t>(timeout_ms) * 1'000'000);
        std::uint32_t in = in_.load(std::memory_order_acquire);
        for (unsigned n = 0; out_ != in && n < batch; ++n) {
            int at = ring_[out_++ % ring_.size()];
            LwipEntry& e = entry(at);
            std::uint32_t events = e.events.exchange(0) & ~queued;
            if (e.closed) {
                e.closed = false;
                free_.push_back(at);
            } else if (e.user != nullptr) {
                handle(e.user, events);
            }
        }
    }
    static LwipEntry& entry(int at);
    static LwipInbox& mine(); // of this thread

private:
    static constexpr unsigned batch = 256;
    static constexpr std::uint32_t queued = 1U << 31;
    std::vector<int> free_;
    std::vector<int> ring_; // an entry is in it at most once
    std::atomic<std::uint32_t> in_{0};
    std::uint32_t out_ = 0;
    lwip_bench::Sleeper sleeper_;
};

class LwipSide {
public:
    static constexpr const char* name = "lwip";

    explicit LwipSide(const Plan& plan);

    class Socket {
    public:
        Socket() = default;
        Socket(netconn* c, bool copies) : conn_(c), copies_(copies) {}
        ~Socket() { close(); }
        Socket(Socket&& other) noexcept { *this = std::move(other); }
        Socket& operator=(Socket&& other) noexcept
        {
            close();
            conn_ = std::exchange(other.conn_, nullptr);
            rest_ = std::exchange(other.rest_, nullptr);
            taken_ = std::exchange(other.taken_, 0);
            unreported_ = std::exchange(other.unreported_, 0);
            copies_ = other.copies_;
            return *this;
        }
        ssize_t send(const void* data, std::size_t size);
        ssize_t recv(void* into, std::size_t size);
        void close();
        netconn* conn() const { return conn_; }

    private:
        void report_read();
        ssize_t receive_datagram(void* into, std::size_t size);

        netconn* conn_ = nullptr;
        pbuf* rest_ = nullptr;       // received, not read to its end
        std::size_t taken_ = 0;      // of it
        std::size_t unreported_ = 0; // read; lwIP does not know yet and keeps the window down
        bool copies_ = true;
    };
    struct Address {
        ip_addr_t ip;
        std::uint16_t port;
    };
    class Set {
    public:
        explicit Set(LwipSide&) {}
        void add(const Socket& s, std::uint32_t, void* user) { LwipInbox::entry(s.conn()->socket).user = user; }
        void remove(const Socket& s)
        {
            if (s.conn() != nullptr) {
                LwipInbox::entry(s.conn()->socket).user = nullptr;
            }
        }
        template <typename Handle>
        void wait(int timeout_ms, Handle&& handle)
        {
            LwipInbox::mine().wait(timeout_ms, handle);
        }
    };
    struct Entered {};
    Entered enter(unsigned) { return {}; }

    Socket open(int type);
    Socket open_server(int type, unsigned worker);
    int connect(Socket& s, unsigned destination, unsigned worker);
    int accept(Socket& listener, Socket& out);
    ssize_t receive_from(Socket& s, void* into, std::size_t size, Address& from);
    ssize_t send_to(Socket& s, const void* data, std::size_t size, const Address& to);

    void start_counting();
    nlohmann::json counters();

private:
    bool copies_;
    std::uint64_t packets_before_ = 0;
    std::uint64_t waits_before_ = 0;
    std::uint64_t wakes_before_ = 0;
};

} // namespace bench
