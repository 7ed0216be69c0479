// The pure parsers and emitters, by value and under random mutation: a parser never reads outside its bytes (ASan
// builds), never accepts what contradicts itself, and what is emitted parses back.
#include <catch2/catch.hpp>

#include "base/random.hpp"
#include "tests/fuzz/parse_all.hpp"
#include "tests/protocols/frames.hpp"

using namespace test;

namespace {

// RFC 1071 as written: 16-bit big-endian words, end-around carry.
std::uint16_t plain_sum(const Bytes& b)
{
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < b.size(); ++i) {
        sum += i % 2 == 0 ? std::uint32_t{b[i]} << 8 : b[i];
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return static_cast<std::uint16_t>(sum);
}

} // namespace

TEST_CASE("the fast checksum equals the plain one for every size, alignment and split")
{
    base::Random random(1);
    Bytes all(400);
    for (auto& b : all) {
        b = random.below(4) == 0 ? 0xff : static_cast<unsigned char>(random.next());
    }
    for (std::size_t size = 0; size < 200; ++size) {
        std::size_t at = random.below(64);
        Bytes b = slice(all, at, size);
        wire::Checksum whole;
        whole.add(all.data() + at, size);
        wire::Checksum split;
        std::size_t cut = size == 0 ? 0 : random.below(static_cast<std::uint32_t>(size));
        iovec pieces[2] = {{b.data(), cut}, {b.data() + cut, size - cut}};
        split.add(pieces, 2);
        Bytes to(size);
        wire::Checksum copied;
        copied.copy(to.data(), b.data(), cut);
        copied.copy(to.data() + cut, b.data() + cut, size - cut);
        REQUIRE(whole.folded() % 0xffff == plain_sum(b) % 0xffff);
        REQUIRE(split.folded() % 0xffff == plain_sum(b) % 0xffff);
        REQUIRE(copied.folded() % 0xffff == plain_sum(b) % 0xffff);
        REQUIRE(to == b);
    }
    const unsigned char example[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}; // RFC 1071 3
    CHECK(wire::checksum(example, 8) == static_cast<std::uint16_t>(~0xddf2));
}

TEST_CASE("RFC 1624: an incremental update equals a new computation")
{
    base::Random random(2);
    for (int i = 0; i < 2000; ++i) {
        Bytes b(20);
        for (auto& x : b) {
            x = static_cast<unsigned char>(random.next());
        }
        auto before = wire::checksum(b.data(), b.size());
        std::uint32_t from = base::load_be32(b.data() + 8);
        auto to = static_cast<std::uint32_t>(random.next());
        base::store_be32(b.data() + 8, to);
        REQUIRE(wire::checksum_update32(before, from, to) == wire::checksum(b.data(), b.size()));
    }
    CHECK(wire::checksum_update16(0xdd2f, 0x5555, 0x3285) == 0x0000); // RFC 1624 4
}

TEST_CASE("a pseudo-header's sum is the same with its length added later, for both families and super-segments")
{
    base::Random random(3);
    for (int i = 0; i < 2000; ++i) {
        unsigned char bytes[32];
        for (auto& x : bytes) {
            x = static_cast<unsigned char>(random.below(3) == 0 ? 0xff : random.next());
        }
        bool v4 = i % 2 == 0;
        auto source = v4 ? base::IpAddr::v4(base::load_be32(bytes)) : base::IpAddr::v6(bytes);
        auto destination = v4 ? base::IpAddr::v4(base::load_be32(bytes + 16)) : base::IpAddr::v6(bytes + 16);
        auto length = static_cast<std::uint32_t>(random.below(70000));
        std::uint16_t part = wire::pseudo_header_part(source, destination, wire::protocol_tcp);
        REQUIRE(wire::pseudo_header_sum(part, length) ==
                wire::pseudo_header(source, destination, wire::protocol_tcp, length).folded());
    }
    CHECK(base::fold_sum(0) == 0);
    CHECK(base::fold_sum(0xffffffffffffffff) == 0xffff);
    CHECK(base::fold_sum(0x1fffe) == 0xffff);
    CHECK(base::fold_sum(0xffff0000ffff0001) == 1);
}

