// syscall(2) by number on descriptors of netd and of the library: it says what the call with a name says.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <cstring>

#include "tests/preload/calls_fixture.hpp"

using namespace preload;

namespace {

std::string text_of(const char* data, long size)
{
    return size < 0 ? fake::failed(errno) : std::string(data, static_cast<std::size_t>(size));
}

} // namespace

TEST_CASE("messages sent and received by number reach netd")
{
    fake::Connected c;
    char out[] = "by number";
    iovec piece{out, 9};
    mmsghdr message{};
    message.msg_hdr.msg_iov = &piece;
    message.msg_hdr.msg_iovlen = 1;
    REQUIRE(::syscall(SYS_sendmmsg, c.a, &message, 1, 0) == 1);
    CHECK(message.msg_len == 9);

    char in[32];
    iovec room{in, sizeof in};
    message.msg_hdr.msg_iov = &room;
    REQUIRE(::syscall(SYS_recvmmsg, c.b, &message, 1, 0, nullptr) == 1);
    CHECK(text_of(in, message.msg_len) == "by number");
    CHECK(fake::result(::syscall(SYS_recvmsg, c.b, &message.msg_hdr, MSG_DONTWAIT)) == -EAGAIN);

    iovec back{const_cast<char*>("ba"), 2};
    REQUIRE(::syscall(SYS_pwritev2, c.b, &back, 1, -1L, -1L, 0) == 2);
    CHECK(text_of(in, ::syscall(SYS_preadv2, c.a, &room, 1, -1L, -1L, 0)) == "ba");
    back.iov_base = const_cast<char*>("ck");
    message.msg_hdr.msg_iov = &back;
    REQUIRE(::syscall(SYS_sendmsg, c.b, &message.msg_hdr, 0) == 2);
    CHECK(text_of(in, ::syscall(SYS_recvfrom, c.a, in, sizeof in, 0, nullptr, nullptr)) == "ck");
    REQUIRE(::syscall(SYS_write, c.b, "back", 4) == 4);
    CHECK(text_of(in, ::syscall(SYS_recvfrom, c.a, in, sizeof in, 0, nullptr, nullptr)) == "back");
    CHECK(text_of(in, ::syscall(SYS_recvfrom, c.a, in, sizeof in, MSG_DONTWAIT, nullptr, nullptr)) ==
          fake::failed(EAGAIN));
}

TEST_CASE("sockets are asked, watched and closed by number")
{
    fake::Connected c;
    int by_name = -1;
    int by_number = -2;
    socklen_t size = sizeof by_name;
    REQUIRE(::getsockopt(c.a, SOL_SOCKET, SO_TYPE, &by_name, &size) == 0);
    REQUIRE(::syscall(SYS_getsockopt, c.a, SOL_SOCKET, SO_TYPE, &by_number, &size) == 0);
    CHECK(by_number == by_name);
    REQUIRE(::syscall(SYS_fcntl, c.b, F_SETFL, O_NONBLOCK) == 0);
    CHECK((::fcntl(c.b, F_GETFL) & O_NONBLOCK) != 0);

    auto set = static_cast<int>(::syscall(SYS_epoll_create1, 0));
    REQUIRE(set >= 0);
    epoll_event e{EPOLLIN, {.u64 = 7}};
    REQUIRE(::syscall(SYS_epoll_ctl, set, EPOLL_CTL_ADD, c.b, &e) == 0);
    std::uint64_t mask = 0;
    CHECK(::syscall(SYS_epoll_pwait, set, &e, 1, 0, &mask, sizeof mask) == 0);
    fake::say(c.pair.a, "x");
    REQUIRE(::syscall(SYS_epoll_pwait, set, &e, 1, -1, &mask, sizeof mask) == 1);
    CHECK(e.data.u64 == 7);
    CHECK(fake::result(::syscall(SYS_epoll_pwait, set, &e, 1, 0, &mask, std::size_t{128})) == -EINVAL);
    pollfd p{c.b, POLLIN, 0};
    timespec none{};
    CHECK(::syscall(SYS_ppoll, &p, 1, &none, nullptr, 0) == 1);
    CHECK(p.revents == POLLIN);
    fd_set reads;
    FD_ZERO(&reads);
    FD_SET(c.b, &reads);
    CHECK(::syscall(SYS_pselect6, c.b + 1, &reads, nullptr, nullptr, &none, nullptr) == 1);
    CHECK(FD_ISSET(c.b, &reads));

    auto copy = static_cast<int>(::syscall(SYS_dup, c.b));
    REQUIRE(copy >= 0);
    CHECK(fake::heard(copy) == "x");
    REQUIRE(::syscall(SYS_close, copy) == 0);
    CHECK(fake::result(::syscall(SYS_close, copy)) == -EBADF);
    REQUIRE_FALSE(own_fds().empty()); // of the set
    for (int own : own_fds()) {
        CHECK(fake::result(::syscall(SYS_close, own)) == -EBADF);
    }
    CHECK(::syscall(SYS_close, set) == 0);
}
