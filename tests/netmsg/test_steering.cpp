// Steering against the published verification suite of the Microsoft RSS specification ("Verifying the RSS hash
// calculation"), and its indirection.
#include <catch2/catch.hpp>

#include <algorithm>
#include <vector>

#include "netmsg/steering.hpp"

namespace {

std::array<unsigned char, netmsg::toeplitz_key_bytes> published_key()
{
    return {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca,
        0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b,
        0xbe, 0xac, 0x01, 0xfa}; // 40 bytes; ours is longer and the rest does not matter
}

struct Vector {
    const char* destination;
    std::uint16_t destination_port;
    const char* source;
    std::uint16_t source_port;
    std::uint32_t pair;
    std::uint32_t with_ports;
};

void check(const netmsg::Steering& steering, const Vector& v)
{
    INFO(v.source << " -> " << v.destination);
    base::FourTuple flow;
    flow.peer = {base::parse_ip(v.source).value(), v.source_port};
    flow.local = {base::parse_ip(v.destination).value(), v.destination_port};
    CHECK(steering.hash_pair(flow.local.addr, flow.peer.addr) == v.pair);
    CHECK(steering.hash(flow) == v.with_ports);
    if (flow.peer.addr.is_v4()) {
        CHECK(steering.hash_v4(flow.peer.addr.v4(), flow.local.addr.v4(), v.source_port, v.destination_port) ==
              v.with_ports);
    }
}

} // namespace

TEST_CASE("Toeplitz, published vectors for IPv4")
{
    netmsg::Steering steering(4, published_key());
    const Vector vectors[] = {
        {"161.142.100.80", 1766, "66.9.149.187", 2794, 0x323e8fc2, 0x51ccc178},
        {"65.69.140.83", 4739, "199.92.111.2", 14230, 0xd718262a, 0xc626b0ea},
        {"12.22.207.184", 38024, "24.19.198.95", 12898, 0xd2d0a5de, 0x5c2b394a},
        {"209.142.163.6", 2217, "38.27.205.30", 48228, 0x82989176, 0xafc7327f},
        {"202.188.127.2", 1303, "153.39.163.191", 44251, 0x5d1809c5, 0x10e828a2},
    };
    for (const Vector& v : vectors) {
        check(steering, v);
    }
}

TEST_CASE("Toeplitz, published vectors for IPv6")
{
    netmsg::Steering steering(4, published_key());
    const Vector vectors[] = {
        {"3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2cc18cd5, 0x40207d3d},
        {"ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0f0c461c, 0xdde51bbf},
        {"fe80::200:f8ff:fe21:67cf", 38024, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, 0x4b61e985, 0x02d1feef},
    };
    for (const Vector& v : vectors) {
        check(steering, v);
    }
}

TEST_CASE("every CPU gets its share of the table and of flows")
{
    for (unsigned cpus : {1U, 2U, 3U, 7U}) {
        base::Random random(cpus);
        netmsg::Steering steering(cpus, random);
        for (unsigned cpu = 0; cpu < cpus; ++cpu) {
            auto n = std::count(steering.table().begin(), steering.table().end(), cpu);
            CHECK(std::abs(n - static_cast<std::ptrdiff_t>(netmsg::steering_entries / cpus)) <= 1);
        }
        std::vector<unsigned> flows(cpus);
        for (std::uint16_t port = 1024; port < 1024 + 8192; ++port) {
            ++flows[steering.cpu_of({{base::IpAddr::v4(0x0a000001), 80}, {base::IpAddr::v4(0x0a000002), port}})];
        }
        for (unsigned n : flows) {
            CHECK(n > 8192 / cpus / 2);
        }
    }
}

TEST_CASE("the hash is not symmetric, and the key decides")
{
    base::Random random(1);
    netmsg::Steering one(2, random);
    netmsg::Steering other(2, random);
    base::FourTuple flow{{base::IpAddr::v4(0x0a000001), 80}, {base::IpAddr::v4(0x0a000002), 40000}};
    CHECK(one.hash(flow) != one.hash({flow.peer, flow.local}));
    CHECK(one.hash(flow) != other.hash(flow));
}
