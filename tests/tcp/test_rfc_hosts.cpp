// Rules of RFC 9293 and RFC 5961 that need whole frames: addresses that TCP must not answer, the checksum, what goes
// into the IP header, initial sequence numbers, limits per second, ACKs merged over a burst. The ledger in docs/rfc
// cites these.
#include <netinet/tcp.h>

#include "protocols/tcp/tcp_domain.hpp"
#include "protocols/wire/tcp_wire.hpp"
#include "tests/protocols/frames.hpp"
#include "tests/protocols/host.hpp"

using namespace test;
using base::Error;
using base::Seq;
using netmsg::SocketOp;
using sockbuf::SlotKind;

namespace {

Bytes tcp_segment(const IpFields& f, wire::TcpHeader h, const Bytes& text = {})
{
    Bytes b(wire::tcp_emit_bytes(h));
    wire::tcp_emit(h, b.data());
    b.insert(b.end(), text.begin(), text.end());
    auto sum = wire::pseudo_header(base::IpAddr::v4(f.source), base::IpAddr::v4(f.destination), wire::protocol_tcp,
        static_cast<std::uint32_t>(b.size()));
    sum.add(b.data(), b.size());
    base::store_be16(b.data() + wire::tcp_checksum_at, sum.finish());
    return b;
}

// One host, 10.0.0.1, which knows 10.0.0.2 and has a stream socket.
struct Tcp {
    explicit Tcp(std::uint64_t seed = 1) : h(world.add(slot, {.seed = seed})), s(world, h, SlotKind::stream)
    {
        h.link->inject(
            arp_frame(base::MacAddr::broadcast(), {wire::arp_request, mac(2), 0x0a000002, {}, 0x0a000001}), 0);
        world.settle();
        h.link->sent.clear();
    }
    void listen()
    {
        REQUIRE(s.bind(at("0.0.0.0", 80)) == Error::none);
        REQUIRE(s.call(SocketOp::listen, {}, 16) == Error::none);
    }
    void in(const IpFields& f, const wire::TcpHeader& h_in, const Bytes& text = {})
    {
        h.link->inject(ip_frame(f, tcp_segment(f, h_in, text)), 0);
        world.settle();
    }
    // connect() from port 5000 to 10.0.0.2:80; leaves the SYN in `syn`.
    void connect()
    {
        REQUIRE(s.bind(at("0.0.0.0", 5000)) == Error::none);
        REQUIRE(s.connect(at("10.0.0.2", 80)) == Error::in_progress);
        REQUIRE(h.link->sent.size() == 1);
        syn = sent_header(0);
    }
    void establish()
    {
        connect();
        wire::TcpHeader answer = to_us(Seq{1000}, wire::tcp_syn | wire::tcp_ack);
        answer.options.mss = 1460;
        in(fields, answer);
        REQUIRE(s.so.tcb != nullptr);
        h.link->sent.clear();
    }
    wire::TcpHeader to_us(Seq seq, std::uint16_t flags) const
    {
        wire::TcpHeader t;
        t.source_port = 80;
        t.destination_port = 5000;
        t.seq = seq;
        t.ack = syn.seq + 1;
        t.flags = flags;
        t.window = 65535;
        return t;
    }
    const unsigned char* sent_ip(std::size_t i) const { return h.link->sent.at(i).data() + 14; }
    wire::TcpHeader sent_header(std::size_t i) const
    {
        wire::TcpHeader t;
        REQUIRE(wire::tcp_parse(sent_ip(i) + 20, h.link->sent.at(i).size() - 34, t));
        return t;
    }
    World world;
    std::unique_ptr<Host> slot;
    Host& h;
    TestSocket s;
    IpFields fields{.protocol = wire::protocol_tcp};
    wire::TcpHeader syn;
};

wire::TcpHeader a_syn()
{
    wire::TcpHeader t;
    t.source_port = 4000;
    t.destination_port = 80;
    t.seq = Seq{7};
    t.flags = wire::tcp_syn;
    t.window = 1000;
    return t;
}

} // namespace

