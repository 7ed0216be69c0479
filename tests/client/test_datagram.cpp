// Datagram sockets: boundaries, wrap-around, truncation, addresses, control messages, errors.
#include <netinet/udp.h>
#include <sys/epoll.h>

#include <cstring>
#include <thread>

#include "tests/client/fixture.hpp"

using namespace client;
using fake::failed;

namespace {

ssize_t send_to(fake::World& w, Sock k, const std::string& text, std::uint16_t port, int flags = 0)
{
    fake::Address to = fake::at_port(port);
    return sock_send(w.session(), k, text.data(), text.size(), flags, to.get(), to.size);
}

} // namespace

TEST_CASE("an unbound socket binds itself at the first send; the reply finds it")
{
    fake::World w;
    Sock server = w.bound(SOCK_DGRAM, 53);
    Sock client = w.open(SOCK_DGRAM);
    CHECK(w.send(client, "x") == -EDESTADDRREQ);
    REQUIRE(send_to(w, client, "question", 53) == 8);
    char text[100];
    fake::Address from;
    socklen_t len = sizeof from.storage;
    REQUIRE(sock_recv(w.session(), server, text, sizeof text, 0, from.get(), &len) == 8);
    CHECK(len == from.size);
    CHECK(from.storage.ss_family == test::family());
    REQUIRE(send_to(w, server, "answer", from.endpoint().port) == 6);
    CHECK(w.receive(client, 100) == "answer");
}

TEST_CASE("records keep their bounds through many wraps, empty ones and odd sizes too")
{
    fake::World w({.ring_shift = 12});
    Sock to = w.bound(SOCK_DGRAM, 54);
    Sock from = w.open(SOCK_DGRAM);
    REQUIRE(w.connect(from, 54) == 0);
    int wrong = 0;
    for (std::size_t i = 0; i < 2000; ++i) {
        auto bytes = fake::pattern(i * 37 % 1500, static_cast<std::uint32_t>(i));
        std::string sent(bytes.begin(), bytes.end());
        wrong += w.send(from, sent) == static_cast<ssize_t>(sent.size()) ? 0 : 1;
        wrong += w.receive(to, 2000) == sent ? 0 : 1;
    }
    CHECK(wrong == 0);
    for (std::uint32_t cpu = 0; cpu < w.netd.view().cpus(); ++cpu) {
        CHECK(w.netd.view().lanes(to.slot)[cpu].dropped.load() == 0);
    }
}

TEST_CASE("a short buffer cuts the datagram; MSG_TRUNC tells its size; MSG_PEEK leaves it")
{
    fake::World w;
    Sock to = w.bound(SOCK_DGRAM, 55);
    Sock from = w.open(SOCK_DGRAM);
    for (const char* text : {"0123456789", "second"}) {
        REQUIRE(send_to(w, from, text, 55) > 0);
    }
    CHECK(w.receive(to, 4, MSG_PEEK) == "0123");
    CHECK(sock_fionread(w.session(), to) == 10);
    char buffer[4];
    CHECK(sock_recv(w.session(), to, buffer, 4, MSG_PEEK | MSG_TRUNC, nullptr, nullptr) == 10);
    iovec piece{buffer, 4};
    msghdr m{};
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    CHECK(sock_recvmsg(w.session(), to, &m, 0) == 4);
    CHECK(m.msg_flags == MSG_TRUNC);
    CHECK(w.receive(to, 100) == "second");
    CHECK(sock_fionread(w.session(), to) == 0);
}

