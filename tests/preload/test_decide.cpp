// Which sockets are netd's: by the prefixes that it announces, and netrun --kernel.
#include <catch2/catch.hpp>
#include <cstring>

#include "client/preload/decide.hpp"

using namespace preload;

namespace {

void announce(sockbuf::SegmentHeader& header, const char* text, bool local = false)
{
    base::Prefix p = *base::parse_prefix(text);
    sockbuf::AnnouncedPrefix& to = header.prefixes[header.prefix_count++];
    std::memcpy(to.addr, p.addr.bytes(), 16);
    to.length = p.length;
    to.is_local = local;
}

sockbuf::SegmentHeader house()
{
    sockbuf::SegmentHeader header{};
    announce(header, "10.0.0.0/24");
    announce(header, "10.0.0.2/32", true);
    return header;
}

base::Endpoint at(const char* addr, std::uint16_t port = 80)
{
    return {*base::parse_ip(addr), port};
}

bool goes(const sockbuf::SegmentHeader& header, const base::Endpoint& to, const std::vector<KernelRule>& rules = {})
{
    return decide(header, rules, to, Use::destination, false).netd;
}

bool binds(const sockbuf::SegmentHeader& header, const base::Endpoint& to, bool v6_only = false)
{
    return decide(header, {}, to, Use::bind, v6_only).netd;
}

} // namespace

TEST_CASE("destinations in announced networks are netd's, others the kernel's")
{
    auto h = house();
    CHECK(goes(h, at("10.0.0.1")));
    CHECK(goes(h, at("10.0.0.2")));
    CHECK_FALSE(goes(h, at("10.0.1.1")));
    CHECK(std::strcmp(decide(h, {}, at("10.0.1.1"), Use::destination, false).reason,
              "destination is not in netd's networks") == 0);
}

TEST_CASE("loopback is the kernel's unless announced; a default route does not take it along")
{
    auto h = house();
    CHECK_FALSE(goes(h, at("127.0.0.1")));
    CHECK_FALSE(goes(h, at("0.0.0.0")));
    announce(h, "0.0.0.0/0");
    CHECK(goes(h, at("192.0.2.1")));
    CHECK_FALSE(goes(h, at("127.0.0.1")));
    CHECK_FALSE(binds(h, at("127.0.0.1")));
    announce(h, "127.0.0.0/8");
    CHECK(goes(h, at("127.0.0.1")));
    CHECK(goes(h, at("0.0.0.0")));
    CHECK(binds(h, at("127.0.0.1")));
}

TEST_CASE("binds: the wildcard and netd's own addresses")
{
    auto h = house();
    CHECK(binds(h, at("0.0.0.0")));
    CHECK(binds(h, at("10.0.0.2")));
    CHECK_FALSE(binds(h, at("10.0.0.1"))); // the peer's
    CHECK_FALSE(binds(h, at("127.0.0.1")));
}

TEST_CASE("binds: broadcast addresses, of networks that netd is in")
{
    auto h = house();
    CHECK(binds(h, at("10.0.0.255")));
    CHECK(binds(h, at("255.255.255.255")));
    announce(h, "10.1.0.0/16"); // by a router
    CHECK_FALSE(binds(h, at("10.1.255.255")));
    announce(h, "192.0.2.0/31");
    announce(h, "192.0.2.0/32", true);
    CHECK_FALSE(binds(h, at("192.0.2.1")));
}

TEST_CASE("IPv6: only what is IPv4 in truth")
{
    auto h = house();
    CHECK(binds(h, at("::")));
    CHECK_FALSE(binds(h, at("::"), true));
    CHECK(goes(h, at("::ffff:10.0.0.1")));
    CHECK_FALSE(goes(h, at("2001:db8::1")));
    CHECK_FALSE(goes(h, at("::1")));
}

TEST_CASE("--kernel PREFIX[:PORT]")
{
    std::vector<KernelRule> rules;
    REQUIRE(parse_kernel_rules("10.0.0.9,10.0.0.0/25:443", rules));
    REQUIRE(rules.size() == 2);
    auto h = house();
    CHECK_FALSE(goes(h, at("10.0.0.9"), rules));
    CHECK_FALSE(goes(h, at("10.0.0.1", 443), rules));
    CHECK(goes(h, at("10.0.0.1", 80), rules));
    CHECK(goes(h, at("10.0.0.200", 443), rules));

    rules.clear();
    REQUIRE(parse_kernel_rules("0.0.0.0/0:8080", rules)); // a port, whichever address
    CHECK_FALSE(decide(h, rules, at("0.0.0.0", 8080), Use::bind, false).netd);
    CHECK(decide(h, rules, at("0.0.0.0", 8081), Use::bind, false).netd);

    for (const char* bad : {"10.0.0.0/40", "x", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:99999", "10.0.0.1:8x"}) {
        INFO(bad);
        CHECK_FALSE(parse_kernel_rules(bad, rules));
    }
}

TEST_CASE("IPv6: announced networks are netd's, and wildcards where netd has IPv6 at all")
{
    auto h = house();
    CHECK_FALSE(goes(h, at("fd00::1")));
    CHECK(binds(h, at("::")));
    CHECK_FALSE(binds(h, at("::"), true));
    announce(h, "fd00::/64");
    announce(h, "fd00::2/128", true);
    CHECK(goes(h, at("fd00::1")));
    CHECK_FALSE(goes(h, at("fd01::1")));
    CHECK(binds(h, at("::")));
    CHECK(binds(h, at("::"), true));
    CHECK(binds(h, at("fd00::2")));
    CHECK_FALSE(binds(h, at("fd00::3")));
    CHECK_FALSE(goes(h, at("::1")));
    announce(h, "::/0");
    CHECK(goes(h, at("2001:db8::1")));
    CHECK_FALSE(goes(h, at("::1")));
    std::vector<KernelRule> rules;
    REQUIRE(parse_kernel_rules("fd00::/16", rules));
    CHECK_FALSE(goes(h, at("fd00::1"), rules));
}