TEST_CASE("RFC 9293 MUST-57, MUST-63: a SYN to or from an address that is no single host is dropped in silence")
{
    Tcp t;
    t.listen();
    IpFields broadcast{.destination = 0x0a0000ff, .protocol = wire::protocol_tcp, .to = base::MacAddr::broadcast()};
    t.in(broadcast, a_syn());
    IpFields limited{.destination = 0xffffffff, .protocol = wire::protocol_tcp, .to = base::MacAddr::broadcast()};
    t.in(limited, a_syn());
    for (std::uint32_t source : {0x0a0000ffU, 0xffffffffU, 0xe0000001U, 0U, 0x7f000001U}) {
        t.in({.source = source, .protocol = wire::protocol_tcp}, a_syn());
    }
    CHECK(t.h.link->sent.empty());
    t.world.advance(base::seconds(2)); // nor half-open connections that would send again
    CHECK(t.h.link->sent.empty());
    t.in(t.fields, a_syn());
    REQUIRE(t.h.link->sent.size() == 1);
    CHECK(t.sent_header(0).flags == (wire::tcp_syn | wire::tcp_ack));
}

TEST_CASE("RFC 9293 MUST-3: a segment with a wrong checksum is dropped and counted")
{
    Tcp t;
    t.listen();
    Bytes segment = tcp_segment(t.fields, a_syn());
    segment[4] ^= 1;
    t.h.link->inject(ip_frame(t.fields, segment), 0);
    t.world.settle();
    CHECK(t.h.link->sent.empty());
    CHECK(t.h.domain().tcp->counters.bad_checksum.load() == 1);
}

TEST_CASE("RFC 9293 MUST-46: connect to a broadcast or multicast address is refused")
{
    Tcp t;
    for (const char* address : {"10.0.0.255", "255.255.255.255", "224.0.0.1"}) {
        TestSocket s(t.world, t.h, SlotKind::stream);
        CHECK(s.connect(at(address, 80)) == Error::network_unreachable);
    }
    CHECK(t.h.link->sent.empty());
}

TEST_CASE("RFC 9293 MUST-44: an unbound connect has the address of its route; MUST-43: a bound one keeps its own")
{
    Tcp t;
    t.connect();
    CHECK(base::load_be32(t.sent_ip(0) + 12) == 0x0a000001);
    TestSocket bound(t.world, t.h, SlotKind::stream);
    REQUIRE(bound.bind(at("10.0.0.1", 6000)) == Error::none);
    REQUIRE(bound.connect(at("10.0.0.2", 80)) == Error::in_progress);
    CHECK(bound.so.flow.local == at("10.0.0.1", 6000));
    CHECK(bound.bind(at("10.0.0.77", 6001)) != Error::none);
}

TEST_CASE("RFC 9293 MUST-48, MUST-49: the application's Diffserv field and TTL are in every segment")
{
    Tcp t;
    REQUIRE(t.s.set(IPPROTO_IP, IP_TOS, 0x28) == Error::none);
    REQUIRE(t.s.set(IPPROTO_IP, IP_TTL, 9) == Error::none);
    t.establish();
    t.in(t.fields, t.to_us(Seq{1001}, wire::tcp_ack | wire::tcp_psh), Bytes(10, 1));
    REQUIRE(t.h.link->sent.size() == 1);
    CHECK(t.sent_ip(0)[1] == 0x28);
    CHECK(t.sent_ip(0)[8] == 9);
}

TEST_CASE("RFC 9293 MUST-42: a listener on the port of a connection that opens; MUST-41: which it leaves alone")
{
    Tcp t;
    REQUIRE(t.s.set(SOL_SOCKET, SO_REUSEADDR, 1) == Error::none);
    t.connect();
    TestSocket l(t.world, t.h, SlotKind::stream);
    REQUIRE(l.set(SOL_SOCKET, SO_REUSEADDR, 1) == Error::none);
    REQUIRE(l.bind(at("0.0.0.0", 5000)) == Error::none);
    REQUIRE(l.call(SocketOp::listen, {}, 16) == Error::none);
    wire::TcpHeader answer = t.to_us(Seq{1000}, wire::tcp_syn | wire::tcp_ack);
    t.h.link->sent.clear();
    t.in(t.fields, answer);
    REQUIRE(t.h.link->sent.size() == 1);
    CHECK(t.sent_header(0).flags == wire::tcp_ack);
    wire::TcpHeader syn = a_syn();
    syn.destination_port = 5000;
    t.in(t.fields, syn);
    REQUIRE(t.h.link->sent.size() == 2);
    CHECK(t.sent_header(1).flags == (wire::tcp_syn | wire::tcp_ack));
}

