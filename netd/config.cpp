#include "netd/config.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <toml++/toml.h>

#include "lwkt/topology.hpp"
#include "protocols/tcp/fastopen.hpp"
#include "protocols/tcp/tcp_cc.hpp"
#include "sockbuf/abi.hpp"

namespace netd {

namespace {

struct ConfigError {
    std::string text;
};

constexpr std::array log_levels{"trace", "debug", "info", "warn", "error", "critical", "off"};
constexpr std::uint32_t mtu_min = 576;     // RFC 791: what every host must take
constexpr std::uint32_t mtu_min_v6 = 1280; // RFC 8200 5
constexpr std::uint32_t mtu_max = 65535;
constexpr std::uint32_t mtu_max_tap = mtu_max - 14; // Linux counts the Ethernet header
constexpr std::uint32_t vlan_id_max = 4094;         // IEEE 802.1Q

// A table of the file: gives out its values, checked, and knows which keys were asked for; finish() refuses the rest.
class Section {
public:
    Section(const std::string& file, std::string name, const toml::table& table)
        : file_(file), name_(std::move(name)), table_(table)
    {
    }

    [[noreturn]] void fail(const toml::node& at, std::string_view key, const std::string& what) const
    {
        throw ConfigError{fmt::format("{}: {}", where(at, key), what)};
    }
    std::string where(const toml::node& at, std::string_view key) const
    {
        std::string full = name_.empty() ? std::string(key) : key.empty() ? name_ : fmt::format("{}.{}", name_, key);
        return fmt::format("{}:{}: {}", file_, at.source().begin.line, full);
    }
    const toml::table& table() const { return table_; }

