// The kernel's TCP and UDP over loopback, with epoll. Listeners and datagram servers of the workers share a port by
// SO_REUSEPORT, which is the kernel's own way to scale.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "benchmarks/stack/side.hpp"

namespace bench {

class KernelSide {
public:
    static constexpr const char* name = "kernel";
    static constexpr std::size_t events_max = 256;

    explicit KernelSide(const Plan&) {}

    class Socket {
    public:
        Socket() = default;
        explicit Socket(int fd) : fd_(fd) {}
        ~Socket() { close(); }
        Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
        Socket& operator=(Socket&& other) noexcept
        {
            close();
            fd_ = std::exchange(other.fd_, -1);
            return *this;
        }
        void close()
        {
            if (fd_ >= 0) {
                ::close(std::exchange(fd_, -1));
            }
        }
        ssize_t send(const void* data, std::size_t size) { return result(::send(fd_, data, size, MSG_NOSIGNAL)); }
        ssize_t recv(void* into, std::size_t size) { return result(::recv(fd_, into, size, 0)); }
        int fd() const { return fd_; }

        static ssize_t result(ssize_t n) { return n < 0 ? -errno : n; }

    private:
        int fd_ = -1;
    };
    struct Address {
        sockaddr_in in;
    };

    class Set {
    public:
        explicit Set(KernelSide&) : fd_(epoll_create1(EPOLL_CLOEXEC)) {}
        ~Set() { ::close(fd_); }
        Set(const Set&) = delete;
        Set& operator=(const Set&) = delete;

        void add(const Socket& s, std::uint32_t events, void* user)
        {
            epoll_event e{events | EPOLLET, {}};
            e.data.ptr = user;
            must(Socket::result(epoll_ctl(fd_, EPOLL_CTL_ADD, s.fd(), &e)), "epoll_ctl");
        }
        void remove(const Socket&) {} // close() does it
        template <typename Handle>
        void wait(int timeout_ms, Handle&& handle)
        {
            std::array<epoll_event, events_max> events;
            int n = epoll_wait(fd_, events.data(), events_max, timeout_ms);
            for (int i = 0; i < n; ++i) {
                handle(events[static_cast<std::size_t>(i)].data.ptr, events[static_cast<std::size_t>(i)].events);
            }
        }

    private:
        int fd_;
    };

    struct Entered {};
    Entered enter(unsigned) { return {}; }

    Socket open(int type)
    {
        int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        must(Socket::result(fd), "socket");
        return Socket(fd);
    }
    Socket open_server(int type, unsigned)
    {
        Socket s = open(type);
        int on = 1;
        setsockopt(s.fd(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
        setsockopt(s.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        sockaddr_in at = address(0, 0);
        at.sin_addr.s_addr = htonl(INADDR_ANY);
        must(Socket::result(bind(s.fd(), reinterpret_cast<sockaddr*>(&at), sizeof at)), "bind");
        if (type == SOCK_STREAM) {
            must(Socket::result(listen(s.fd(), 4096)), "listen");
        }
        return s;
    }
    int connect(Socket& s, unsigned destination, unsigned)
    {
        sockaddr_in to = address(destination, 0);
        return static_cast<int>(Socket::result(::connect(s.fd(), reinterpret_cast<sockaddr*>(&to), sizeof to)));
    }
    int accept(Socket& listener, Socket& out)
    {
        int fd = accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return -errno;
        }
        out = Socket(fd);
        return 0;
    }
    ssize_t receive_from(Socket& s, void* into, std::size_t size, Address& from)
    {
        socklen_t len = sizeof from.in;
        return Socket::result(recvfrom(s.fd(), into, size, 0, reinterpret_cast<sockaddr*>(&from.in), &len));
    }
    ssize_t send_to(Socket& s, const void* data, std::size_t size, const Address& to)
    {
        return Socket::result(sendto(s.fd(), data, size, 0, reinterpret_cast<const sockaddr*>(&to.in), sizeof to.in));
    }

    void start_counting() {}
    nlohmann::json counters() { return nlohmann::json::object(); }

private:
    static sockaddr_in address(unsigned destination, unsigned port)
    {
        sockaddr_in in{};
        in.sin_family = AF_INET;
        in.sin_port = htons(static_cast<std::uint16_t>(first_port + port));
        in.sin_addr.s_addr = htonl(first_address + destination % addresses);
        return in;
    }
};

} // namespace bench
