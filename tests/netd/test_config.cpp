// The configuration file: what is accepted, and the one line for each mistake.
#include <catch2/catch.hpp>

#include <fmt/format.h>

#include "netd/config.hpp"

using netd::parse_config;

namespace {

std::string complaint(std::string_view text)
{
    std::string error;
    bool accepted = parse_config(text, "f.toml", error).has_value();
    return accepted ? "accepted" : error;
}

constexpr std::string_view tap = "[[interface]]\ndriver = \"tap\"\nname = \"nd0\"\naddress = \"10.1.2.3/24\"\n";

} // namespace

TEST_CASE("a complete configuration is taken over")
{
    std::string error;
    auto c = parse_config(R"(
socket = "/tmp/s"
cpus = "0"
[log]
level = "debug"
[limits]
clients = 8
sockets_per_client = 128
ring_bytes = 67108864
[admission]
uids = [1000, 1001]
gids = 7
[[interface]]
driver = "loopback"
announce = true
[[interface]]
driver = "tap"
name = "nd0"
address = ["10.1.2.3/24", "10.9.0.1/16"]
mtu = 9000
queues = 0
mac = "02:00:00:00:00:07"
[[route]]
destination = "0.0.0.0/0"
gateway = "10.1.2.1"
)",
        "f.toml", error);
    REQUIRE(error == "");
    REQUIRE(c);
    CHECK(c->socket == "/tmp/s");
    CHECK(c->cpus == "0");
    CHECK(c->log_level == "debug");
    CHECK(c->limits.clients == 8);
    CHECK(c->limits.sockets_per_client == 128);
    CHECK(c->limits.ring_bytes == 67108864);
    CHECK(c->admission.uids == std::vector<uid_t>{1000, 1001});
    CHECK(c->admission.gids == std::vector<gid_t>{7});
    REQUIRE(c->interfaces.size() == 2);
    CHECK(c->interfaces[0].driver == netd::DriverKind::loopback);
    CHECK(c->interfaces[0].announce);
    const netd::InterfaceConfig& i = c->interfaces[1];
    CHECK(i.name == "nd0");
    CHECK(i.mtu == 9000);
    REQUIRE(i.addresses.size() == 2);
    CHECK(base::to_string(i.addresses[0].addr) == "10.1.2.3");
    CHECK(i.addresses[1].length == 16);
    REQUIRE(i.mac);
    CHECK(base::to_string(*i.mac) == "02:00:00:00:00:07");
    REQUIRE(c->routes.size() == 1);
    CHECK(c->routes[0].destination.length == 0);
    CHECK(base::to_string(c->routes[0].gateway) == "10.1.2.1");
}

TEST_CASE("[tcp]: what Linux's sysctls say, or why not")
{
    std::string error;
    auto c = parse_config(
        "[tcp]\ncongestion_control = \"dctcp\"\necn = 1\nfastopen = 0x403\nmtu_probing = 2\n", "f.toml", error);
    REQUIRE(error == "");
    CHECK(c->tcp.congestion == 2);
    CHECK(c->tcp.ecn == protocols::Ecn::on);
    CHECK(c->tcp.fastopen == 0x403);
    CHECK(c->tcp.mtu_probing == protocols::MtuProbing::always);
    c = parse_config("[tcp]\n", "f.toml", error);
    REQUIRE(error == "");
    CHECK(c->tcp.congestion == 0);
    CHECK(c->tcp.ecn == protocols::Ecn::accept);
    CHECK(c->tcp.fastopen == 1);
    CHECK(complaint("[tcp]\ncongestion_control = \"vegas\"\n")
              .starts_with("f.toml:2: tcp.congestion_control: \"vegas\" is not an algorithm; there are cubic, reno, "
                           "dctcp, bbr, westwood"));
    CHECK(complaint("[tcp]\ncongestion_control = 1\n") == "f.toml:2: tcp.congestion_control: must be a string");
    CHECK(complaint("[tcp]\necn = 6\n") == "f.toml:2: tcp.ecn: 6 is not between 0 and 5");
    CHECK(
        complaint("[tcp]\nfastopen = 8\n") == "f.toml:2: tcp.fastopen: 0x8 has bits besides 1, 2, 4, 0x200 and 0x400");
    CHECK(complaint("[tcp]\nmtu_probing = true\n") == "f.toml:2: tcp.mtu_probing: must be a whole number");
    CHECK(complaint("[tcp]\necm = 1\n") == "f.toml:2: tcp.ecm: is not a key netd knows");
}

