// Datagrams between sockets of one host, and answers to where a datagram came in: loopback, own addresses, groups and
// broadcasts; what was sent before a connect. Both families.
#include "protocols/ipv6.hpp"
#include "tests/protocols/host.hpp"

using namespace test;
using base::Error;
using protocols::StackCounters;
using sockbuf::SlotKind;

namespace {

sockbuf::DatagramHeader header_to(const base::Endpoint& to, std::size_t size)
{
    sockbuf::DatagramHeader h{};
    h.size = static_cast<std::uint16_t>(size);
    h.port = to.port;
    std::memcpy(h.addr, to.addr.bytes(), 16);
    return h;
}

unsigned received(TestSocket& s)
{
    unsigned n = 0;
    for (Bytes got; s.receive(got); ++n) {
    }
    return n;
}

void join(TestSocket& s, const base::IpAddr& group, std::uint32_t index)
{
    sockbuf::GroupRequest r{};
    std::memcpy(r.group, group.bytes(), 16);
    r.interface = index;
    REQUIRE(s.set(over_v6() ? IPPROTO_IPV6 : IPPROTO_IP, MCAST_JOIN_GROUP, &r, sizeof r) == Error::none);
}

// To a group, and nothing else said about where to.
void send_by(TestSocket& s, std::uint32_t index)
{
    if (over_v6()) {
        REQUIRE(s.set(IPPROTO_IPV6, IPV6_MULTICAST_IF, static_cast<int>(index)) == Error::none);
        return;
    }
    ip_mreqn by{};
    by.imr_ifindex = static_cast<int>(index);
    REQUIRE(s.set(IPPROTO_IP, IP_MULTICAST_IF, &by, sizeof by) == Error::none);
}

base::IpAddr link_local(Host& h)
{
    for (const auto& a : h.domain().ipv6->addresses) {
        if (a.addr.is_link_local_v6()) {
            return a.addr;
        }
    }
    return {};
}

} // namespace

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

TEST_CASE("RFC 4007 6: a datagram to an own address of link scope came in on that link, by which it is answered")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.address6 = "fd00::1"});
    world.advance(base::seconds(3));
    TestSocket server(world, h, SlotKind::datagram, 0, 18, AF_INET6);
    TestSocket client(world, h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(server.bind(at("::", 53)) == Error::none);
    REQUIRE(client.bind(at("::", 0)) == Error::none);
    client.send(Bytes(3), {link_local(h), 53});
    Bytes got;
    base::Endpoint from;
    REQUIRE(server.receive(got, &from));
    CHECK(server.header.interface == h.eth->index);
    sockbuf::DatagramHeader answer = header_to(from, 3);
    answer.interface = server.header.interface; // the control message, as it was received
    server.send_raw(answer, Bytes(3));
    server.look();
    CHECK(server.take_error() == 0);
    CHECK(client.receive(got));
}

TEST_CASE("a group's datagram by the loopback interface reaches its members there once, as on Linux")
{
    constexpr std::uint32_t loopback = 2; // of this host
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.address6 = "fd00::1"});
    bool loops = GENERATE(true, false); // which only says whether what leaves comes back, too
    for (const char* v6 : {"ff15::7", "ff02::7777", "ff01::7777"}) {
        base::IpAddr group = base::parse_ip(over_v6() ? v6 : "239.7.7.8").value().in_zone(loopback);
        TestSocket member(world, h, SlotKind::datagram);
        TestSocket sender(world, h, SlotKind::datagram);
        REQUIRE(member.bind(at("0.0.0.0", 7)) == Error::none);
        REQUIRE(sender.bind(at("0.0.0.0", 0)) == Error::none);
        join(member, group, loopback);
        send_by(sender, loopback);
        REQUIRE(sender.set(over_v6() ? IPPROTO_IPV6 : IPPROTO_IP, over_v6() ? IPV6_MULTICAST_LOOP : IP_MULTICAST_LOOP,
                    loops ? 1 : 0) == Error::none);
        sender.send(Bytes(3), {group, 7});
        CHECK(received(member) == 1);
        member.close();
        sender.close();
    }
    CHECK(h.packets_in_use() == 0);
}

TEST_CASE("a dual-stack socket hears of IPv4's groups only those that it joined itself, as on Linux")
{
    if (over_v6()) {
        return;
    }
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.cpus = 2});
    base::Endpoint group = at("239.1.2.3", 7);
    TestSocket member(world, h, SlotKind::datagram);
    TestSocket dual(world, h, SlotKind::datagram, 1, 18, AF_INET6);
    TestSocket sender(world, h, SlotKind::datagram);
    for (TestSocket* s : {&member, &dual}) {
        REQUIRE(s->set(SOL_SOCKET, SO_REUSEADDR, 1) == Error::none);
    }
    join(member, group.addr, 1);
    REQUIRE(member.bind(at("0.0.0.0", 7)) == Error::none);
    REQUIRE(dual.bind({base::IpAddr{}, 7}) == Error::none);
    REQUIRE(sender.bind(at("10.0.0.1", 500)) == Error::none);
    auto both = [&] {
        sender.send(Bytes{1}, group);
        world.settle();
        return std::pair{received(member), received(dual)};
    };
    CHECK(both() == std::pair{1U, 0U});
    CHECK(dual.set(IPPROTO_IP, IP_MULTICAST_ALL, 2) == Error::invalid);
    REQUIRE(dual.set(IPPROTO_IP, IP_MULTICAST_ALL, 1) == Error::none);
    CHECK(both() == std::pair{1U, 1U});
    REQUIRE(dual.set(IPPROTO_IP, IP_MULTICAST_ALL, 0) == Error::none);
    join(dual, group.addr, 1);
    CHECK(both() == std::pair{1U, 1U});
}

