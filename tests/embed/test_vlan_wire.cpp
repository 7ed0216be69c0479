// VLANs of an in-memory wire: a full packet passes with its tag, whether the wire takes super-segments, cuts them, or
// has them cut above; and its impairments find the header behind the tag.
#include <sys/socket.h>

#include <memory>
#include <vector>

#include "drivers/vlan.hpp"
#include "protocols/stack_counters.hpp"
#include "tests/embed/pair.hpp"

using namespace test;

namespace {

const base::Endpoint over_vlan = test::endpoint("10.7.0.2:7");

// Two stacks whose wire carries VLAN 7, on which alone they have addresses; or, to compare, which have them without it.
struct Wired {
    explicit Wired(const drivers::SimLinkOptions& wire, std::size_t cpus, bool tagged = true)
        : a(stack_config(cpus, &world, 61, "a")), b(stack_config(cpus, &world, 62, "b"))
    {
        drivers::SimLinkOptions options = wire;
        options.a.steering = &a.protocols().steering();
        options.b.steering = &b.protocols().steering();
        link = drivers::make_sim_link(options);
        add(a, std::move(link.a), test::in_family("10.7.0.1/24"), tagged);
        add(b, std::move(link.b), test::in_family("10.7.0.2/24"), tagged);
    }
    static void add(embed::Stack& stack, std::unique_ptr<netmsg::Netif> wire, const std::string& address, bool tagged)
    {
        std::string error;
        netmsg::Netif& parent = *wire;
        std::vector<std::string> none;
        REQUIRE(stack.add_interface(std::move(wire), tagged ? none : std::vector{address}, error));
        if (tagged) {
            auto vlan = std::make_unique<drivers::Vlan>(parent, drivers::VlanOptions{"sim.7", 7, 0});
            REQUIRE(stack.add_interface(std::move(vlan), {address}, error));
        }
        REQUIRE(stack.start(error));
    }

    embed::Simulation world{6};
    drivers::SimLink link;
    embed::Stack a;
    embed::Stack b;
};

// What came in on another CPU than its flow's, of some connections.
std::uint64_t forwarded(bool tagged)
{
    Wired t({}, 4, tagged);
    embed::Socket listener = listen(t.b, over_vlan);
    for (int i = 0; i < 20; ++i) {
        embed::Socket c = open(t.a, SOCK_STREAM);
        embed::Socket s;
        REQUIRE(c.connect(over_vlan) == 0);
        REQUIRE(listener.accept(s) == 0);
        REQUIRE(c.send("text") == 4);
        CHECK(read_exactly(s, 4) == "text");
    }
    std::uint64_t sum = 0;
    for (embed::Stack* stack : {&t.a, &t.b}) {
        for (base::CpuId cpu = 0; cpu < stack->protocols().cpus(); ++cpu) {
            sum += stack->protocols().domain(cpu).counters.steer_forwarded.load();
        }
    }
    return sum;
}

} // namespace

TEST_CASE("VLAN: streams and full datagrams pass an in-memory wire")
{
    drivers::SimLinkOptions wire;
    auto kind = GENERATE(0, 1, 2, 3);
    wire.tso = kind < 2;
    wire.split = kind == 1;
    wire.gso = kind == 3;
    Wired t(wire, 1);
    embed::Socket listener = listen(t.b, over_vlan);
    embed::Socket c = open(t.a, SOCK_STREAM);
    embed::Socket s;
    REQUIRE(c.connect(over_vlan) == 0);
    REQUIRE(listener.accept(s) == 0);
    std::string text(100'000, 'x');
    REQUIRE(c.send(text) == 100'000);
    CHECK((read_exactly(s, text.size()) == text));

    embed::Socket from = open(t.a, SOCK_DGRAM);
    embed::Socket to = open(t.b, SOCK_DGRAM);
    REQUIRE(to.bind(over_vlan) == 0);
    std::string full(over_v6() ? 1452 : 1472, 'y');
    REQUIRE(from.send_to(full, over_vlan) == static_cast<ssize_t>(full.size()));
    std::string got(2000, 0);
    REQUIRE(to.recv(got) == static_cast<ssize_t>(full.size()));
}

TEST_CASE("VLAN: frames of an in-memory wire arrive on the CPU of their flow, and are marked like others")
{
    CHECK(forwarded(true) == forwarded(false));
    drivers::SimLinkOptions wire;
    wire.a.send.mark = 1;
    Wired t(wire, 1);
    embed::Socket from = open(t.a, SOCK_DGRAM);
    embed::Socket to = open(t.b, SOCK_DGRAM);
    REQUIRE(to.bind(over_vlan) == 0);
    constexpr int ect0 = 2;
    REQUIRE(from.set_option(over_v6() ? IPPROTO_IPV6 : IPPROTO_IP, over_v6() ? IPV6_TCLASS : IP_TOS, ect0) == 0);
    REQUIRE(from.send_to("x", over_vlan) == 1);
    char byte;
    REQUIRE(to.recv({&byte, 1}) == 1);
    CHECK(t.link.counters(0).marked == 1);
}