TEST_CASE("an IPv4 header is emitted byte by byte as RFC 791 draws it and parses back")
{
    wire::Ipv4Header h;
    h.tos = 0x10;
    h.total_bytes = 60;
    h.id = 0x1c46;
    h.dont_fragment = true;
    h.ttl = 64;
    h.protocol = 6;
    h.source = 0xac100a63;
    h.destination = 0xac100a0c;
    Bytes b(20);
    wire::emit_ipv4(b.data(), h);
    CHECK(b == Bytes{0x45, 0x10, 0x00, 0x3c, 0x1c, 0x46, 0x40, 0x00, 0x40, 0x06, 0xb1, 0xd6, 0xac, 0x10, 0x0a, 0x63,
                   0xac, 0x10, 0x0a, 0x0c});
    wire::Ipv4Fault fault{};
    auto back = wire::parse_ipv4(b.data(), 20, 60, true, fault);
    REQUIRE(back.has_value());
    CHECK((back->source == h.source && back->dont_fragment && !back->fragment() && back->payload_bytes() == 40));
    CHECK(!wire::parse_ipv4(b.data(), 20, 59, true, fault));
    CHECK(fault == wire::Ipv4Fault::length);
    b[8] = 63;
    CHECK(!wire::parse_ipv4(b.data(), 20, 60, true, fault));
    CHECK(fault == wire::Ipv4Fault::checksum);
}

TEST_CASE("RFC 1191 7.1: a router that names no MTU has the next plateau below what it dropped")
{
    auto said = [](std::uint32_t rest, std::uint16_t total) {
        Bytes quote(28);
        wire::Ipv4Header h;
        h.total_bytes = total;
        h.protocol = wire::protocol_udp;
        wire::emit_ipv4(quote.data(), h);
        auto q =
            wire::parse_icmp_quote({wire::icmp_unreachable, wire::unreachable_needfrag, 0, rest}, quote.data(), 28);
        REQUIRE(q.has_value());
        return q->mtu;
    };
    CHECK(said(0, 1500) == 1492);
    CHECK(said(0, 1492) == 1006);
    CHECK(said(0, 500) == 296);
    CHECK(said(0, 68) == 68);
    CHECK(said(1400, 1500) == 1400);
    CHECK(said(0x10000 | 1400, 1500) == 1400); // above it is nothing (RFC 1191 4)
}

TEST_CASE("options are skipped by length, source routes seen, nonsense refused")
{
    Bytes b(28);
    wire::Ipv4Header h;
    h.total_bytes = 28;
    wire::emit_ipv4(b.data(), h);
    b[0] = 0x47;
    auto parse = [&](std::initializer_list<unsigned char> options) {
        std::fill(b.begin() + 20, b.end(), static_cast<unsigned char>(0));
        std::copy(options.begin(), options.end(), b.begin() + 20);
        wire::Ipv4Fault fault{};
        return wire::parse_ipv4(b.data(), 28, 28, false, fault);
    };
    CHECK(parse({1, 1, 7, 3, 4}).has_value());
    CHECK(parse({131, 3, 4}).value().source_route);
    CHECK(parse({1, 137, 3, 4}).value().source_route);
    CHECK(!parse({7, 3, 4}).value().source_route);
    CHECK(!parse({7, 9}));
    CHECK(!parse({7, 1}));
    CHECK(!parse({1, 1, 1, 1, 1, 1, 1, 7}));
}

TEST_CASE("parsers survive random mutation of good packets")
{
    base::Random random(3);
    std::vector<Bytes> seeds = {
        ip_frame({}, udp_datagram({}, 1, 2, Bytes(30, 1))),
        ip_frame(
            {.protocol = 1}, icmp_message(3, 3, 0, slice(ip_frame({}, udp_datagram({}, 1, 2, Bytes(30, 1))), 14, 40))),
        arp_frame(mac(1), {1, mac(2), 5, mac(1), 6}),
    };
    for (int i = 0; i < 20000; ++i) {
        Bytes b = seeds[random.below(3)];
        for (std::uint32_t n = random.below(6); n != 0; --n) {
            b[random.below(static_cast<std::uint32_t>(b.size()))] = static_cast<unsigned char>(random.next());
        }
        b.resize(random.below(8) == 0 ? random.below(static_cast<std::uint32_t>(b.size())) : b.size());
        Bytes exact(b.begin(), b.end()); // its own allocation, so that ASan sees one byte too far
        REQUIRE(fuzz::parse_all(exact.data(), exact.size()));
    }
}
