// What IP itself puts into packets that leave, and which of them do not: sources that stay on the host,
// identifications.
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/neighbor.hpp"
#include "tests/protocols/frames6.hpp"
#include "tests/protocols/host.hpp"

using namespace test;
using base::Error;
using protocols::StackCounters;

namespace {

// A host with neighbours that are known on every CPU: 10.0.0.2 and fd00::2.
struct Sending {
    explicit Sending(unsigned cpus = 1) : h(world.add(slot, {.cpus = cpus, .address6 = "fd00::1"}))
    {
        world.advance(base::seconds(3)); // the reports that join its groups
        for (base::CpuId cpu = 0; cpu < cpus; ++cpu) {
            h.on(cpu, [&](protocols::Domain& d) {
                for (const char* address : {"10.0.0.2", "fd00::2"}) {
                    protocols::NeighborNews n;
                    n.interface = 1;
                    n.address = ip6(address);
                    n.mac = mac(2);
                    n.create = true;
                    protocols::neighbor_take(d, n);
                }
            });
        }
        h.link->sent.clear();
    }
    // Eight octets that may be cut.
    static Error send(protocols::Domain& d, const char* source, const char* destination)
    {
        protocols::IpOut out;
        out.source = ip6(source);
        out.destination = ip6(destination);
        out.protocol = wire::protocol_udp;
        out.dont_fragment = false;
        protocols::Route route;
        REQUIRE(protocols::route_lookup(d, out.destination, route));
        netmsg::Packet* p = d.stack.pool().allocate();
        REQUIRE(p != nullptr);
        std::memset(p->put(8), 0, 8);
        p->csum = netmsg::Csum::valid;
        return protocols::ip_output(d, route, out, *p);
    }
    World world;
    std::unique_ptr<Host> slot;
    Host& h;
};

} // namespace

TEST_CASE("RFC 1122 3.2.1.3, RFC 4291 2.5.3: what has a loopback address as its source does not leave by a link")
{
    Sending t;
    t.h.on(0, [&](protocols::Domain& d) {
        CHECK(t.send(d, "127.0.0.1", "10.0.0.2") == Error::invalid);
        CHECK(t.send(d, "127.1.2.3", "10.0.0.2") == Error::invalid);
        CHECK(t.send(d, "::1", "fd00::2") == Error::invalid);
        CHECK(t.h.link->sent.empty());
        CHECK(t.send(d, "10.0.0.1", "10.0.0.2") == Error::none);
        CHECK(t.send(d, "fd00::1", "fd00::2") == Error::none);
        CHECK(t.send(d, "127.0.0.1", "10.0.0.1") == Error::none); // loops
    });
    t.world.settle();
    CHECK(t.h.link->sent.size() == 2);
    CHECK(t.h.counted(&StackCounters::ip_out_martian) == 3);
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("RFC 6864 4.3: CPUs take different identifications, as many as there are, before one comes again")
{
    Sending t(3);
    for (base::CpuId cpu = 0; cpu < 3; ++cpu) {
        t.h.on(cpu, [&](protocols::Domain& d) {
            for (unsigned i = 0; i < 65536 / 3; ++i) {
                REQUIRE(t.send(d, "10.0.0.1", "10.0.0.2") == Error::none);
            }
        });
    }
    t.world.settle();
    std::vector<unsigned> seen(65536);
    for (const Bytes& f : t.h.link->sent) {
        ++seen[base::load_be16(f.data() + 18)];
    }
    CHECK(t.h.link->sent.size() == 65535);
    CHECK(*std::max_element(seen.begin(), seen.end()) == 1);
}
