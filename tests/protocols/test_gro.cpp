// Joining of received segments (protocols/gro.hpp): what goes up as one packet, and each rule by which it does not.
// What is counted is packets that IP input sees; that the text arrives whole is shown by tests/tcp.
#include "protocols/gro.hpp"
#include "protocols/neighbor.hpp"
#include "protocols/tcp/tcp_domain.hpp"
#include "protocols/wire/ipv6.hpp"
#include "protocols/wire/tcp_wire.hpp"
#include "tests/protocols/frames.hpp"
#include "tests/protocols/host.hpp"

using namespace test;

namespace {

struct Sent {
    std::uint32_t seq = 1000;
    std::uint32_t len = 1000;
    std::uint16_t flags = wire::tcp_ack;
    std::uint32_t ack = 77;
    std::uint16_t window = 500;
    std::uint32_t ts_val = 5;
    std::uint16_t port = 4000;
    unsigned char host = 2;
    std::uint8_t tos = 0;
    std::uint8_t ttl = 64;
    bool spoil_text = false;
    bool spoil_ip = false;
    bool fragment = false;
    bool zone = false;         // IPv6: as it is in what loops
    bool group = false;        // Ethernet's multicast bit
    std::uint16_t ip_says = 0; // less than there is, or more
    std::uint32_t padding = 0;
};

// The second one of two, 1000 octets on.
Sent next(const std::function<void(Sent&)>& change = {})
{
    Sent s;
    s.seq += 1000;
    if (change) {
        change(s);
    }
    return s;
}

Bytes frame_of(const Sent& s, bool v6)
{
    wire::TcpHeader h;
    h.source_port = s.port;
    h.destination_port = 80;
    h.seq = base::Seq{s.seq};
    h.ack = base::Seq{s.ack};
    h.flags = s.flags;
    h.window = s.window;
    h.options.has_timestamp = true;
    h.options.ts_val = s.ts_val;
    Bytes tcp(wire::tcp_emit_bytes(h));
    wire::tcp_emit(h, tcp.data());
    for (std::uint32_t i = 0; i < s.len; ++i) {
        tcp.push_back(static_cast<unsigned char>(s.seq + i));
    }
    base::IpAddr from = v6 ? ip("2001:db8::2") : base::IpAddr::v4(0x0a000000U + s.host);
    base::IpAddr to = v6 ? ip("2001:db8::1") : base::IpAddr::v4(0x0a000001);
    if (v6) {
        from = ip((s.zone ? "fe80::" : "2001:db8::") + std::to_string(s.host));
        to = s.zone ? ip("fe80::1") : to;
    }
    auto bytes = static_cast<std::uint32_t>(tcp.size());
    auto sum = wire::pseudo_header(from, to, wire::protocol_tcp, bytes);
    sum.add(tcp.data(), bytes);
    base::store_be16(tcp.data() + wire::tcp_checksum_at, sum.finish());
    if (s.spoil_text) {
        tcp.back() ^= 1;
    }
    Bytes packet(v6 ? 40 : 20);
    if (v6) {
        wire::Ipv6Header o;
        o.traffic_class = s.tos;
        o.payload_bytes = static_cast<std::uint16_t>(s.ip_says != 0 ? s.ip_says : bytes);
        o.next_header = wire::protocol_tcp;
        o.hop_limit = s.ttl;
        o.source = s.zone ? from.in_zone(1) : from;
        o.destination = s.zone ? to.in_zone(1) : to;
        wire::emit_ipv6(packet.data(), o);
    } else {
        wire::Ipv4Header o;
        o.total_bytes = static_cast<std::uint16_t>(20 + (s.ip_says != 0 ? s.ip_says : bytes));
        o.more_fragments = s.fragment;
        o.tos = s.tos;
        o.ttl = s.ttl;
        o.protocol = wire::protocol_tcp;
        o.source = from.v4();
        o.destination = to.v4();
        wire::emit_ipv4(packet.data(), o);
        packet[10] ^= s.spoil_ip ? 1 : 0;
    }
    packet.insert(packet.end(), tcp.begin(), tcp.end());
    packet.resize(packet.size() + s.padding);
    base::MacAddr at = mac(1);
    at.bytes[0] |= s.group ? 1 : 0;
    return ethernet(at, mac(2), v6 ? wire::ethertype_ipv6 : wire::ethertype_ipv4, packet);
}

struct Seen {
    std::uint64_t up = 0;       // packets to IP
    std::uint64_t joined = 0;   // of these, made of several
    std::uint64_t segments = 0; // they were made of
    std::uint64_t wrong = 0;    // checksums that TCP found wrong
    friend bool operator==(const Seen&, const Seen&) = default;
};
std::ostream& operator<<(std::ostream& os, const Seen& s)
{
    return os << s.up << " up, " << s.joined << " joined of " << s.segments << ", " << s.wrong << " wrong";
}

Seen receive(const std::vector<Sent>& batch, bool v6, bool gro = true, std::uint32_t large = 16)
{
    HostOptions o;
    o.address6 = "2001:db8::1";
    o.gro = gro;
    o.large_per_cpu = large;
    World w;
    std::unique_ptr<Host> h;
    w.add(h, o);
    w.settle();
    std::size_t packets = h->packets_in_use();
    std::uint64_t before = h->counted(&protocols::StackCounters::ip_in) + h->counted(&protocols::StackCounters::ip6_in);
    for (const Sent& s : batch) {
        h->link->inject(frame_of(s, v6), 0);
    }
    w.settle();
    CHECK(h->packets_in_use() <= packets + protocols::neighbor_queue_max); // answers may wait for neighbours
    CHECK(h->stack.pool().large_in_use(0) == 0);
    return {h->counted(&protocols::StackCounters::ip_in) + h->counted(&protocols::StackCounters::ip6_in) - before,
        h->counted(&protocols::StackCounters::gro_joined), h->counted(&protocols::StackCounters::gro_segments),
        h->domain().tcp->counters.bad_checksum.load()};
}

constexpr Seen one_of_two{1, 1, 2, 0};
constexpr Seen two{2, 0, 0, 0};

} // namespace

