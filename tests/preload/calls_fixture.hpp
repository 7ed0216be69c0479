// The interposed calls linked into this very program, which therefore stand in for libc's everywhere in it; netd is a
// fake one of the same process.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <string>

#include "tests/preload/fixture.hpp"

namespace fake {

// What a call returned, or the errno of its failure, negative.
template <typename T>
long long result(T value)
{
    return value == static_cast<T>(-1) ? -errno : static_cast<long long>(value);
}

// A connected pair whose descriptors the program closes by close(2).
struct Connected {
    Connected() : pair(make_pair()), a(pair.fd_a), b(pair.fd_b) {}
    ~Connected()
    {
        ::close(a);
        ::close(b);
    }
    Connected(const Connected&) = delete;
    Connected& operator=(const Connected&) = delete;
    FdPair pair;
    int a, b;
};

// For as long as it stands loopback is netd's: undecided sockets become so.
class LoopbackOfNetd {
public:
    LoopbackOfNetd() : header_(const_cast<sockbuf::SegmentHeader&>(attached().view.layout()))
    {
        base::Prefix p = *base::parse_prefix(test::over_v6() ? "::1/128" : "127.0.0.0/8");
        sockbuf::AnnouncedPrefix& to = header_.prefixes[0];
        std::memcpy(to.addr, p.addr.bytes(), 16);
        to.length = p.length;
        to.is_local = 1;
        header_.prefix_count = 1;
    }
    ~LoopbackOfNetd() { header_.prefix_count = 0; }
    LoopbackOfNetd(const LoopbackOfNetd&) = delete;
    LoopbackOfNetd& operator=(const LoopbackOfNetd&) = delete;

private:
    sockbuf::SegmentHeader& header_;
};

// A listener of netd's; `at` becomes its address.
inline int listen_at(Address& at)
{
    int listener = ::socket(test::family(), SOCK_STREAM, 0);
    at = at_port(0);
    REQUIRE(::bind(listener, at.get(), at.size) == 0);
    REQUIRE(::listen(listener, 8) == 0);
    REQUIRE(::getsockname(listener, at.get(), &at.size) == 0);
    return listener;
}

inline std::string heard(int fd, int flags = 0)
{
    char bytes[256];
    ssize_t n = ::recv(fd, bytes, sizeof bytes, flags);
    return n < 0 ? "!" + std::to_string(errno) : std::string(bytes, static_cast<std::size_t>(n));
}

} // namespace fake
