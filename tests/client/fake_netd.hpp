// A netd for the client's tests: serves the real admission protocol on a UNIX socket and plays protocol thread and
// gateway by poking a real segment. Its network is a loopback of its own: connects reach its listeners, datagrams its
// bound ports, in order and without loss. Tests can stop it, kill it, and write what they like into a slot.
//
// One thread serves every CPU of the segment, one serves admission; `mutex` guards what both and the test use.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "client/session.hpp"

namespace fake {

using sockbuf::SocketSlot;

struct Options {
    std::uint32_t cpus = 2;
    std::uint32_t sockets = 128;
    unsigned ring_shift = 14; // both rings of every socket: 16 KiB
    std::uint32_t lane_entries = 8;
    std::uint32_t waiters = sockbuf::max_waiters; // how many it gives out
    std::vector<std::int16_t> pins{};             // what its CPUs say they are pinned to
};

inline constexpr std::uint16_t black_hole_port = 9; // connects never complete
inline constexpr std::int32_t unknown_option = 9999;

class Netd {
public:
    explicit Netd(const Options& options = {});
    ~Netd();
    Netd(const Netd&) = delete;
    Netd& operator=(const Netd&) = delete;

    const std::string& path() const { return path_; }
    // Everything netd holds goes away at once, as when it is killed.
    void die();
    // netd does nothing until the guard is gone.
    std::unique_lock<std::mutex> freeze() { return std::unique_lock(mutex_); }

    // For tests that play netd by hand, best while frozen.
    SocketSlot& slot(std::uint32_t s) { return view_.slot(s); }
    const sockbuf::SegmentView& view() const { return view_; }
    void deliver(std::uint32_t s, const void* data, std::size_t size); // bytes appear in the receive ring
    void wake(std::uint32_t s);
    void forget_requests(); // what waits in the request rings is never answered
    std::uint64_t marks_seen() const { return marks_seen_.load(); }
    std::uint64_t waiters_given() const { return waiters_given_.load(); }
    std::uint64_t sockets_in_use();

private:
    struct Socket {
        bool exists = false;
        bool datagram = false;
        bool listening = false;
        bool closing = false;
        std::uint16_t port = 0;
        std::uint16_t peer_port = 0;
        int peer = -1;            // stream: the other end's slot
        std::uint64_t sent = 0;   // taken from the send ring
        std::uint64_t filled = 0; // put into the receive ring
        std::map<std::pair<int, int>, std::vector<unsigned char>> options;
    };
    struct Process {
        int fd;
        std::uint32_t index;
    };

    void make_segment();
    void fill_grants();
    void prepare(std::uint32_t s, std::uint64_t holders, sockbuf::SlotState state);
    void push_lane(sockbuf::LaneHeader& lane, std::uint32_t s);

    void run();
    bool serve_once();
    bool serve_cpu(std::uint32_t cpu);
    void serve_request(const sockbuf::Request& r);
    std::int32_t perform(const sockbuf::Request& r, std::vector<unsigned char>& data);
    std::int32_t bind(const sockbuf::Request& r);
    std::int32_t may_send(const sockbuf::Request& r);
    std::int32_t listen(const sockbuf::Request& r);
    std::int32_t connect(const sockbuf::Request& r);
    void complete_connect(std::uint32_t s);
    void close(std::uint32_t s);
    void set_rings(std::uint32_t s);
    int find_port(std::uint16_t port, bool datagram);
    void pump(std::uint32_t s);
    void pump_stream(std::uint32_t s);
    void pump_datagrams(std::uint32_t s);
    void space_freed(std::uint32_t s);
    void release(std::uint32_t s);

    void admit();
    bool answer(Process& p);
    void attach(Process& p);
    void give_waiter(Process& p, std::int32_t kind);
    void fork(Process& p);
    void process_gone(std::uint32_t index);

    Options options_;
    std::string directory_, path_;
    int segment_fd_ = -1, page_fd_ = -1, listen_fd_ = -1, stop_fd_ = -1;
    std::vector<int> doorbells_;
    sockbuf::SegmentView view_;
    std::atomic<std::uint32_t>* sleep_words_ = nullptr;

    std::mutex mutex_;
    std::vector<Socket> sockets_;
    std::vector<std::uint32_t> free_;
    std::vector<Process> processes_;
    std::vector<int> waiter_fds_;
    std::uint32_t next_process_ = 0;
    std::uint16_t next_port_ = 40000;
    std::atomic<bool> stop_{false};
    std::atomic<std::uint64_t> marks_seen_{0}, waiters_given_{0};
    std::thread protocol_, admission_;
};

} // namespace fake