TEST_CASE("IP_PKTINFO, IP_RECVTTL and IP_RECVTOS come as control messages once asked for")
{
    if (test::over_v6()) {
        return; // IPv4's own
    }
    fake::World w;
    Sock to = w.bound(SOCK_DGRAM, 56);
    Sock from = w.open(SOCK_DGRAM);
    int on = 1;
    for (int name : {IP_PKTINFO, IP_RECVTTL, IP_RECVTOS}) {
        REQUIRE(sock_setsockopt(w.session(), to, IPPROTO_IP, name, &on, sizeof on) == 0);
    }
    fake::Address dest = fake::at_port(56);
    std::string text = "x";
    iovec piece{text.data(), 1};
    alignas(cmsghdr) unsigned char control[256] = {};
    msghdr m{};
    m.msg_name = dest.get();
    m.msg_namelen = dest.size;
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = CMSG_SPACE(sizeof(int)) * 2;
    cmsghdr* c = CMSG_FIRSTHDR(&m);
    int values[2] = {7, 0x10};
    for (int i = 0; i < 2; ++i) {
        c->cmsg_level = IPPROTO_IP;
        c->cmsg_type = i == 0 ? IP_TTL : IP_TOS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(c), &values[i], sizeof(int));
        c = CMSG_NXTHDR(&m, c);
    }
    REQUIRE(sock_sendmsg(w.session(), from, &m, 0) == 1);

    m.msg_controllen = sizeof control;
    REQUIRE(sock_recvmsg(w.session(), to, &m, 0) == 1);
    int seen = 0;
    for (c = CMSG_FIRSTHDR(&m); c != nullptr; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_type == IP_PKTINFO) {
            in_pktinfo info;
            std::memcpy(&info, CMSG_DATA(c), sizeof info);
            seen += ntohl(info.ipi_addr.s_addr) == 0x7f000001 && info.ipi_ifindex == 1 ? 1 : 0;
            CHECK(ntohl(info.ipi_spec_dst.s_addr) == 0x7f000002); // what netd says to answer from
        } else if (c->cmsg_type == IP_TTL) {
            int ttl;
            std::memcpy(&ttl, CMSG_DATA(c), sizeof ttl);
            seen += ttl == 7 ? 1 : 0;
        } else if (c->cmsg_type == IP_TOS) {
            seen += *CMSG_DATA(c) == 0x10 ? 1 : 0;
        }
    }
    CHECK(seen == 3);
    REQUIRE(send_to(w, from, "y", 56) == 1);
    m.msg_controllen = 8; // no room
    CHECK(sock_recvmsg(w.session(), to, &m, 0) == 1);
    CHECK((m.msg_flags & MSG_CTRUNC) != 0);
    CHECK(m.msg_controllen == 0);
    REQUIRE(send_to(w, from, "z", 56) == 1);
    m.msg_controllen = sizeof(cmsghdr) + 2; // as put_cmsg: a part
    CHECK(sock_recvmsg(w.session(), to, &m, 0) == 1);
    CHECK((m.msg_flags & MSG_CTRUNC) != 0);
    CHECK(m.msg_controllen == sizeof(cmsghdr) + 2);
    REQUIRE(CMSG_FIRSTHDR(&m) != nullptr);
    CHECK(CMSG_FIRSTHDR(&m)->cmsg_len == sizeof(cmsghdr) + 2);
}

TEST_CASE("a control message needs no room for padding behind it")
{
    fake::World w;
    Sock to = w.bound(SOCK_DGRAM, 56);
    Sock from = w.open(SOCK_DGRAM);
    int on = 1;
    int level = test::over_v6() ? int{IPPROTO_IPV6} : int{IPPROTO_IP};
    REQUIRE(
        sock_setsockopt(w.session(), to, level, test::over_v6() ? IPV6_RECVHOPLIMIT : IP_RECVTTL, &on, sizeof on) == 0);
    REQUIRE(send_to(w, from, "x", 56) == 1);
    alignas(cmsghdr) char control[64];
    char byte;
    iovec piece{&byte, 1};
    msghdr m{};
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = CMSG_LEN(sizeof(int));
    REQUIRE(sock_recvmsg(w.session(), to, &m, 0) == 1);
    CHECK((m.msg_flags & MSG_CTRUNC) == 0);
    CHECK(m.msg_controllen == CMSG_LEN(sizeof(int)));
    REQUIRE(CMSG_FIRSTHDR(&m) != nullptr);
    int ttl = 0;
    std::memcpy(&ttl, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof ttl);
    CHECK(ttl == 64);
}