    const toml::node* find(std::string_view key)
    {
        known_.emplace_back(key);
        return table_.get(key);
    }
    std::string text(std::string_view key, std::string otherwise)
    {
        const toml::node* node = find(key);
        return node == nullptr ? std::move(otherwise) : text_of(*node, key);
    }
    std::string required_text(std::string_view key)
    {
        const toml::node* node = find(key);
        if (node == nullptr) {
            fail(table_, key, "is missing");
        }
        return text_of(*node, key);
    }
    std::string text_of(const toml::node& node, std::string_view key) const
    {
        const auto* value = node.as_string();
        if (value == nullptr) {
            fail(node, key, "must be a string");
        }
        return value->get();
    }
    std::uint64_t number(std::string_view key, std::uint64_t low, std::uint64_t high, std::uint64_t otherwise)
    {
        const toml::node* node = find(key);
        return node == nullptr ? otherwise : number_of(*node, key, low, high);
    }
    std::uint64_t number_of(const toml::node& node, std::string_view key, std::uint64_t low, std::uint64_t high) const
    {
        const auto* value = node.as_integer();
        if (value == nullptr) {
            fail(node, key, "must be a whole number");
        }
        std::int64_t n = value->get();
        if (n < 0 || static_cast<std::uint64_t>(n) < low || static_cast<std::uint64_t>(n) > high) {
            fail(node, key, fmt::format("{} is not between {} and {}", n, low, high));
        }
        return static_cast<std::uint64_t>(n);
    }
    bool truth(std::string_view key, bool otherwise)
    {
        const toml::node* node = find(key);
        if (node == nullptr) {
            return otherwise;
        }
        const auto* value = node->as_boolean();
        if (value == nullptr) {
            fail(*node, key, "must be true or false");
        }
        return value->get();
    }
    // Calls f(element) for a single value or for every element of an array.
    template <typename F>
    void each(std::string_view key, F f)
    {
        const toml::node* node = find(key);
        if (node == nullptr) {
            return;
        }
        if (const auto* array = node->as_array()) {
            for (const toml::node& element : *array) {
                f(element);
            }
        } else {
            f(*node);
        }
    }
    void finish() const
    {
        for (auto&& [key, node] : table_) {
            if (std::find(known_.begin(), known_.end(), key.str()) == known_.end()) {
                fail(node, key.str(), "is not a key netd knows");
            }
        }
    }

private:
    const std::string& file_;
    std::string name_;
    const toml::table& table_;
    std::vector<std::string> known_;
};

// No host on a link can be reached at it (RFC 1122 3.2.1.3, RFC 3021, RFC 4291 2.5.3).
bool unfit_for_link(const base::IpAddr& addr, unsigned length)
{
    if (!addr.is_v4()) {
        return addr.is_loopback();
    }
    std::uint32_t hosts = length < 31 ? ~std::uint32_t{0} >> length : 0;
    return addr.is_loopback() || addr.v4() >> 24 == 0 || addr.v4() == ~std::uint32_t{0} ||
           (hosts != 0 && (addr.v4() & hosts) == hosts);
}

// "a.b.c.d/len" or "x::y/len" with the host's own bits kept.
protocols::InterfaceAddress parse_address(const Section& s, const toml::node& node, std::string_view key, bool link)
{
    std::string text = s.text_of(node, key);
    auto slash = text.find('/');
    auto addr = base::parse_ip(std::string_view(text).substr(0, slash));
    if (slash == std::string::npos || !addr || addr->zone() != 0) {
        s.fail(node, key,
            fmt::format("\"{}\" is not an address with prefix length, such as 10.0.0.1/24 or fd00::1/64", text));
    }
    auto network = base::parse_prefix((addr->is_v4() ? "0.0.0.0" : "::") + text.substr(slash));
    if (!network || network->length == 0) {
        s.fail(node, key, fmt::format("\"{}\" has no prefix length between 1 and {}", text, addr->is_v4() ? 32 : 128));
    }
    if (addr->is_any() || addr->is_multicast() || (link && unfit_for_link(*addr, network->length))) {
        s.fail(node, key, fmt::format("\"{}\" cannot be a host's address", text));
    }
    return {*addr, network->length};
}

DriverKind parse_driver(Section& s)
{
    std::string text = s.required_text("driver");
    if (text == "tap") {
        return DriverKind::tap;
    }
    if (text == "loopback") {
        return DriverKind::loopback;
    }
    if (text == "vlan") {
        return DriverKind::vlan;
    }
    s.fail(*s.table().get("driver"), "driver",
        fmt::format("\"{}\" is not a driver; there are tap, vlan and loopback", text));
}

void parse_vlan(Section& s, InterfaceConfig& i)
{
    i.parent = s.required_text("parent");
    const toml::node* number = s.find("vlan");
    if (number == nullptr) {
        s.fail(s.table(), "vlan", "is missing");
    }
    i.vlan = static_cast<std::uint16_t>(s.number_of(*number, "vlan", 1, vlan_id_max));
}

std::string parse_name(Section& s, bool link)
{
    std::string name = link ? s.required_text("name") : s.text("name", "lo");
    // As dev_valid_name of Linux, which counts up for a %.
    if (name.empty() || name.size() > 15 || name.find_first_of("/:% \t\n\v\f\r") != std::string::npos || name == "." ||
        name == "..") {
        s.fail(*s.table().get("name"), "name", fmt::format("\"{}\" cannot name an interface", name));
    }
    if (link && name == "lo") {
        s.fail(*s.table().get("name"), "name", "\"lo\" is the loopback's");
    }
    return name;
}

InterfaceConfig parse_interface(Section s)
{
    InterfaceConfig i;
    i.driver = parse_driver(s);
    bool tap = i.driver == DriverKind::tap;
    bool vlan = i.driver == DriverKind::vlan;
    bool link = tap || vlan;
    i.name = parse_name(s, link);
    s.each("address", [&](const toml::node& n) { i.addresses.push_back(parse_address(s, n, "address", link)); });
    i.slaac = s.truth("slaac", false);
    if (!link && i.slaac) {
        s.fail(*s.table().get("slaac"), "slaac", "is for links; nobody advertises on a loopback");
    }
    i.dhcp = s.truth("dhcp", false);
    if (!link && i.dhcp) {
        s.fail(*s.table().get("dhcp"), "dhcp", "is for links; nobody gives addresses to a loopback");
    }
    if (link && i.addresses.empty() && !i.slaac && !i.dhcp) {
        s.fail(s.table(), "address", "is missing");
    }
    std::uint32_t mtu_least = i.has_ipv6() || !link ? mtu_min_v6 : mtu_min; // a loopback always has ::1
    i.mtu = static_cast<std::uint32_t>(
        s.number("mtu", mtu_least, tap ? mtu_max_tap : mtu_max, tap ? 1500 : mtu_max)); // of a vlan: its parent's
    i.queues = static_cast<std::uint32_t>(s.number("queues", 0, sockbuf::max_cpus, 0));
    if (vlan) {
        parse_vlan(s, i);
    }
    if (const toml::node* node = vlan ? nullptr : s.find("mac")) {
        i.mac = base::parse_mac(s.text_of(*node, "mac"));
        if (!i.mac || i.mac->is_multicast() || *i.mac == base::MacAddr{}) {
            s.fail(*node, "mac", "is not a unicast Ethernet address such as 02:00:00:00:00:01");
        }
    }
    i.announce = s.truth("announce", false);
    if (link && s.table().get("announce") != nullptr) {
        s.fail(*s.table().get("announce"), "announce", "is for the loopback driver; a tap is always announced");
    }
    s.finish();
    return i;
}

// What is wrong with a VLAN among the interfaces before it.
void check_vlan(const Section& s, const InterfaceConfig& i, const std::vector<InterfaceConfig>& before)
{
    const toml::node& at = *s.table().get("parent");
    auto parent = std::find_if(before.begin(), before.end(),
        [&](const InterfaceConfig& b) { return b.name == i.parent && b.driver == DriverKind::tap; });
    if (parent == before.end()) {
        s.fail(at, "parent", fmt::format("there is no tap \"{}\" before it", i.parent));
    }
    if (i.has_ipv6() && parent->mtu < mtu_min_v6) {
        s.fail(at, "parent", fmt::format("{} has an MTU of {}, and IPv6 needs {}", i.parent, parent->mtu, mtu_min_v6));
    }
    for (const InterfaceConfig& other : before) {
        if (other.driver == DriverKind::vlan && other.parent == i.parent && other.vlan == i.vlan) {
            s.fail(*s.table().get("vlan"), "vlan", fmt::format("{} of {} is {}", i.vlan, i.parent, other.name));
        }
    }
}

// An address that stands twice, on one interface or on two; a link-local one may be each link's.
void check_addresses(const Section& s, const InterfaceConfig& i, const std::vector<InterfaceConfig>& before)
{
    auto count = [](const InterfaceConfig& in, const base::IpAddr& addr) {
        return std::count_if(in.addresses.begin(), in.addresses.end(), [&](const auto& a) { return a.addr == addr; });
    };
    for (const protocols::InterfaceAddress& a : i.addresses) {
        bool elsewhere =
            !a.addr.is_link_local_v6() &&
            std::any_of(before.begin(), before.end(), [&](const auto& other) { return count(other, a.addr) != 0; });
        if (elsewhere || count(i, a.addr) > 1) {
            s.fail(*s.table().get("address"), "address", fmt::format("{} is there twice", base::to_string(a.addr)));
        }
    }
}

// As protocols::Stack::add_route finds the interface.
bool reaches(const InterfaceConfig& i, const RouteConfig& r)
{
    if (i.driver == DriverKind::loopback) {
        return false;
    }
    if (!r.gateway_zone.empty()) {
        return i.name == r.gateway_zone && i.has_ipv6();
    }
    return std::any_of(i.addresses.begin(), i.addresses.end(), [&](const protocols::InterfaceAddress& a) {
        return a.addr.is_v4() == r.gateway.is_v4() && base::Prefix{a.addr, a.length}.contains(r.gateway);
    });
}

bool is_own_address(const InterfaceConfig& i, const RouteConfig& r)
{
    return (r.gateway_zone.empty() || r.gateway_zone == i.name) &&
           std::any_of(i.addresses.begin(), i.addresses.end(), [&](const auto& a) { return a.addr == r.gateway; });
}

// `interfaces`: all of the file's.
RouteConfig parse_route(Section s, const std::vector<InterfaceConfig>& interfaces)
{
    RouteConfig r;
    std::string destination = s.required_text("destination");
    std::string gateway = s.required_text("gateway");
    const toml::node& destination_node = *s.table().get("destination");
    auto prefix = base::parse_prefix(destination);
    if (!prefix || prefix->addr.is_multicast() || prefix->addr.is_link_local_v6()) {
        s.fail(destination_node, "destination",
            fmt::format("\"{}\" is not a network such as 10.0.0.0/8 or 2001:db8::/32", destination));
    }
    auto percent = gateway.find('%');
    auto addr = base::parse_ip(std::string_view(gateway).substr(0, percent));
    if (!addr || addr->is_any() || addr->is_v4() != prefix->addr.is_v4()) {
        s.fail(*s.table().get("gateway"), "gateway",
            fmt::format("\"{}\" is not an IPv{} address", gateway, prefix->addr.is_v4() ? 4 : 6));
    }
    if (addr->is_link_local_v6() != (percent != std::string::npos)) {
        s.fail(*s.table().get("gateway"), "gateway",
            fmt::format("\"{}\": a link-local address is written with its interface, such as fe80::1%nd0", gateway));
    }
    r.gateway_zone = percent == std::string::npos ? "" : gateway.substr(percent + 1);
    r.destination = *prefix;
    r.gateway = *addr;
    r.where = s.where(destination_node, "destination");
    if (std::none_of(interfaces.begin(), interfaces.end(), [&](const InterfaceConfig& i) { return reaches(i, r); })) {
        s.fail(*s.table().get("gateway"), "gateway", fmt::format("\"{}\" is on no interface's network", gateway));
    }
    if (std::any_of(interfaces.begin(), interfaces.end(), [&](const auto& i) { return is_own_address(i, r); })) {
        s.fail(*s.table().get("gateway"), "gateway", fmt::format("\"{}\" is netd's own address", gateway));
    }
    s.finish();
    return r;
}

LimitsConfig parse_limits(Section s)
{
    LimitsConfig l;
    l.clients = static_cast<std::uint32_t>(s.number("clients", 1, 4096, l.clients));
    l.sockets_per_client =
        static_cast<std::uint32_t>(s.number("sockets_per_client", 64, sockbuf::max_sockets, l.sockets_per_client));
    if (l.sockets_per_client % 64 != 0) {
        s.fail(*s.table().get("sockets_per_client"), "sockets_per_client", "must be a multiple of 64");
    }
    l.ring_bytes =
        s.number("ring_bytes", std::uint64_t{1} << sockbuf::ring_shift_max, std::uint64_t{1} << 40, l.ring_bytes);
    if (l.ring_bytes % 4096 != 0) {
        s.fail(*s.table().get("ring_bytes"), "ring_bytes", "must be a multiple of 4096");
    }
    s.finish();
    return l;
}

AdmissionConfig parse_admission(Section s)
{
    AdmissionConfig a;
    constexpr std::uint64_t id_max = 0xfffffffe;
    s.each(
        "uids", [&](const toml::node& n) { a.uids.push_back(static_cast<uid_t>(s.number_of(n, "uids", 0, id_max))); });
    a.share = s.truth("share", a.share);
    s.each(
        "gids", [&](const toml::node& n) { a.gids.push_back(static_cast<gid_t>(s.number_of(n, "gids", 0, id_max))); });
    s.finish();
    return a;
}

TcpConfig parse_tcp(Section s)
{
    TcpConfig t;
    if (const toml::node* node = s.find("congestion_control")) {
        std::string name = s.text_of(*node, "congestion_control");
        int index = protocols::tcp::congestion_by_name(name);
        if (index < 0) {
            s.fail(*node, "congestion_control",
                fmt::format("\"{}\" is not an algorithm; there are {}", name,
                    fmt::join(protocols::tcp::congestion_names(), ", ")));
        }
        t.congestion = static_cast<std::uint8_t>(index);
    }
    t.ecn = static_cast<protocols::Ecn>(s.number("ecn", 0, 5, static_cast<std::uint64_t>(t.ecn)));
    if (const toml::node* node = s.find("fastopen")) {
        using namespace protocols::tcp;
        t.fastopen = static_cast<unsigned>(s.number_of(*node, "fastopen", 0, fastopen_bits));
        if ((t.fastopen & ~fastopen_bits) != 0) {
            s.fail(*node, "fastopen", fmt::format("{:#x} has bits besides 1, 2, 4, 0x200 and 0x400", t.fastopen));
        }
    }
    t.mtu_probing = static_cast<protocols::MtuProbing>(s.number("mtu_probing", 0, 2, 0));
    s.finish();
    return t;
}

class FileParser {
public:
    FileParser(const std::string& file, const toml::table& root) : file_(file), root_(file, "", root) {}