TEST_CASE("an empty file is the default configuration")
{
    std::string error;
    auto c = parse_config("", "f.toml", error);
    REQUIRE(c);
    CHECK(c->socket.empty());
    CHECK(c->interfaces.empty());
    CHECK(c->log_level == "info");
}

TEST_CASE("each mistake is named by file, line and key")
{
    std::string t(tap);
    CHECK(complaint("sockt = 1") == "f.toml:1: sockt: is not a key netd knows");
    CHECK(complaint("\n\nsocket = 5") == "f.toml:3: socket: must be a string");
    CHECK(complaint("[log]\nlevel = \"loud\"") ==
          "f.toml:2: log.level: \"loud\" is none of trace, debug, info, warn, error, critical, off");
    CHECK(complaint("[log]\nfile = \"x\"") == "f.toml:2: log.file: is not a key netd knows");
    CHECK(complaint("[limits]\nclients = 0") == "f.toml:2: limits.clients: 0 is not between 1 and 4096");
    CHECK(complaint("[limits]\nclients = -3") == "f.toml:2: limits.clients: -3 is not between 1 and 4096");
    CHECK(complaint("[limits]\nclients = \"x\"") == "f.toml:2: limits.clients: must be a whole number");
    CHECK(complaint("[limits]\nsockets_per_client = 65") ==
          "f.toml:2: limits.sockets_per_client: must be a multiple of 64");
    CHECK(complaint("[limits]\nring_bytes = 4194304") ==
          "f.toml:2: limits.ring_bytes: 4194304 is not between 16777216 and 1099511627776");
    CHECK(complaint("limits = 3") == "f.toml:1: limits: must be a table, written [limits]");
    CHECK(complaint("[interface]\nname = \"x\"") ==
          "f.toml:1: interface: must be a list of tables, written [[interface]]");
    CHECK(complaint("[[interface]]\nname = \"x\"") == "f.toml:1: interface.driver: is missing");
    CHECK(complaint("[[interface]]\ndriver = \"pcap\"") ==
          "f.toml:2: interface.driver: \"pcap\" is not a driver; there are tap, vlan and loopback");
    CHECK(complaint("[[interface]]\ndriver = \"tap\"") == "f.toml:1: interface.name: is missing");
    CHECK(complaint("[[interface]]\ndriver = \"tap\"\nname = \"nd0\"") == "f.toml:1: interface.address: is missing");
    CHECK(complaint(t + "mtu = 100") == "f.toml:5: interface.mtu: 100 is not between 576 and 65521");
    CHECK(complaint(t + "mac = \"01:00:00:00:00:00\"") ==
          "f.toml:5: interface.mac: is not a unicast Ethernet address such as 02:00:00:00:00:01");
    CHECK(complaint(t + "announce = true") ==
          "f.toml:5: interface.announce: is for the loopback driver; a tap is always announced");
    std::string vlan = "[[interface]]\ndriver = \"vlan\"\nname = \"nd0.7\"\naddress = \"10.7.0.1/24\"\n";
    CHECK(complaint(t + vlan + "parent = \"nd0\"\nvlan = 7") == "accepted");
    CHECK(complaint(t + vlan + "vlan = 7") == "f.toml:5: interface.parent: is missing");
    CHECK(complaint(t + vlan + "parent = \"nd0\"") == "f.toml:5: interface.vlan: is missing");
    CHECK(complaint(t + vlan + "parent = \"nd0\"\nvlan = 4095") ==
          "f.toml:10: interface.vlan: 4095 is not between 1 and 4094");
    CHECK(complaint(t + t) == "f.toml:5: interface.name: \"nd0\" is there twice");
    std::string other = "[[interface]]\ndriver = \"vlan\"\nname = \"v\"\naddress = \"10.8.0.1/24\"\nparent = \"nd0\"\n";
    CHECK(complaint(t + vlan + "parent = \"nd0\"\nvlan = 7\n" + other + "vlan = 8") == "accepted");
    CHECK(complaint(t + vlan + "parent = \"nd0\"\nvlan = 7\n" + other + "vlan = 7") ==
          "f.toml:16: interface.vlan: 7 of nd0 is nd0.7");
    CHECK(complaint(t + vlan + "parent = \"ndo\"\nvlan = 7") ==
          "f.toml:9: interface.parent: there is no tap \"ndo\" before it");
    CHECK(complaint(vlan + "parent = \"nd0\"\nvlan = 7\n" + t) ==
          "f.toml:5: interface.parent: there is no tap \"nd0\" before it");
    CHECK(complaint(t + vlan +
                    "parent = \"nd0\"\nvlan = 7\n[[interface]]\ndriver = \"vlan\"\nname = \"v\"\n"
                    "address = \"10.8.0.1/24\"\nparent = \"nd0.7\"\nvlan = 8") ==
          "f.toml:15: interface.parent: there is no tap \"nd0.7\" before it");
    CHECK(complaint("[[route]]\ndestination = \"10.0.0.0/33\"\ngateway = \"1.2.3.4\"") ==
          "f.toml:2: route.destination: \"10.0.0.0/33\" is not a network such as 10.0.0.0/8 or 2001:db8::/32");
    CHECK(complaint("[[route]]\ndestination = \"10.0.0.0/8\"\ngateway = \"0.0.0.0\"") ==
          "f.toml:3: route.gateway: \"0.0.0.0\" is not an IPv4 address");
    std::string route = "[[route]]\ndestination = \"10.0.0.0/8\"\ngateway = ";
    CHECK(complaint(route + "\"10.1.2.9\"\n" + t) == "accepted");
    CHECK(complaint(route + "\"10.1.3.9\"\n" + t) ==
          "f.toml:3: route.gateway: \"10.1.3.9\" is on no interface's network");
    CHECK(complaint(route + "\"127.0.0.9\"\n[[interface]]\ndriver = \"loopback\"\naddress = \"127.0.0.1/8\"") ==
          "f.toml:3: route.gateway: \"127.0.0.9\" is on no interface's network");
    CHECK(complaint("cpus = \"0-x\"").starts_with("f.toml:1: cpus: "));
    CHECK(complaint("a = = 1").starts_with("f.toml:1: "));
}

