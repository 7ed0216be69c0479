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

inline std::string heard(int fd, int flags = 0)
{
    char bytes[256];
    ssize_t n = ::recv(fd, bytes, sizeof bytes, flags);
    return n < 0 ? "!" + std::to_string(errno) : std::string(bytes, static_cast<std::size_t>(n));
}

} // namespace fake