    Config parse()
    {
        Config c;
        c.socket = root_.text("socket", "");
        c.cpus = parse_cpus();
        c.join_pairs = root_.truth("join_pairs", c.join_pairs);
        c.address_secret = root_.text("address_secret", "");
        if (const toml::node* node = root_.find("log")) {
            Section log = section(*node, "log");
            c.log_level = log.text("level", c.log_level);
            if (!is_log_level(c.log_level)) {
                log.fail(*log.table().get("level"), "level",
                    fmt::format("\"{}\" is none of {}", c.log_level, fmt::join(log_levels, ", ")));
            }
            log.finish();
        }
        if (const toml::node* node = root_.find("limits")) {
            c.limits = parse_limits(section(*node, "limits"));
        }
        if (const toml::node* node = root_.find("admission")) {
            c.admission = parse_admission(section(*node, "admission"));
        }
        if (const toml::node* node = root_.find("tcp")) {
            c.tcp = parse_tcp(section(*node, "tcp"));
        }
        tables("interface", [&](Section s) { add_interface(c, std::move(s)); });
        tables("route", [&](Section s) { c.routes.push_back(parse_route(std::move(s), c.interfaces)); });
        root_.finish();
        return c;
    }

private:
    std::string parse_cpus()
    {
        std::string list = root_.text("cpus", "");
        std::string error;
        if (!list.empty() && lwkt::parse_cpu_list(list, error).empty()) {
            root_.fail(*root_.table().get("cpus"), "cpus", error);
        }
        return list;
    }
    Section section(const toml::node& node, const std::string& name) const
    {
        const toml::table* table = node.as_table();
        if (table == nullptr) {
            root_.fail(node, name, fmt::format("must be a table, written [{}]", name));
        }
        return Section{file_, name, *table};
    }
    template <typename F>
    void tables(const std::string& name, F f)
    {
        const toml::node* node = root_.find(name);
        if (node == nullptr) {
            return;
        }
        if (!node->is_array_of_tables()) {
            root_.fail(*node, name, fmt::format("must be a list of tables, written [[{}]]", name));
        }
        for (const toml::node& element : *node->as_array()) {
            f(section(element, name));
        }
    }
    void add_interface(Config& c, Section s)
    {
        const toml::node& at = s.table();
        InterfaceConfig i = parse_interface(s);
        for (const InterfaceConfig& other : c.interfaces) {
            if (other.name == i.name) {
                s.fail(at, "name", fmt::format("\"{}\" is there twice", i.name));
            }
            if (other.driver == DriverKind::loopback && i.driver == DriverKind::loopback) {
                s.fail(at, "driver", "a second loopback");
            }
        }
        if (i.driver == DriverKind::vlan) {
            check_vlan(s, i, c.interfaces);
        }
        check_addresses(s, i, c.interfaces);
        c.interfaces.push_back(std::move(i));
    }

