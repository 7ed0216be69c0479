// Datagrams between sockets of one host, and answers to where a datagram came in: loopback, own addresses, groups and
// broadcasts. Both families.
#include "protocols/ipv6.hpp"
#include "tests/protocols/host.hpp"

using namespace test;
using base::Error;
using protocols::StackCounters;
using sockbuf::SlotKind;

TEST_CASE("every datagram to a closed port of this host is refused, and none of that uses up what strangers may have")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {});
    TestSocket s(world, h, SlotKind::datagram);
    REQUIRE(s.connect(at("10.0.0.1", 54)) == Error::none);
    for (int i = 0; i < 2000; ++i) {
        s.send(Bytes(1));
        REQUIRE(s.take_error() == ECONNREFUSED);
    }
    CHECK(h.counted(&StackCounters::icmp_out_limited) == 0);
    CHECK(h.packets_in_use() == 0);
}