TEST_CASE("RFC 6528 3: a secret decides initial numbers and timestamps: other hosts, other flows, other numbers")
{
    Tcp one(1);
    Tcp two(2);
    Tcp same(1);
    one.connect();
    two.connect();
    same.connect();
    CHECK(one.syn.seq == same.syn.seq);
    CHECK(one.syn.seq != two.syn.seq);
    CHECK(one.syn.options.ts_val != two.syn.options.ts_val);
    TestSocket other(one.world, one.h, SlotKind::stream);
    REQUIRE(other.bind(at("0.0.0.0", 5001)) == Error::none);
    REQUIRE(other.connect(at("10.0.0.2", 80)) == Error::in_progress);
    CHECK(one.sent_header(1).seq != one.syn.seq);
    CHECK(one.sent_header(1).options.ts_val != one.syn.options.ts_val);
}

TEST_CASE("RFC 5961 7: challenge ACKs are limited per second, to a number that nobody can know")
{
    Tcp t;
    t.listen();
    t.in(t.fields, a_syn());
    wire::TcpHeader reset = a_syn(); // of a connection that stands few would be answered at all
    reset.seq = reset.seq + 5;
    reset.flags = wire::tcp_rst;
    auto flood = [&t, &reset] {
        t.h.link->sent.clear();
        for (int i = 0; i < 3000; ++i) {
            t.in(t.fields, reset);
        }
        return t.h.link->sent.size();
    };
    std::size_t first = flood();
    CHECK((first >= 500 && first < 1500));
    CHECK(flood() == 0);
    t.world.advance(base::seconds(1));
    std::size_t second = flood();
    CHECK((second >= 500 && second < 1500));
    CHECK(second != first);
}

TEST_CASE("RFC 9293 MUST-58: a burst of segments is acknowledged once, behind its last octet")
{
    Tcp t;
    t.establish();
    for (std::uint32_t i = 0; i < 8; ++i) {
        wire::TcpHeader h = t.to_us(Seq{1001 + i * 100}, wire::tcp_ack);
        t.h.link->inject(ip_frame(t.fields, tcp_segment(t.fields, h, Bytes(100, 1))), 0);
    }
    t.world.settle();
    REQUIRE(t.h.link->sent.size() == 1);
    CHECK(t.sent_header(0).ack == Seq{1801});
}

TEST_CASE("RFC 6056 3.3.3: ephemeral ports move on, and start elsewhere for another peer or another secret")
{
    Tcp one(1);
    Tcp two(2);
    auto port_to = [](Tcp& t, const char* address) {
        TestSocket s(t.world, t.h, SlotKind::stream);
        Error e = s.connect(at(address, 80));
        REQUIRE((e == Error::in_progress || e == Error::none));
        std::uint16_t port = s.so.flow.local.port;
        REQUIRE(s.close() == Error::none);
        return port;
    };
    std::uint16_t first = port_to(one, "10.0.0.2");
    CHECK(first >= 32768);
    CHECK(port_to(one, "10.0.0.2") != first);
    int distance = port_to(one, "10.0.0.3") - first;
    CHECK(std::abs(distance) > 10);
    CHECK(port_to(two, "10.0.0.2") != first);
}