TEST_CASE("segments of a flow that follow one another go up as one")
{
    for (bool v6 : {false, true}) {
        CHECK(receive({{}, next()}, v6) == one_of_two);
        CHECK(receive({{}, next()}, v6, false) == two); // the switch
        CHECK(receive({{}}, v6) == Seen{1, 0, 0, 0});
        Sent zoned;
        zoned.zone = true; // of which no sum knows
        CHECK(receive({zoned, next([](Sent& s) { s.zone = true; })}, v6) == one_of_two);
        std::vector<Sent> many(10);
        for (unsigned i = 0; i < 10; ++i) {
            many[i].seq = 0xffffe000U + 1000 * i; // numbers wrap
        }
        CHECK(receive(many, v6) == Seen{1, 1, 10, 0});
        // PSH and a shorter segment end it; what comes behind begins anew.
        CHECK(receive({{}, next([](Sent& s) { s.flags |= wire::tcp_psh; }), next([](Sent& s) { s.seq += 1000; })},
                  v6) == Seen{2, 1, 2, 0});
        CHECK(receive({{}, next([](Sent& s) { s.len = 999; }), next([](Sent& s) { s.seq += 999; })}, v6) ==
              Seen{2, 1, 2, 0});
        // Other flows between them do no harm, nor what is no TCP; an ACK of the flow keeps its place behind the text.
        CHECK(receive({{}, next([](Sent& s) { s.port = 4001; }), next()}, v6) == Seen{2, 1, 2, 0});
        CHECK(receive({{}, next([](Sent& s) { s.len = 0; }), next()}, v6) == Seen{3, 0, 0, 0});
        // As much as a length field can say.
        std::vector<Sent> long_ones(80);
        for (unsigned i = 0; i < 80; ++i) {
            long_ones[i].seq = 1000 + 1400 * i;
            long_ones[i].len = 1400;
        }
        Seen s = receive(long_ones, v6);
        CHECK((s.up >= 2 && s.up <= 3 && s.segments == 80));
    }
}