    const std::string& file_;
    Section root_;
};

} // namespace

bool InterfaceConfig::has_ipv6() const
{
    auto is_v6 = [](const protocols::InterfaceAddress& a) { return !a.addr.is_v4(); };
    return slaac || std::any_of(addresses.begin(), addresses.end(), is_v6);
}

bool is_log_level(const std::string& text)
{
    return std::find(log_levels.begin(), log_levels.end(), text) != log_levels.end();
}

std::string check_limits(const LimitsConfig& limits, std::size_t threads)
{
    std::uint64_t needed = std::uint64_t{threads} << sockbuf::ring_shift_max; // each has a share, for rings of any size
    if (limits.ring_bytes >= needed) {
        return "";
    }
    return fmt::format("limits.ring_bytes: {} is too small: {} protocol thread{} need{} {} at least", limits.ring_bytes,
        threads, threads == 1 ? "" : "s", threads == 1 ? "s" : "", needed);
}

std::optional<Config> parse_config(std::string_view text, const std::string& name, std::string& error)
{
    try {
        toml::table root = toml::parse(text, name);
        return FileParser(name, root).parse();
    } catch (const toml::parse_error& e) {
        error = fmt::format("{}:{}: {}", name, e.source().begin.line, e.description());
    } catch (const ConfigError& e) {
        error = e.text;
    }
    return std::nullopt;
}

std::optional<Config> load_config(const std::string& path, std::string& error)
{
    std::ifstream in(path);
    std::ostringstream text;
    bool empty = in && in.peek() == std::char_traits<char>::eof() && !in.bad(); // << takes that for a failure
    if (!in.is_open() || (!empty && !(text << in.rdbuf()))) {
        error = fmt::format("{}: {}", path, std::strerror(errno));
        return std::nullopt;
    }
    return parse_config(text.str(), path, error);
}

std::string default_socket_path()
{
    if (const char* path = std::getenv("NETD_SOCKET"); path != nullptr && *path != '\0') {
        return path;
    }
    const char* runtime = std::getenv("XDG_RUNTIME_DIR");
    if (geteuid() != 0 && runtime != nullptr && *runtime != '\0') {
        return fmt::format("{}/netd.sock", runtime);
    }
    return "/run/netd.sock";
}

} // namespace netd
