// An event set over embedded sockets: what epoll is for descriptors, without system calls while there is work. Events
// are those of Socket::readiness. Edge-triggered registrations (EPOLLET) report a socket once per news from its CPU,
// the others as long as they are ready. Used by one thread at a time; the sockets may be used by any.
#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/units.hpp"
#include "client/session.hpp"
#include "embed/socket.hpp"

namespace embed {

struct Event {
    void* user = nullptr;     // as given to add()
    std::uint32_t events = 0; // EPOLLIN, EPOLLOUT and so on
};

class Events {
public:
    Events() = default;
    ~Events() { close(); }
    Events(const Events&) = delete;
    Events& operator=(const Events&) = delete;

    // 0, or -ENOSPC when the stack's waiters (128) are in use.
    int open(Stack& stack);
    void close();

    // The socket must be taken out before it is closed. A socket that is ready already is reported by the next wait().
    void add(client::Sock k, std::uint32_t interest, void* user);
    void add(const Socket& s, std::uint32_t interest, void* user) { add(s.id(), interest, user); }
    void remove(client::Sock k);
    void remove(const Socket& s) { remove(s.id()); }

    // Up to out.size() events; sleeps until there is one or the deadline passed. 0 = the deadline; negative errno:
    // -EINTR, in virtual time -EDEADLK.
    int wait(std::span<Event> out, base::Instant deadline = base::never);

private:
    struct Interest {
        client::Sock sock;
        std::uint32_t events = 0; // 0 = no member
        bool queued = false;
        void* user = nullptr;
    };
    void queue(std::uint32_t slot);
    int collect(std::span<Event> out);
    int sleep(base::Instant deadline);

    client::Session* session_ = nullptr;
    client::WaiterHandle waiter_;
    std::vector<Interest> by_slot_;
    std::vector<std::uint32_t> ready_;   // slots to look at
    std::vector<std::uint32_t> looking_; // scratch of collect()
};

} // namespace embed