TEST_CASE("what differs in more than number and PSH is not joined")
{
    for (bool v6 : {false, true}) {
        auto apart = [&](const std::function<void(Sent&)>& change) { CHECK(receive({{}, next(change)}, v6) == two); };
        apart([](Sent& s) { s.seq += 1; });
        apart([](Sent& s) { s.seq -= 1; });
        apart([](Sent& s) { s.ack += 1; });
        apart([](Sent& s) { s.window += 1; });
        apart([](Sent& s) { s.ts_val += 1; });
        apart([](Sent& s) { s.tos = 2; });
        apart([](Sent& s) { s.ttl = 63; });
        apart([](Sent& s) { s.port = 4001; });
        apart([](Sent& s) { s.host = 3; });
        apart([](Sent& s) { s.len = 1001; });
        apart([](Sent& s) { s.len = 0; });
        for (unsigned flag :
            {wire::tcp_fin, wire::tcp_syn, wire::tcp_rst, wire::tcp_urg, wire::tcp_ece, wire::tcp_cwr, wire::tcp_ae}) {
            INFO("flag " << flag);
            apart([&](Sent& s) { s.flags = static_cast<std::uint16_t>(s.flags | flag); });
        }
        apart([](Sent& s) { s.flags = 0; });
        // The same mark and the same ACE field is no difference, but CE is counted packet by packet.
        Sent first;
        first.tos = 2;
        first.flags |= wire::tcp_ece;
        CHECK(receive({first, next([&](Sent& s) { s.tos = first.tos, s.flags = first.flags; })}, v6) == one_of_two);
        first.tos = 3;
        CHECK(receive({first, next([&](Sent& s) { s.tos = first.tos, s.flags = first.flags; })}, v6) == two);
        // What asks for company by no means: PSH at once, and few octets.
        first = {};
        first.flags |= wire::tcp_psh;
        CHECK(receive({first, next()}, v6) == two);
        first = {};
        first.len = protocols::gro_text_min - 1;
        CHECK(receive({first, next([&](Sent& s) { s.seq = 1000 + first.len; })}, v6) == two);
    }
}

TEST_CASE("what is damaged or lies about its length is not joined, and is dropped where it always was")
{
    for (bool v6 : {false, true}) {
        auto spoil = [](Sent& s) { s.spoil_text = true; };
        CHECK(receive({{}, next(spoil)}, v6) == Seen{2, 0, 0, 1});
        Sent first;
        first.spoil_text = true;
        CHECK(receive({first, next()}, v6) == Seen{2, 0, 0, 1});
        CHECK(receive({{}, next(), next([](Sent& s) { s.seq += 1000, s.spoil_text = true; })}, v6) == Seen{2, 1, 2, 1});
        auto apart = [&](const std::function<void(Sent&)>& change) {
            Seen s = receive({{}, next(change)}, v6);
            CHECK((s.up == 2 && s.joined == 0));
        };
        apart([](Sent& s) { s.ip_says = 1; });
        apart([](Sent& s) { s.ip_says = 31; });
        apart([](Sent& s) { s.ip_says = 32; });
        apart([](Sent& s) { s.ip_says = 1000; });
        apart([](Sent& s) { s.ip_says = 1500; });
        apart([](Sent& s) { s.ip_says = 65000; });
        apart([](Sent& s) { s.padding = 7; });
        apart([](Sent& s) { s.spoil_ip = true, s.ttl = 63; });
        CHECK(receive({{}, next([](Sent& s) { s.group = true; })}, v6).joined == 0);
    }
    CHECK(receive({{}, next([](Sent& s) { s.spoil_ip = true; })}, false).joined == 0);
    Sent first;
    first.spoil_ip = true; // nothing is lost with it
    CHECK(receive({first, next()}, false) == two);
    CHECK(receive({first, next(), next([](Sent& s) { s.seq += 1000; })}, false) == Seen{2, 1, 2, 0});
    CHECK(receive({{}, next([](Sent& s) { s.fragment = true; })}, false).joined == 0);
}

TEST_CASE("without memory nothing is joined and nothing is lost")
{
    for (bool v6 : {false, true}) {
        CHECK(receive({{}, next()}, v6, true, 0) == two);
    }
}

TEST_CASE("more flows than there are places take turns")
{
    for (bool v6 : {false, true}) {
        std::vector<Sent> batch;
        for (unsigned turn = 0; turn < 3; ++turn) {
            for (std::uint16_t flow = 0; flow < 20; ++flow) {
                Sent s;
                s.seq += 1000 * turn;
                s.port = static_cast<std::uint16_t>(3000 + 7 * flow);
                batch.push_back(s);
            }
        }
        Seen s = receive(batch, v6);
        CHECK(s.up - s.joined + s.segments == 60);
        CHECK(s.wrong == 0);
    }
}
