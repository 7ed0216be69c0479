// Datagrams that cannot leave (decision 0029): the first of a socket says so at once, as on Linux; later ones by the
// next call, and what follows an error at once again. IPv4 addresses in either family's run.
#include <netinet/in.h>
#include <sys/epoll.h>

#include <utility>

#include "protocols/stack_counters.hpp"
#include "tests/embed/pair.hpp"

using namespace test;

namespace {

const base::Endpoint nowhere = *embed::parse_endpoint("192.0.2.1:7"); // there is no default route
const base::Endpoint everyone = *embed::parse_endpoint("255.255.255.255:7");

struct Sender {
    explicit Sender(const char* bound_to = nullptr)
    {
        REQUIRE(embed::Socket::open(p.a, SOCK_DGRAM, s, AF_INET) == 0);
        REQUIRE((bound_to == nullptr || s.bind(*embed::parse_endpoint(bound_to)) == 0));
    }
    std::uint64_t sent()
    {
        std::uint64_t sum = 0;
        for (base::CpuId cpu = 0; cpu < p.a.protocols().cpus(); ++cpu) {
            sum += p.a.protocols().domain(cpu).counters.udp_out.load();
        }
        return sum;
    }

    embed::Simulation world{51};
    Pair p{2, &world, 51};
    embed::Socket s;
};

} // namespace

TEST_CASE("a socket that was closed, moved from or never opened is EBADF, as a descriptor would be")
{
    embed::Simulation world{52};
    Pair p{1, &world, 52};
    embed::Socket closed = open(p.a, SOCK_STREAM);
    embed::Socket moved = std::move(closed);
    CHECK(moved.is_open());
    REQUIRE(moved.close() == 0);
    CHECK(moved.close() == 0);
    embed::Socket never;
    for (embed::Socket* s : {&closed, &moved, &never}) {
        embed::Socket other;
        base::Endpoint end;
        char buffer[8];
        int value = 0;
        CHECK(!s->is_open());
        CHECK(s->bind(b_echo) == -EBADF);
        CHECK(s->listen(1) == -EBADF);
        CHECK(s->accept(other) == -EBADF);
        CHECK(s->connect(b_echo) == -EBADF);
        CHECK(s->shutdown(SHUT_WR) == -EBADF);
        CHECK(s->send("x") == -EBADF);
        CHECK(s->recv(buffer) == -EBADF);
        CHECK(s->send_to("x", b_echo) == -EBADF);
        CHECK(s->recv_from(buffer, end) == -EBADF);
        CHECK(s->set_option(SOL_SOCKET, SO_KEEPALIVE, 1) == -EBADF);
        CHECK(s->option(SOL_SOCKET, SO_KEEPALIVE, value) == -EBADF);
        CHECK(s->local(end) == -EBADF);
        CHECK(s->peer(end) == -EBADF);
        CHECK(s->readiness(EPOLLIN | EPOLLOUT) == 0);
        s->set_nonblocking(true);
    }
}

TEST_CASE("what no stack can be made of is refused with a reason")
{
    embed::Simulation world{53};
    std::string error;
    auto wire = [](std::uint32_t mtu) {
        drivers::SimLinkOptions o;
        o.mtu = mtu;
        return std::move(drivers::make_sim_link(o).a);
    };
    embed::Stack narrow(stack_config(1, &world, 1, "narrow"));
    CHECK(!narrow.add_interface(wire(0), {"10.0.0.1/24"}, error));
    CHECK(error == "interface sim0: an MTU of 0, and IPv4 needs 88");
    CHECK(!narrow.add_interface(wire(87), {"10.0.0.1/24"}, error));
    CHECK(!narrow.add_interface(wire(1279), {"10.0.0.1/24", "fd00::1/64"}, error));
    CHECK(error == "interface sim0: an MTU of 1279, and IPv6 needs 1280");
    CHECK(!narrow.add_interface(wire(1279), {}, error, true));
    CHECK(narrow.add_interface(wire(88), {"10.0.0.1/24"}, error));
    CHECK(narrow.add_interface(wire(1280), {"fd00::1/64"}, error));

    gateway::GatewayOptions odd = small_gateway();
    odd.segment.sockets = 100;
    embed::Stack uneven(stack_config(1, &world, 2, "uneven", odd));
    CHECK(!uneven.start(error));
    CHECK(error == "100 sockets: must be a multiple of 64, and 61440 at most");
    if (!lwkt::uses_locks(discipline())) {
        embed::Stack wide(stack_config(65, &world, 3, "wide"));
        CHECK(!wide.start(error));
        CHECK(error == "65 CPUs, and a stack has 64 at most");
    }
}

