// An embedded netd over its loopback wire: a protocol thread per CPU of the plan, the workers' sockets through the
// public calls, embed::Events in the place of epoll.
#pragma once

#include <array>

#include "benchmarks/stack/side.hpp"
#include "embed/netd.hpp"

namespace bench {

class EmbedSide {
public:
    static constexpr const char* name = "embed";
    static constexpr std::size_t events_max = 256;

    explicit EmbedSide(const Plan& plan);

    class Socket {
    public:
        ssize_t send(const void* data, std::size_t size)
        {
            return s.send({static_cast<const char*>(data), size}, MSG_NOSIGNAL);
        }
        ssize_t recv(void* into, std::size_t size) { return s.recv({static_cast<char*>(into), size}); }
        void close() { s.close(); }

        embed::Socket s;
    };
    struct Address {
        base::Endpoint at;
    };

    class Set {
    public:
        explicit Set(EmbedSide& side) { must(events_.open(*side.stack_), "event set"); }
        void add(const Socket& s, std::uint32_t events, void* user) { events_.add(s.s, events | EPOLLET, user); }
        void remove(const Socket& s) { events_.remove(s.s); }
        template <typename Handle>
        void wait(int timeout_ms, Handle&& handle)
        {
            std::array<embed::Event, events_max> events;
            base::Instant deadline = lwkt::RealClock{}.now() + base::millis(timeout_ms);
            int n = must(events_.wait(events, deadline), "wait");
            for (int i = 0; i < n; ++i) {
                handle(events[static_cast<std::size_t>(i)].user, events[static_cast<std::size_t>(i)].events);
            }
        }

    private:
        embed::Events events_;
    };

    // Under inline the calling thread is the protocol thread of its CPU for the life of the result.
    std::unique_ptr<lwkt::Adopted> enter(unsigned worker);

    Socket open(int type)
    {
        Socket s;
        must(embed::Socket::open(*stack_, type | SOCK_NONBLOCK, s.s), "socket");
        return s;
    }
    Socket open_server(int type, unsigned worker);
    int connect(Socket& s, unsigned destination, unsigned worker)
    {
        return s.s.connect({base::IpAddr::v4(first_address + destination % addresses), port_of(worker)});
    }
    int accept(Socket& listener, Socket& out) { return listener.s.accept(out.s, nullptr, SOCK_NONBLOCK); }
    ssize_t receive_from(Socket& s, void* into, std::size_t size, Address& from)
    {
        return s.s.recv_from({static_cast<char*>(into), size}, from.at);
    }
    ssize_t send_to(Socket& s, const void* data, std::size_t size, const Address& to)
    {
        return s.s.send_to({static_cast<const char*>(data), size}, to.at);
    }

    void start_counting();
    nlohmann::json counters(); // since start_counting()

private:
    static std::uint16_t port_of(unsigned worker) { return static_cast<std::uint16_t>(first_port + worker); }
    std::uint64_t packets() const;

    std::unique_ptr<embed::Stack> stack_;
    lwkt::Snapshot before_;
    std::uint64_t packets_before_ = 0;
    bool inline_ = false;
};

} // namespace bench