TEST_CASE("RFC 1122 3.2: another version is dropped, a TTL of 1 is not, ICMP that nobody knows is dropped in silence")
{
    Tcp t;
    IpFields icmp{.protocol = wire::protocol_icmp};
    Bytes echo = ip_frame(icmp, icmp_message(wire::icmp_echo, 0, 1, Bytes(8, 1)));
    Bytes other = echo;
    other[14] = 0x65;
    t.h.link->inject(other, 0);
    t.world.settle();
    CHECK(t.h.counted(&protocols::StackCounters::ip_in_bad_version) == 1);
    constexpr std::uint8_t types[] = {4, 5, 77}; // source quench, redirect, nothing
    for (std::uint8_t type : types) {
        t.h.link->inject(ip_frame(icmp, icmp_message(type, 0, 1, Bytes(40, 1))), 0);
    }
    t.world.settle();
    CHECK(t.h.counted(&protocols::StackCounters::icmp_in_ignored) == 3);
    CHECK(t.h.link->sent.empty());
    echo[14 + 8] = 1;
    base::store_be16(&echo[14 + 10], 0);
    base::store_be16(&echo[14 + 10], wire::checksum(&echo[14], 20));
    t.h.link->inject(echo, 0);
    t.world.settle();
    REQUIRE(t.h.link->sent.size() == 1);
    CHECK(base::load_be32(t.sent_ip(0) + 12) == 0x0a000001); // 3.2.2.6: the address that was asked
}

TEST_CASE("RFC 768, RFC 1122 4.1: a sum of zero is sent as all ones; lengths are checked; TTL and TOS are the caller's")
{
    Tcp t;
    TestSocket s(t.world, t.h, SlotKind::datagram);
    REQUIRE(s.bind(at("10.0.0.1", 6)) == Error::none);
    REQUIRE(s.set(IPPROTO_IP, IP_TTL, 9) == Error::none);
    REQUIRE(s.set(IPPROTO_IP, IP_TOS, 0x28) == Error::none);
    s.send(Bytes(2, 0), at("10.0.0.2", 7));
    REQUIRE(t.h.link->sent.size() == 1);
    CHECK((t.sent_ip(0)[8] == 9 && t.sent_ip(0)[1] == 0x28));
    unsigned sum = base::load_be16(t.sent_ip(0) + 26); // what is missing to all ones
    REQUIRE(sum != 0);
    s.send(Bytes{static_cast<unsigned char>(sum >> 8), static_cast<unsigned char>(sum)}, at("10.0.0.2", 7));
    REQUIRE(t.h.link->sent.size() == 2);
    CHECK(base::load_be16(t.sent_ip(1) + 26) == 0xffff);
    Bytes datagram = udp_datagram({}, 5, 6, Bytes(4, 9));
    datagram[6] = datagram[7] = 0;
    base::store_be16(&datagram[4], 40); // beyond the packet
    t.h.link->inject(ip_frame({}, datagram), 0);
    base::store_be16(&datagram[4], 10); // two octets
    t.h.link->inject(ip_frame({}, datagram), 0);
    t.world.settle();
    CHECK(t.h.counted(&protocols::StackCounters::udp_in_malformed) == 1);
    Bytes got;
    REQUIRE(s.receive(got));
    CHECK(got == Bytes(2, 9));
}

TEST_CASE("RFC 6864 4.3: with DF nothing is fragmented")
{
    Tcp t;
    TestSocket s(t.world, t.h, SlotKind::datagram);
    REQUIRE(s.set(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO) == Error::none);
    REQUIRE(s.connect(at("10.0.0.2", 7)) == Error::none);
    s.send(Bytes(2000, 1));
    CHECK(t.h.link->sent.empty());
    CHECK(s.take_error() == EMSGSIZE);
    REQUIRE(s.set(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT) == Error::none);
    s.send(Bytes(2000, 1));
    CHECK(t.h.link->sent.size() == 2);
}

TEST_CASE("RFC 9293 MUST-54: an ICMP error that arrives ends the connect it is about, and no other")
{
    Tcp t;
    t.connect();
    IpFields icmp{.protocol = wire::protocol_icmp};
    Bytes quote(t.sent_ip(0), t.sent_ip(0) + 28);
    Bytes other = quote;
    other[27] ^= 1; // another sequence number
    t.h.link->inject(ip_frame(icmp, icmp_message(wire::icmp_unreachable, wire::unreachable_port, 0, other)), 0);
    other = quote;
    other[21] ^= 1; // another port
    t.h.link->inject(ip_frame(icmp, icmp_message(wire::icmp_unreachable, wire::unreachable_port, 0, other)), 0);
    t.world.settle();
    CHECK(t.s.take_error() == 0);
    t.h.link->inject(ip_frame(icmp, icmp_message(wire::icmp_unreachable, wire::unreachable_port, 0, quote)), 0);
    t.world.settle();
    CHECK(t.s.take_error() == ECONNREFUSED);
}