TEST_CASE("addresses need a prefix length and must be a host's")
{
    auto with = [](const std::string& address) {
        return complaint("[[interface]]\ndriver = \"tap\"\nname = \"nd0\"\naddress = \"" + address + "\"");
    };
    CHECK(with("10.0.0.1/24") == "accepted");
    CHECK(with("10.0.0.1") == "f.toml:4: interface.address: \"10.0.0.1\" is not an address with prefix length, such as "
                              "10.0.0.1/24 or fd00::1/64");
    CHECK(with("10.0.0.1/0") == "f.toml:4: interface.address: \"10.0.0.1/0\" has no prefix length between 1 and 32");
    CHECK(with("10.0.0.1/x") == "f.toml:4: interface.address: \"10.0.0.1/x\" has no prefix length between 1 and 32");
    CHECK(with("224.0.0.1/24") == "f.toml:4: interface.address: \"224.0.0.1/24\" cannot be a host's address");
    CHECK(with("fd00::1/64") == "accepted");
    CHECK(with("fd00::1/0") == "f.toml:4: interface.address: \"fd00::1/0\" has no prefix length between 1 and 128");
    CHECK(with("ff02::1/64") == "f.toml:4: interface.address: \"ff02::1/64\" cannot be a host's address");
    CHECK(with("fe80::1%1/64").starts_with("f.toml:4: interface.address: "));
    CHECK(with("10.0.0/24").starts_with("f.toml:4: interface.address: "));
}

