// Socket options: those the client answers itself and those it asks netd about.
#include <netinet/tcp.h>
#include <sys/time.h>

#include <cstring>

#include "tests/client/fixture.hpp"

using namespace client;

namespace {

int get_int(fake::World& w, Sock k, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    int rc = sock_getsockopt(w.session(), k, level, name, &value, &len);
    return rc != 0 ? rc : value;
}
int set_int(fake::World& w, Sock k, int level, int name, int value)
{
    return sock_setsockopt(w.session(), k, level, name, &value, sizeof value);
}

} // namespace

TEST_CASE("what a socket is")
{
    fake::World w;
    Sock stream = w.open(SOCK_STREAM);
    Sock datagram = w.open(SOCK_DGRAM);
    Sock listener = w.listener(90);
    CHECK(get_int(w, stream, SOL_SOCKET, SO_TYPE) == SOCK_STREAM);
    CHECK(get_int(w, datagram, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM);
    CHECK(get_int(w, stream, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP);
    CHECK(get_int(w, datagram, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_UDP);
    CHECK(get_int(w, stream, SOL_SOCKET, SO_DOMAIN) == test::family());
    CHECK(get_int(w, stream, SOL_SOCKET, SO_ACCEPTCONN) == 0);
    CHECK(get_int(w, listener, SOL_SOCKET, SO_ACCEPTCONN) == 1);
    CHECK(set_int(w, stream, SOL_SOCKET, SO_TYPE, 1) == -ENOPROTOOPT);
}

TEST_CASE("timeouts and low-water mark stay in the client")
{
    fake::World w;
    fake::Pair p = w.pair();
    timeval t{2, 500'000};
    REQUIRE(sock_setsockopt(w.session(), p.a, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
    timeval back{};
    socklen_t len = sizeof back;
    REQUIRE(sock_getsockopt(w.session(), p.a, SOL_SOCKET, SO_RCVTIMEO, &back, &len) == 0);
    CHECK(back.tv_sec == 2);
    CHECK(back.tv_usec == 500'000);
    t.tv_usec = 1'000'000;
    CHECK(sock_setsockopt(w.session(), p.a, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == -EDOM);
    CHECK(sock_setsockopt(w.session(), p.a, SOL_SOCKET, SO_RCVTIMEO, &t, 4) == -EINVAL);

    CHECK(get_int(w, p.b, SOL_SOCKET, SO_RCVLOWAT) == 1);
    REQUIRE(set_int(w, p.b, SOL_SOCKET, SO_RCVLOWAT, 4) == 0);
    REQUIRE(w.send(p.a, "ab") == 2);
    REQUIRE(w.send(p.a, "cd") == 2);
    CHECK(w.receive(p.b, 10) == "abcd");
}

TEST_CASE("SO_ERROR is taken by reading it")
{
    fake::World w;
    fake::Pair p = w.pair();
    w.netd.slot(p.a.slot).info.so_error.store(ETIMEDOUT);
    CHECK(get_int(w, p.a, SOL_SOCKET, SO_ERROR) == ETIMEDOUT);
    CHECK(get_int(w, p.a, SOL_SOCKET, SO_ERROR) == 0);
}

TEST_CASE("other options are netd's: kept there, cut to the caller's size, refused there")
{
    fake::World w;
    Sock k = w.open(SOCK_STREAM);
    REQUIRE(set_int(w, k, IPPROTO_TCP, TCP_NODELAY, 1) == 0); // before bind or connect: creates the socket
    CHECK(w.netd.sockets_in_use() == 1);
    CHECK(get_int(w, k, IPPROTO_TCP, TCP_NODELAY) == 1);
    CHECK(set_int(w, k, SOL_SOCKET, fake::unknown_option, 1) == -ENOPROTOOPT);
    CHECK(get_int(w, k, SOL_SOCKET, fake::unknown_option) == -ENOPROTOOPT);
    char name[] = "reno";
    REQUIRE(sock_setsockopt(w.session(), k, IPPROTO_TCP, TCP_CONGESTION, name, 4) == 0);
    char back[16] = {};
    socklen_t len = sizeof back;
    REQUIRE(sock_getsockopt(w.session(), k, IPPROTO_TCP, TCP_CONGESTION, back, &len) == 0);
    CHECK(len == 4);
    CHECK(std::string(back, 4) == "reno");
    len = 2;
    std::memset(back, 0, sizeof back);
    REQUIRE(sock_getsockopt(w.session(), k, IPPROTO_TCP, TCP_CONGESTION, back, &len) == 0);
    CHECK(len == 2);
    CHECK(std::string(back) == "re");
    std::vector<char> huge(200);
    huge[0] = 1;
    CHECK(sock_setsockopt(w.session(), k, SOL_SOCKET, SO_KEEPALIVE, huge.data(), 200) == 0); // its first bytes count
    CHECK(get_int(w, k, SOL_SOCKET, SO_KEEPALIVE) == 1);
}

TEST_CASE("ip(7): an option of IP that the client keeps may be one byte, of IPv6 not")
{
    fake::World w;
    Sock k = w.open(SOCK_DGRAM);
    for (int name : {IP_PKTINFO, IP_RECVTTL, IP_RECVTOS}) {
        for (bool on : {true, false}) {
            CHECK(sock_setsockopt(w.session(), k, IPPROTO_IP, name, on ? "\1" : "", 1) == 0);
            CHECK(get_int(w, k, IPPROTO_IP, name) == (on ? 1 : 0));
        }
        CHECK(sock_setsockopt(w.session(), k, IPPROTO_IP, name, "", 0) == -EINVAL);
    }
    if (test::over_v6()) {
        CHECK(sock_setsockopt(w.session(), k, IPPROTO_IPV6, IPV6_RECVPKTINFO, "\1", 1) == -EINVAL);
    }
}

TEST_CASE("status flags: only what fcntl may change")
{
    fake::World w;
    Sock k = w.open(SOCK_DGRAM);
    CHECK(sock_status_flags(w.session(), k) == O_RDWR);
    sock_set_status_flags(w.session(), k, O_NONBLOCK | O_CREAT | O_SYNC);
    CHECK(sock_status_flags(w.session(), k) == (O_RDWR | O_NONBLOCK));
    sock_set_status_flags(w.session(), k, 0);
    CHECK(sock_status_flags(w.session(), k) == O_RDWR);
    CHECK(get_int(w, k, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM); // the private bits survived
}
