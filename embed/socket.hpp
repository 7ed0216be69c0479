// A socket of an embedded stack, closed by its destructor. A thin wrapper: every call is the one of
// client/socket_calls.hpp with the same name, so blocking, flags and results are the kernel's (man 2 of each call),
// with a negative errno instead of -1. In virtual time a blocking call steps the world; -EDEADLK when nothing in it can
// ever end the wait. Movable; any thread, several at once as with a descriptor. One that is not open is -EBADF.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/net_addr.hpp"
#include "client/socket_calls.hpp"

namespace embed {

class Stack;

// "10.0.0.1:80" or "[fd00::1]:80"; nothing on a syntax error.
std::optional<base::Endpoint> parse_endpoint(std::string_view text);

class Socket {
public:
    Socket() = default;
    ~Socket() { close(); }
    Socket(Socket&& other) noexcept;
    Socket& operator=(Socket&& other) noexcept;

    // type: SOCK_STREAM or SOCK_DGRAM, | SOCK_NONBLOCK. family: AF_INET, or AF_INET6, which takes IPv4 too.
    static int open(Stack& stack, int type, Socket& out, int family = AF_INET);

    int bind(const base::Endpoint& local);
    int listen(int backlog);
    int accept(Socket& out, base::Endpoint* peer = nullptr, int flags = 0);
    int connect(const base::Endpoint& peer);
    int shutdown(int how);
    int close(); // 0 also when there is nothing to close

    ssize_t send(std::string_view data, int flags = 0);
    ssize_t recv(std::span<char> into, int flags = 0);
    ssize_t send_to(std::string_view data, const base::Endpoint& to, int flags = 0);
    ssize_t recv_from(std::span<char> into, base::Endpoint& from, int flags = 0);

    int set_option(int level, int name, int value);
    int option(int level, int name, int& value);
    void set_nonblocking(bool on);
    int local(base::Endpoint& out);
    int peer(base::Endpoint& out);
    // EPOLLIN and so on, as epoll would report now; 0 of a socket that is not open.
    std::uint32_t readiness(std::uint32_t interest);

    bool is_open() const { return session_ != nullptr; }
    // For calls that have no wrapper.
    client::Session& session() { return *session_; }
    client::Sock id() const { return sock_; }

private:
    client::Session* session_ = nullptr;
    client::Sock sock_;
};

} // namespace embed