TEST_CASE("RFC 1122 3.2.2: no ICMP error about a broadcast or about another error")
{
    Tcp t;
    auto exceeded = [&t] {
        return std::count_if(t.h.link->sent.begin(), t.h.link->sent.end(),
            [](const Bytes& b) { return b.size() > 42 && b[23] == wire::protocol_icmp && b[34] == 11; });
    };
    IpFields everybody{.destination = 0x0a0000ff, .protocol = 99, .to = base::MacAddr::broadcast()};
    t.h.link->inject(ip_frame(everybody, Bytes(40, 1)), 0);
    t.world.settle();
    CHECK(t.h.link->sent.empty());
    for (std::uint8_t type : {wire::icmp_unreachable, wire::icmp_echo}) {
        Bytes first = slice(icmp_message(type, 0, 0, Bytes(40, 1)), 0, 32);
        t.h.link->inject(ip_frame({.protocol = wire::protocol_icmp, .id = type, .more = true}, first), 0);
        t.world.advance(base::seconds(31));
        CHECK(exceeded() == (type == wire::icmp_echo ? 1 : 0));
    }
}

TEST_CASE("RFC 1122 3.2.1.3: a socket bound to the loopback connects to nobody outside")
{
    Tcp t;
    TestSocket s(t.world, t.h, SlotKind::stream);
    REQUIRE(s.bind(at("127.0.0.1", 6000)) == Error::none);
    CHECK(s.connect(at("10.0.0.2", 80)) == Error::invalid);
    CHECK(t.h.link->sent.empty());
    CHECK(s.connect(at("127.0.0.1", 80)) == Error::in_progress);
    TestSocket six(t.world, t.h, SlotKind::stream, 0, 18, AF_INET6);
    REQUIRE(six.bind(at("::ffff:127.0.0.1", 6001)) == Error::none);
    CHECK(six.connect(at("::ffff:10.0.0.2", 80)) == Error::invalid);
    CHECK(t.h.link->sent.empty());
}

TEST_CASE("ip(7): DF is set unless IP_MTU_DISCOVER says that the path is not asked")
{
    for (int discover : {IP_PMTUDISC_WANT, IP_PMTUDISC_DO, IP_PMTUDISC_DONT}) {
        Tcp t;
        REQUIRE(t.s.set(IPPROTO_IP, IP_MTU_DISCOVER, discover) == Error::none);
        t.connect();
        CHECK(((t.sent_ip(0)[6] & 0x40) != 0) == (discover != IP_PMTUDISC_DONT));
    }
    Tcp later;
    later.establish();
    REQUIRE(later.s.set(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT) == Error::none);
    REQUIRE(later.s.call(SocketOp::shutdown, {}, SHUT_WR) == Error::none);
    later.s.slot.app.snd_end.store(0);
    later.s.look();
    REQUIRE(!later.h.link->sent.empty());
    CHECK((later.sent_ip(0)[6] & 0x40) == 0);
}

TEST_CASE(
    "RFC 1191 3: a path that takes less than we believe gets what routers may cut, where nothing else would arrive")
{
    for (std::uint32_t mtu : {576U, 296U}) {
        Tcp t;
        t.establish();
        REQUIRE(t.s.call(SocketOp::shutdown, {}, SHUT_WR) == Error::none);
        t.s.slot.app.snd_end.store(0);
        t.s.look();
        REQUIRE(!t.h.link->sent.empty());
        CHECK((t.sent_ip(0)[6] & 0x40) != 0);
        Bytes quote(t.sent_ip(0), t.sent_ip(0) + 28);
        t.h.link->sent.clear();
        IpFields icmp{.protocol = wire::protocol_icmp};
        t.h.link->inject(
            ip_frame(icmp, icmp_message(wire::icmp_unreachable, wire::unreachable_needfrag, mtu, quote)), 0);
        t.world.settle();
        t.world.advance(base::seconds(2)); // it goes again
        REQUIRE(!t.h.link->sent.empty());
        CHECK(((t.sent_ip(0)[6] & 0x40) != 0) == (mtu == 576));
    }
}
