#include "embed/socket.hpp"

#include <netinet/in.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "base/check.hpp"
#include "embed/stack.hpp"

namespace embed {

namespace {

// Filled from an Endpoint, or to be filled by a call; has room for either family.
struct Address {
    Address() = default;
    explicit Address(const base::Endpoint& e)
    {
        if (e.addr.is_v4()) {
            auto* in = reinterpret_cast<sockaddr_in*>(&storage);
            in->sin_family = AF_INET;
            in->sin_port = htons(e.port);
            in->sin_addr.s_addr = htonl(e.addr.v4());
            size = sizeof *in;
        } else {
            storage.sin6_family = AF_INET6;
            storage.sin6_port = htons(e.port);
            std::memcpy(&storage.sin6_addr, e.addr.on_wire().bytes(), 16);
            storage.sin6_scope_id = e.addr.zone();
        }
    }
    sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
    base::Endpoint endpoint() const
    {
        if (storage.sin6_family == AF_INET) {
            const auto* in = reinterpret_cast<const sockaddr_in*>(&storage);
            return {base::IpAddr::v4(ntohl(in->sin_addr.s_addr)), ntohs(in->sin_port)};
        }
        return {base::IpAddr::v6(&storage.sin6_addr).in_zone(storage.sin6_scope_id), ntohs(storage.sin6_port)};
    }

    sockaddr_in6 storage{};
    socklen_t size = sizeof storage;
};

} // namespace

std::optional<base::Endpoint> parse_endpoint(std::string_view text)
{
    auto colon = text.rfind(':');
    if (colon == std::string_view::npos) {
        return std::nullopt;
    }
    std::string_view host = text.substr(0, colon);
    bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    auto addr = base::parse_ip(bracketed ? host.substr(1, host.size() - 2) : host);
    std::uint16_t port = 0;
    const char* end = text.data() + text.size();
    auto [stop, error] = std::from_chars(text.data() + colon + 1, end, port);
    if (!addr || bracketed == addr->is_v4() || error != std::errc{} || stop != end) {
        return std::nullopt;
    }
    return base::Endpoint{*addr, port};
}

Socket::Socket(Socket&& other) noexcept : session_(std::exchange(other.session_, nullptr)), sock_(other.sock_)
{
}

Socket& Socket::operator=(Socket&& other) noexcept
{
    if (this != &other) {
        close();
        session_ = std::exchange(other.session_, nullptr);
        sock_ = other.sock_;
    }
    return *this;
}

int Socket::open(Stack& stack, int type, Socket& out, int family)
{
    client::Session& session = stack.session();
    client::Sock sock;
    int rc = client::sock_socket(session, family, type, 0, sock);
    if (rc >= 0) {
        out.close();
        out.session_ = &session;
        out.sock_ = sock;
    }
    return rc;
}

int Socket::bind(const base::Endpoint& local)
{
    Address a(local);
    return is_open() ? client::sock_bind(*session_, sock_, a.get(), a.size) : -EBADF;
}

int Socket::listen(int backlog)
{
    return is_open() ? client::sock_listen(*session_, sock_, backlog) : -EBADF;
}

int Socket::accept(Socket& out, base::Endpoint* peer, int flags)
{
    Address a;
    client::Sock sock;
    int rc = is_open() ? client::sock_accept(*session_, sock_, a.get(), &a.size, flags, sock) : -EBADF;
    if (rc >= 0) {
        out.close();
        out.session_ = session_;
        out.sock_ = sock;
        if (peer != nullptr) {
            *peer = a.endpoint();
        }
    }
    return rc;
}

int Socket::connect(const base::Endpoint& peer)
{
    Address a(peer);
    return is_open() ? client::sock_connect(*session_, sock_, a.get(), a.size) : -EBADF;
}

int Socket::shutdown(int how)
{
    return is_open() ? client::sock_shutdown(*session_, sock_, how) : -EBADF;
}

int Socket::close()
{
    client::Session* session = std::exchange(session_, nullptr);
    return session == nullptr ? 0 : client::sock_release(*session, sock_);
}

ssize_t Socket::send(std::string_view data, int flags)
{
    return is_open() ? client::sock_send(*session_, sock_, data.data(), data.size(), flags, nullptr, 0) : -EBADF;
}

ssize_t Socket::recv(std::span<char> into, int flags)
{
    return is_open() ? client::sock_recv(*session_, sock_, into.data(), into.size(), flags, nullptr, nullptr) : -EBADF;
}

ssize_t Socket::send_to(std::string_view data, const base::Endpoint& to, int flags)
{
    Address a(to);
    return is_open() ? client::sock_send(*session_, sock_, data.data(), data.size(), flags, a.get(), a.size) : -EBADF;
}

ssize_t Socket::recv_from(std::span<char> into, base::Endpoint& from, int flags)
{
    Address a;
    ssize_t n =
        is_open() ? client::sock_recv(*session_, sock_, into.data(), into.size(), flags, a.get(), &a.size) : -EBADF;
    if (n >= 0) {
        from = a.endpoint();
    }
    return n;
}

int Socket::set_option(int level, int name, int value)
{
    return is_open() ? client::sock_setsockopt(*session_, sock_, level, name, &value, sizeof value) : -EBADF;
}

int Socket::option(int level, int name, int& value)
{
    socklen_t size = sizeof value;
    return is_open() ? client::sock_getsockopt(*session_, sock_, level, name, &value, &size) : -EBADF;
}

void Socket::set_nonblocking(bool on)
{
    if (!is_open()) {
        return;
    }
    int flags = client::sock_status_flags(*session_, sock_);
    client::sock_set_status_flags(*session_, sock_, on ? flags | SOCK_NONBLOCK : flags & ~SOCK_NONBLOCK);
}

int Socket::local(base::Endpoint& out)
{
    Address a;
    int rc = is_open() ? client::sock_getsockname(*session_, sock_, a.get(), &a.size) : -EBADF;
    out = rc == 0 ? a.endpoint() : out;
    return rc;
}

int Socket::peer(base::Endpoint& out)
{
    Address a;
    int rc = is_open() ? client::sock_getpeername(*session_, sock_, a.get(), &a.size) : -EBADF;
    out = rc == 0 ? a.endpoint() : out;
    return rc;
}

std::uint32_t Socket::readiness(std::uint32_t interest)
{
    return is_open() ? client::sock_readiness(*session_, sock_, interest) : 0;
}

} // namespace embed
