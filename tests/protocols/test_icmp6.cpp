// ICMPv6 beyond one exchange: groups that nobody here is in, path MTUs of what no transport sent, in virtual time.
#include "protocols/ipv6.hpp"
#include "tests/protocols/nd_link.hpp"

using namespace test;
using base::Error;
using protocols::StackCounters;
using sockbuf::SlotKind;

namespace {

Ip6Fields to_group(const char* group)
{
    Ip6Fields f;
    f.destination = ip6(group);
    f.to = wire::multicast_mac_v6(f.destination);
    return f;
}

std::size_t answers(Link& t, const Bytes& frame)
{
    std::size_t before = t.h.link->sent.size();
    t.in(frame);
    return t.h.link->sent.size() - before;
}

// An option that asks for a parameter problem from everybody (RFC 8200 4.2: 10).
Bytes with_strange_option(Ip6Fields f)
{
    f.kinds = {60}; // destination options
    f.extensions = {Bytes{0, 0, 0x80, 4, 0, 0, 0, 0}};
    return ip6_frame(f, udp6_datagram(f, 1, 2, Bytes(8)));
}

} // namespace

TEST_CASE("RFC 4291 2.8: a group that nobody here has joined is answered by nobody, not even about errors")
{
    Link t;
    t.in(solicit("fd00::1"));
    for (const char* group : {"ff02::2", "ff05::1:3", "ff0e::abcd", "ff01::2"}) {
        CHECK(answers(t, icmp6_frame(to_group(group), wire::icmp6_echo, 0, 1, Bytes(8))) == 0);
        CHECK(answers(t, with_strange_option(to_group(group))) == 0);
    }
    CHECK(answers(t, icmp6_frame(to_group("ff02::1"), wire::icmp6_echo, 0, 1, Bytes(8))) == 1);
    CHECK(answers(t, with_strange_option(to_group("ff02::1"))) == 1);
    TestSocket member(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    ipv6_mreq m{};
    std::memcpy(&m.ipv6mr_multiaddr, ip6("ff0e::abcd").bytes(), 16);
    m.ipv6mr_interface = 1;
    REQUIRE(member.set(IPPROTO_IPV6, IPV6_JOIN_GROUP, &m, sizeof m) == Error::none);
    t.world.advance(base::seconds(5)); // the reports
    CHECK(answers(t, icmp6_frame(to_group("ff0e::abcd"), wire::icmp6_echo, 0, 1, Bytes(8))) == 1);
}