TEST_CASE("sizes: too long is EMSGSIZE; a full ring is EAGAIN, or a wait")
{
    fake::World w({.ring_shift = 12});
    Sock to = w.bound(SOCK_DGRAM, 57);
    Sock from = w.open(SOCK_DGRAM);
    CHECK(send_to(w, from, std::string(65'508, 'x'), 57) == -EMSGSIZE);
    CHECK(send_to(w, from, std::string(4096, 'x'), 57) == -EMSGSIZE);
    std::thread blocked;
    ssize_t got = 0;
    {
        auto frozen = w.netd.freeze();
        CHECK(send_to(w, from, std::string(3000, 'a'), 57, MSG_DONTWAIT) == 3000);
        CHECK(send_to(w, from, std::string(3000, 'b'), 57, MSG_DONTWAIT) == -EAGAIN);
        CHECK(w.netd.slot(from.slot).app.want_space.load() == 1);
        blocked = std::thread([&] { got = send_to(w, from, std::string(3000, 'c'), 57); });
    }
    CHECK(w.receive(to, 3000) == std::string(3000, 'a'));
    blocked.join();
    CHECK(got == 3000);
}

TEST_CASE("an error of an earlier datagram is reported once, to whoever calls next")
{
    fake::World w;
    Sock k = w.open(SOCK_DGRAM);
    REQUIRE(w.connect(k, 4000) == 0); // nobody there
    REQUIRE(w.send(k, "x") == 1);
    CHECK(w.receive(k, 1) == failed(ECONNREFUSED));
    CHECK(w.receive(k, 1, MSG_DONTWAIT) == failed(EAGAIN));
    sockaddr none{};
    none.sa_family = AF_UNSPEC;
    CHECK(sock_connect(w.session(), k, &none, sizeof none) == 0);
    CHECK(w.send(k, "x") == -EDESTADDRREQ);
    CHECK(send_to(w, k, "x", 0) == -EINVAL);
}

TEST_CASE("recvmmsg: an error behind the first datagram is the next call's")
{
    fake::World w;
    Sock k = w.bound(SOCK_DGRAM, 63);
    Sock from = w.open(SOCK_DGRAM);
    REQUIRE(send_to(w, from, "one", 63) == 3);
    while (sock_fionread(w.session(), k) == 0) {
        std::this_thread::yield();
    }
    REQUIRE(w.connect(k, 4000) == 0); // nobody there
    char text[2][10];
    iovec pieces[2] = {{text[0], 10}, {text[1], 10}};
    mmsghdr messages[2] = {};
    for (int i = 0; i < 2; ++i) {
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    std::thread refused([&] {
        while (sock_fionread(w.session(), k) != 0) {
            std::this_thread::yield();
        }
        w.send(k, "x");
    });
    CHECK(sock_recvmmsg(w.session(), k, messages, 2, 0, nullptr) == 1);
    refused.join();
    CHECK(messages[0].msg_len == 3);
    CHECK(w.receive(k, 1, MSG_DONTWAIT) == failed(ECONNREFUSED));
    CHECK(sock_recvmmsg(w.session(), k, messages, 2, MSG_DONTWAIT, nullptr) == -EAGAIN);
}

TEST_CASE("a destination of AF_UNSPEC is an IPv4 socket's AF_INET, and for an IPv6 socket it names nobody")
{
    fake::World w;
    Sock to = w.bound(SOCK_DGRAM, 64);
    Sock from = w.open(SOCK_DGRAM);
    fake::Address name = fake::at_port(64);
    name.get()->sa_family = AF_UNSPEC;
    auto send = [&] { return sock_send(w.session(), from, "x", 1, 0, name.get(), name.size); };
    CHECK(send() == (test::over_v6() ? -EDESTADDRREQ : 1));
    REQUIRE(w.connect(from, 64) == 0);
    CHECK(send() == 1);
    CHECK(w.receive(to, 10) == "x");
}

TEST_CASE("lanes are read in turn, each in its order; what was peeked at comes next, whatever arrives meanwhile")
{
    fake::World w({.cpus = 3});
    Sock to = w.bound(SOCK_DGRAM, 58);
    auto from = [&](std::uint16_t port) { return w.bound(SOCK_DGRAM, port); }; // port % 3 is the lane
    Sock zero = from(600);
    Sock one = from(601);
    Sock two = from(602);
    for (const char* text : {"2a", "2b", "2c", "2d"}) {
        REQUIRE(send_to(w, two, text, 58) == 2);
    }
    CHECK(w.receive(to, 10, MSG_PEEK) == "2a");
    REQUIRE(send_to(w, zero, "0a", 58) == 2);
    REQUIRE(send_to(w, one, "1a", 58) == 2);
    while (sock_outq(w.session(), zero) != 0 || sock_outq(w.session(), one) != 0) {
        std::this_thread::yield();
    }
    CHECK(sock_fionread(w.session(), to) == 2);
    CHECK((sock_readiness(w.session(), to, EPOLLIN) & EPOLLIN) != 0);
    std::string order;
    for (int i = 0; i < 6; ++i) {
        order += w.receive(to, 10) + " ";
    }
    CHECK(order == "2a 0a 1a 2b 2c 2d ");
    CHECK(w.receive(to, 10, MSG_DONTWAIT) == failed(EAGAIN));
    CHECK((sock_readiness(w.session(), to, EPOLLIN) & EPOLLIN) == 0);
    CHECK(w.netd.slot(to.slot).owner.lanes.load() == 7);
}

TEST_CASE("UDP_CORK and MSG_MORE put what several calls send into one datagram")
{
    fake::World w;
    Sock to = w.bound(SOCK_DGRAM, 61);
    Sock from = w.open(SOCK_DGRAM);
    auto cork = [&](int on) { return sock_setsockopt(w.session(), from, IPPROTO_UDP, UDP_CORK, &on, sizeof on); };
    int state = -1;
    socklen_t len = sizeof state;
    REQUIRE(cork(1) == 0);
    REQUIRE(sock_getsockopt(w.session(), from, IPPROTO_UDP, UDP_CORK, &state, &len) == 0);
    CHECK(state == 1);
    CHECK(send_to(w, from, "one ", 61) == 4);
    CHECK(send_to(w, from, "two", 99) == 3); // as Linux: the first says where it goes
    CHECK(w.send(from, " three") == 6);      // ... also for one that names nobody
    CHECK(w.receive(to, 100, MSG_DONTWAIT) == failed(EAGAIN));
    REQUIRE(cork(0) == 0);
    CHECK(w.receive(to, 100) == "one two three");
    CHECK(send_to(w, from, "a", 61, MSG_MORE) == 1);
    CHECK(w.receive(to, 100, MSG_DONTWAIT) == failed(EAGAIN));
    CHECK(send_to(w, from, "b", 61) == 1);
    CHECK(w.receive(to, 100) == "ab");
    CHECK(send_to(w, from, "", 61, MSG_MORE) == 0);
    CHECK(w.send(from, "") == 0);
    CHECK(w.receive(to, 100).empty());
    CHECK(send_to(w, from, "alone", 61) == 5);
    CHECK(w.receive(to, 100) == "alone");
    CHECK(cork(0) == 0);
    CHECK(w.receive(to, 100, MSG_DONTWAIT) == failed(EAGAIN));
}

TEST_CASE("a send that waits while another thread builds a datagram goes where it was to go, as it was")
{
    fake::World w({.ring_shift = 12});
    Sock here = w.bound(SOCK_DGRAM, 63);
    Sock there = w.bound(SOCK_DGRAM, 64);
    Sock from = w.open(SOCK_DGRAM);
    timeval patience{10, 0};
    REQUIRE(sock_setsockopt(w.session(), here, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    REQUIRE(send_to(w, from, "first", 64) == 5);
    REQUIRE(w.receive(there, 100) == "first");
    ssize_t waited = 0;
    fake::FrozenCall call(w, [&] {
        for (char text : {'a', 'b'}) {
            send_to(w, from, std::string(1500, text), 64, MSG_DONTWAIT);
        }
        waited = send_to(w, from, std::string(2000, 'c'), 63);
    });
    fake::until_asleep(w, from);
    CHECK(send_to(w, from, std::string(900, 'd'), 64, MSG_MORE | MSG_DONTWAIT) == 900);
    auto& acked = w.netd.slot(from.slot).owner.snd_acked; // room for 'c', not for 'd' and 'c' in one
    acked.store(acked.load() + sockbuf::datagram_stride(1500));
    w.netd.wake(from.slot);
    fake::until_asleep(w, from);
    CHECK(send_to(w, from, "e", 64, MSG_DONTWAIT) == 1);
    call.finish();
    CHECK(waited == 2000);
    CHECK(w.receive(there, 3000) == std::string(1500, 'a'));
    CHECK(w.receive(there, 3000) == std::string(1500, 'b'));
    CHECK(w.receive(there, 3000) == std::string(900, 'd') + "e");
    CHECK(w.receive(here, 3000) == std::string(2000, 'c'));
}

TEST_CASE("what grows too long for one datagram is lost, and the socket goes on")
{
    fake::World w({.ring_shift = 18});
    Sock to = w.bound(SOCK_DGRAM, 62);
    Sock from = w.open(SOCK_DGRAM);
    std::string half(40000, 'h');
    CHECK(send_to(w, from, half, 62, MSG_MORE) == 40000);
    CHECK(send_to(w, from, half, 62) == -EMSGSIZE);
    CHECK(send_to(w, from, "next", 62) == 4);
    CHECK(w.receive(to, 100) == "next");
}