TEST_CASE("IP_PKTINFO: what was sent to all is answered from the interface's own address")
{
    if (over_v6()) {
        return; // whose groups are no source, and whose datagrams say so
    }
    Pair p(1, 2);
    TestSocket server(p.world, p.b, SlotKind::datagram, 1);
    TestSocket client(p.world, p.a, SlotKind::datagram);
    REQUIRE(server.bind(at("0.0.0.0", 7)) == Error::none);
    REQUIRE(client.bind(at("0.0.0.0", 0)) == Error::none);
    REQUIRE(client.set(SOL_SOCKET, SO_BROADCAST, 1) == Error::none);
    join(server, ip("239.7.7.8"), 1);
    for (const char* to : {"10.0.0.255", "255.255.255.255", "239.7.7.8", "10.0.0.2"}) {
        client.send(Bytes(3), at(to, 7));
        Bytes got;
        base::Endpoint from;
        REQUIRE(server.receive(got, &from));
        CHECK(server.header.local_v4 == ip(to).v4());
        CHECK(sockbuf::answer_v4(server.header) == ip("10.0.0.2").v4());
        sockbuf::DatagramHeader answer = header_to(from, 3);
        answer.interface = server.header.interface;
        answer.local_v4 = sockbuf::answer_v4(server.header);
        server.send_raw(answer, Bytes(3));
        server.look();
        CHECK(server.take_error() == 0);
        REQUIRE(client.receive(got, &from));
        CHECK(from == at("10.0.0.2", 7));
    }
}

TEST_CASE("a connected socket that was not bound takes its peer's datagrams to its address only, as on Linux")
{
    Pair p;
    TestSocket peer(p.world, p.a, SlotKind::datagram);
    TestSocket connected(p.world, p.b, SlotKind::datagram);
    REQUIRE(peer.bind(at("10.0.0.1", 9)) == Error::none);
    REQUIRE(peer.set(SOL_SOCKET, SO_BROADCAST, 1) == Error::none);
    REQUIRE(connected.connect(at("10.0.0.1", 9)) == Error::none);
    base::IpAddr group = base::parse_ip(over_v6() ? "ff15::7" : "239.7.7.8").value();
    join(connected, group, 1);
    std::uint16_t port = connected.so.flow.local.port;
    peer.send(Bytes(3), {group, port});
    CHECK(received(connected) == 0);
    if (!over_v6()) {
        peer.send(Bytes(3), at("10.0.0.255", port));
        CHECK(received(connected) == 0);
    }
    peer.send(Bytes(3), at("10.0.0.2", port));
    CHECK(received(connected) == 1);
}

TEST_CASE("sendto an address of link scope without a scope: the interface that anything else names, or the only link")
{
    Pair p;
    p.world.advance(base::seconds(3));
    TestSocket server(p.world, p.b, SlotKind::datagram, 0, 18, AF_INET6);
    TestSocket client(p.world, p.a, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(server.bind(at("::", 7)) == Error::none);
    REQUIRE(client.bind(at("::", 0)) == Error::none);
    base::Endpoint to{link_local(p.b).on_wire(), 7};
    client.send(Bytes(3), to);
    CHECK(received(server) == 1);
    sockbuf::DatagramHeader h = header_to(to, 3);
    h.interface = 1; // IPV6_PKTINFO
    client.send_raw(h, Bytes(3));
    client.look();
    CHECK(received(server) == 1);
    CHECK(client.take_error() == 0);
    CHECK(client.connect(to) == Error::invalid); // ipv6(7)
}

TEST_CASE("connect and disconnect: what was sent before goes where it was sent to, as on Linux")
{
    Pair p(GENERATE(1U, 3U), 1);
    TestSocket one(p.world, p.b, SlotKind::datagram);
    TestSocket other(p.world, p.b, SlotKind::datagram);
    TestSocket client(p.world, p.a, SlotKind::datagram);
    REQUIRE(one.bind(at("10.0.0.2", 7)) == Error::none);
    REQUIRE(other.bind(at("10.0.0.2", 8)) == Error::none);
    REQUIRE(client.connect(at("10.0.0.2", 7)) == Error::none);
    client.send(Bytes(1)); // the neighbour is known from now on
    REQUIRE(received(one) == 1);
    constexpr unsigned many = 100; // more than a batch
    for (unsigned i = 0; i < many; ++i) {
        client.send_raw(header_to({}, 3), Bytes(3)); // its mark is behind the request
    }
    SECTION("connected to another peer")
    {
        REQUIRE(client.connect(at("10.0.0.2", 8)) == Error::none);
        client.look();
        CHECK(received(one) == many);
        CHECK(received(other) == 0);
    }
    SECTION("disconnected")
    {
        REQUIRE(client.call(netmsg::SocketOp::unconnect) == Error::none);
        client.look();
        CHECK(received(one) == many);
    }
    SECTION("sent to an address, then connected over another interface")
    {
        client.send_raw(header_to(at("10.0.0.2", 8), 3), Bytes(3));
        REQUIRE(client.connect(at("127.0.0.1", 9)) == Error::none);
        client.look();
        CHECK(received(other) == 1);
    }
    CHECK(client.take_error() == 0);
}
