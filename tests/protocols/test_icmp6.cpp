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

Bytes echo_request(std::size_t bytes)
{
    return icmp6_frame({}, wire::icmp6_echo, 0, 1, Bytes(bytes, 5));
}

// What a router says about a packet of ours (an Ethernet frame) that it could not send on.
Bytes too_big(const Bytes& ours, std::uint32_t mtu)
{
    Ip6Fields f;
    f.source = ip6("2001:db8::1"); // somewhere on the way
    return icmp6_frame(f, wire::icmp6_too_big, 0, mtu, slice(ours, 14, std::min<std::size_t>(ours.size() - 14, 1232)));
}

} // namespace

TEST_CASE("RFC 4291 2.8: a group that nobody here has joined is answered by nobody, not even about errors")
{
    Link t;
    t.in(solicit("fd00::1"));
    for (const char* group : {"ff02::2", "ff05::1:3", "ff0e::abcd", "ff01::2", "ff12::1", "ff32::1"}) {
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

TEST_CASE("RFC 8201 4: packet too big about an echo reply of ours lowers its path's MTU, on every CPU")
{
    Link t({.cpus = 3, .address6 = "fd00::1"});
    t.in(solicit("fd00::1"));
    t.h.link->sent.clear();
    t.in(echo_request(1400));
    REQUIRE(t.h.link->sent.size() == 1);
    const Bytes reply = t.h.link->sent[0];
    Bytes foreign = reply;
    foreign[14 + 8 + 15] = 77; // not from here
    Bytes request = reply;
    request[54] = wire::icmp6_echo; // which we never send
    Bytes longer = reply;
    base::store_be16(longer.data() + 14 + 4, 5000); // than the link takes
    for (const Bytes& lie : {foreign, request, longer, slice(reply, 0, 60)}) {
        t.in(too_big(lie, 1280), 1);
    }
    t.in(too_big(reply, 1448), 1); // it fits
    t.in(too_big(reply, 1279), 1);
    CHECK(t.h.counted(&StackCounters::pmtu_learned) == 0);
    t.in(too_big(reply, 1280), 1);
    for (base::CpuId cpu = 0; cpu < 3; ++cpu) {
        t.h.link->sent.clear();
        t.in(echo_request(1400), cpu);
        REQUIRE(t.h.link->sent.size() == 2);
        CHECK(t.h.link->sent[0].size() <= 14 + 1280);
    }
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("RFC 8201 4: ... also where the CPU that hears of it knew the path already")
{
    Link t({.cpus = 2, .address6 = "fd00::1"});
    t.in(solicit("fd00::1"));
    t.h.link->sent.clear();
    t.in(echo_request(1400));
    const Bytes reply = t.h.link->sent[0];
    t.h.on(1, [](protocols::Domain& d) { (void)protocols::pmtu_learn(d, ip6("fd00::2").in_zone(1), 1280); });
    t.in(too_big(reply, 1280), 1);
    t.h.link->sent.clear();
    t.in(echo_request(1400), 0);
    CHECK(t.h.link->sent.size() == 2);
}

TEST_CASE("RFC 7739: identifications of fragments for one peer say nothing of those for another")
{
    auto ids = [](std::uint64_t seed) {
        Link t({.seed = seed, .address6 = "fd00::1"});
        std::vector<std::uint32_t> found;
        for (const char* peer : {"fd00::2", "fd00::2", "fd00::3"}) {
            t.in(solicit("fd00::1", peer));
            t.h.link->sent.clear();
            Ip6Fields f = to_us(peer);
            for (bool more : {true, false}) {
                Bytes message = icmp6_message(f, wire::icmp6_echo, 0, 1, Bytes(2000, 9));
                Bytes header(8);
                wire::emit_ipv6_fragment(
                    header.data(), {wire::protocol_icmp6, static_cast<std::uint16_t>(more ? 0 : 1200), more,
                                       static_cast<std::uint32_t>(found.size() + 1)});
                Ip6Fields part = f;
                part.kinds = {wire::next_fragment};
                part.extensions = {header};
                part.next = wire::protocol_icmp6;
                t.in(ip6_frame(part, slice(message, more ? 0 : 1200, more ? 1200 : message.size() - 1200)));
            }
            REQUIRE(t.h.link->sent.size() == 2);
            for (const Bytes& f2 : t.h.link->sent) {
                CHECK(f2.at(20) == wire::next_fragment);
            }
            found.push_back(wire::read_ipv6_fragment(t.h.link->sent[0].data() + 54).id);
            CHECK(wire::read_ipv6_fragment(t.h.link->sent[1].data() + 54).id == found.back());
        }
        CHECK(found[1] == found[0] + 1);
        return found;
    };
    auto one = ids(1);
    auto two = ids(2);
    auto far_apart = [](std::uint32_t a, std::uint32_t b) { return std::min(a - b, b - a) > 1000; };
    CHECK(far_apart(one[0], one[2]));
    CHECK(far_apart(one[0], two[0]));
    CHECK(far_apart(one[2] - one[0], two[2] - two[0]));
}