TEST_CASE("what no link can work with is refused")
{
    auto with = [](const std::string& name, const std::string& address, const std::string& more = "") {
        return complaint(
            "[[interface]]\ndriver = \"tap\"\nname = \"" + name + "\"\naddress = " + address + "\n" + more);
    };
    for (const char* address :
        {"127.0.0.1/8", "127.9.9.9/32", "::1/128", "0.1.2.3/8", "255.255.255.255/32", "10.0.0.255/24", "10.0.0.7/30"}) {
        CHECK(with("nd0", fmt::format("\"{}\"", address)) ==
              fmt::format("f.toml:4: interface.address: \"{}\" cannot be a host's address", address));
    }
    CHECK(with("nd0", "\"10.0.0.1/31\"") == "accepted");
    CHECK(with("nd0", "\"10.0.0.255/32\"") == "accepted");
    CHECK(with("nd0", "\"10.0.0.255/23\"") == "accepted");
    CHECK(complaint("[[interface]]\ndriver = \"loopback\"\naddress = \"127.0.0.9/8\"") == "accepted");
    for (const char* name : {".", "..", "nd%d", "a b", "0123456789abcdef"}) {
        CHECK(with(name, "\"10.0.0.1/24\"") ==
              fmt::format("f.toml:3: interface.name: \"{}\" cannot name an interface", name));
    }
    CHECK(with("lo", "\"10.0.0.1/24\"") == "f.toml:3: interface.name: \"lo\" is the loopback's");
    CHECK(with("nd0", "\"10.0.0.1/24\"", "mac = \"00:00:00:00:00:00\"").starts_with("f.toml:5: interface.mac: "));
    CHECK(with("nd0", "\"10.0.0.1/24\"", "mtu = 65521") == "accepted");
    CHECK(
        with("nd0", "\"10.0.0.1/24\"", "mtu = 65522") == "f.toml:5: interface.mtu: 65522 is not between 576 and 65521");
}

TEST_CASE("an address stands once, and no gateway is netd itself")
{
    auto tap_with = [](const std::string& name, const std::string& addresses) {
        return "[[interface]]\ndriver = \"tap\"\nname = \"" + name + "\"\naddress = [" + addresses + "]\n";
    };
    CHECK(complaint(tap_with("a", "\"10.0.0.1/24\", \"10.0.0.1/16\"")) ==
          "f.toml:4: interface.address: 10.0.0.1 is there twice");
    CHECK(complaint(tap_with("a", "\"fd00::1/64\"") + tap_with("b", "\"fd00::1/64\"")) ==
          "f.toml:8: interface.address: fd00::1 is there twice");
    std::string both = tap_with("a", "\"fe80::1/64\"") + tap_with("b", "\"fe80::1/64\", \"10.0.0.1/24\"");
    CHECK(complaint(both) == "accepted");
    auto route = [&](const std::string& destination, const std::string& gateway) {
        return complaint(both + "[[route]]\ndestination = \"" + destination + "\"\ngateway = \"" + gateway + "\"");
    };
    CHECK(route("0.0.0.0/0", "10.0.0.2") == "accepted");
    CHECK(route("0.0.0.0/0", "10.0.0.1") == "f.toml:11: route.gateway: \"10.0.0.1\" is netd's own address");
    CHECK(route("::/0", "fe80::1%a") == "f.toml:11: route.gateway: \"fe80::1%a\" is netd's own address");
    CHECK(route("::/0", "fe80::2%a") == "accepted");
}