TEST_CASE("the first datagram of a socket that cannot leave is refused at once, each time that it is tried")
{
    const char* at = GENERATE(static_cast<const char*>(nullptr), "0.0.0.0:5000");
    Sender t(at);
    for (int i = 0; i < 3; ++i) {
        CHECK(t.s.send_to("x", nowhere) == -ENETUNREACH);
        CHECK(t.s.send_to("x", everyone) == (over_v6() ? -ENETUNREACH : -EACCES)); // its link has no IPv4 address there
    }
    base::Endpoint local;
    REQUIRE(t.s.local(local) == 0);
    CHECK(local.port != 0); // bound all the same, as on Linux
    CHECK(t.sent() == 0);
    CHECK(t.s.send_to("x", *embed::parse_endpoint("127.0.0.1:7")) == 1);
}

TEST_CASE("later datagrams are refused by the next call, and what follows an error asks again")
{
    Sender t;
    const base::Endpoint here = *embed::parse_endpoint("127.0.0.1:7");
    embed::Socket r;
    REQUIRE(embed::Socket::open(t.p.a, SOCK_DGRAM, r, AF_INET) == 0);
    REQUIRE(r.bind(here) == 0);
    CHECK(t.s.send_to("x", here) == 1);
    t.world.run_for(base::millis(10));
    CHECK(t.s.send_to("x", nowhere) == 1); // it does not wait: a message for each datagram is no option
    t.world.run_for(base::millis(10));
    CHECK(t.s.send_to("x", here) == -ENETUNREACH);
    CHECK(t.s.send_to("x", nowhere) == -ENETUNREACH);
    CHECK(t.s.send_to("x", here) == 1);
}

TEST_CASE("a socket that was told of a way does not wait for another")
{
    if (lwkt::uses_locks(discipline())) {
        return; // a call sends for itself
    }
    Sender t;
    const base::Endpoint here = *embed::parse_endpoint("127.0.0.1:7");
    bool connects = GENERATE(false, true);
    if (connects) {
        REQUIRE(t.s.connect(here) == 0);
    } else {
        REQUIRE(t.s.send_to("x", here) == 1);
    }
    t.world.run_for(base::millis(10));
    std::uint64_t before = t.sent();
    CHECK((connects ? t.s.send("x") : t.s.send_to("x", here)) == 1);
    CHECK(t.sent() == before); // a mark: the world stands still
    t.world.run_for(base::millis(10));
    CHECK(t.sent() == before + 1);
}

TEST_CASE("what is too long for its path and may not be cut is refused at once, and the error queue says the MTU")
{
    if (over_v6()) {
        return; // the wire has IPv6 addresses only
    }
    Sender t;
    REQUIRE(t.s.set_option(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO) == 0);
    REQUIRE(t.s.set_option(IPPROTO_IP, IP_RECVERR, 1) == 0);
    CHECK(t.s.send_to(std::string(1473, 'x'), b_echo) == -EMSGSIZE);
    char buffer[64];
    CHECK(t.s.recv(buffer, MSG_ERRQUEUE) >= 0);
    CHECK(t.s.send_to(std::string(1472, 'x'), b_echo) == 1472);
}