TEST_CASE("dhcp stands for an address, of links only")
{
    std::string bare = "[[interface]]\ndriver = \"tap\"\nname = \"nd0\"\n";
    CHECK(complaint(bare + "dhcp = true") == "accepted");
    CHECK(complaint(bare + "dhcp = false").starts_with("f.toml:1: interface.address: is missing"));
    CHECK(complaint(bare + "dhcp = 1").starts_with("f.toml:4: interface.dhcp: "));
    CHECK(complaint("[[interface]]\ndriver = \"loopback\"\ndhcp = true") ==
          "f.toml:3: interface.dhcp: is for links; nobody gives addresses to a loopback");
}

TEST_CASE("IPv6: slaac stands for an address, routes of both families, link-local gateways with their interface")
{
    std::string tap6 = "[[interface]]\ndriver = \"tap\"\nname = \"nd0\"\nslaac = true\n";
    CHECK(complaint(tap6) == "accepted");
    CHECK(complaint(tap6 + "mtu = 1200") == "f.toml:5: interface.mtu: 1200 is not between 1280 and 65521");
    CHECK(complaint("[[interface]]\ndriver = \"loopback\"\nslaac = true") ==
          "f.toml:3: interface.slaac: is for links; nobody advertises on a loopback");
    CHECK(complaint("[[interface]]\ndriver = \"loopback\"\nmtu = 576") == // it has ::1
          "f.toml:3: interface.mtu: 576 is not between 1280 and 65535");
    std::string narrow = std::string(tap) + "mtu = 600\n";
    std::string vlan = "[[interface]]\ndriver = \"vlan\"\nname = \"v\"\nparent = \"nd0\"\nvlan = 7\n";
    CHECK(complaint(narrow + vlan + "address = \"10.8.0.1/24\"") == "accepted");
    CHECK(complaint(narrow + vlan + "address = \"fd00::1/64\"") ==
          "f.toml:9: interface.parent: nd0 has an MTU of 600, and IPv6 needs 1280");
    auto route = [](const std::string& destination, const std::string& gateway) {
        return complaint("[[route]]\ndestination = \"" + destination + "\"\ngateway = \"" + gateway + "\"\n" +
                         std::string(tap) + "[[interface]]\ndriver = \"tap\"\nname = \"nd1\"\n" +
                         "address = \"fd00::7/64\"\n");
    };
    CHECK(route("::/0", "fd00::1") == "accepted");
    CHECK(route("::/0", "fe80::1%nd1") == "accepted");
    CHECK(route("::/0", "fd01::1") == "f.toml:3: route.gateway: \"fd01::1\" is on no interface's network");
    for (const char* gateway : {"fe80::1%nd0", "fe80::1%nd7"}) { // one without IPv6, none
        CHECK(route("::/0", gateway) ==
              fmt::format("f.toml:3: route.gateway: \"{}\" is on no interface's network", gateway));
    }
    CHECK(route("::/0", "10.0.0.1") == "f.toml:3: route.gateway: \"10.0.0.1\" is not an IPv6 address");
    CHECK(route("::/0", "fe80::1") ==
          "f.toml:3: route.gateway: \"fe80::1\": a link-local address is written with its interface, such as "
          "fe80::1%nd0");
    CHECK(route("fe80::/10", "fd00::1").starts_with("f.toml:2: route.destination: "));
}

TEST_CASE("a file that is not there is said so")
{
    std::string error;
    CHECK(!netd::load_config("/nonexistent/netd.toml", error));
    CHECK(error == "/nonexistent/netd.toml: No such file or directory");
    CHECK(!netd::load_config("/tmp", error));
    CHECK(error == "/tmp: Is a directory");
    CHECK(netd::load_config("/dev/null", error)); // an empty one is there
}

TEST_CASE("ring memory has to do for every protocol thread")
{
    netd::LimitsConfig l;
    CHECK(netd::check_limits(l, 64) == "");
    l.ring_bytes = std::uint64_t{1} << 24;
    CHECK(netd::check_limits(l, 1) == "");
    CHECK(netd::check_limits(l, 3) ==
          "limits.ring_bytes: 16777216 is too small: 3 protocol threads need 50331648 at least");
    l.ring_bytes = std::uint64_t{3} << 24;
    CHECK(netd::check_limits(l, 3) == "");
}
