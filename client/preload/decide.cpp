#include "client/preload/decide.hpp"

#include <algorithm>
#include <charconv>

namespace preload {

namespace {

bool parse_rule(std::string_view text, KernelRule& out)
{
    std::size_t slash = text.rfind('/');
    std::size_t colon = text.rfind(':');
    // A colon after the length is the port; without a length only an IPv4 address can have one.
    bool with_port =
        colon != std::string_view::npos && (slash != std::string_view::npos ? colon > slash : text.find(':') == colon);
    if (with_port) {
        std::string_view digits = text.substr(colon + 1);
        auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out.port);
        if (error != std::errc{} || end != digits.data() + digits.size() || out.port == 0) {
            return false;
        }
        text = text.substr(0, colon);
    }
    if (slash != std::string_view::npos) {
        auto prefix = base::parse_prefix(text);
        if (prefix) {
            out.prefix = *prefix;
        }
        return prefix.has_value();
    }
    auto address = base::parse_ip(text);
    if (address) {
        out.prefix = {*address, static_cast<std::uint8_t>(address->is_v4() ? 32 : 128)};
    }
    return address.has_value();
}

bool has_ipv6(const sockbuf::SegmentHeader& netd)
{
    for (std::uint32_t i = 0; i < netd.prefix_count && i < sockbuf::max_prefixes; ++i) {
        if (!base::IpAddr::v6(netd.prefixes[i].addr).is_v4()) {
            return true;
        }
    }
    return false;
}

bool announced(const sockbuf::SegmentHeader& netd, const base::IpAddr& addr, bool only_local)
{
    for (std::uint32_t i = 0; i < netd.prefix_count && i < sockbuf::max_prefixes; ++i) {
        const sockbuf::AnnouncedPrefix& p = netd.prefixes[i];
        base::IpAddr network = base::IpAddr::v6(p.addr);
        // A default route does not take this host's loopback along.
        bool may = addr.is_loopback() == network.is_loopback() && (!only_local || p.is_local != 0);
        if (may && base::Prefix{network, p.length}.contains(addr)) {
            return true;
        }
    }
    return false;
}

// RFC 1122 3.2.1.3: what a datagram socket binds to that is to hear nothing but broadcasts: the link's, or that of a
// network which netd has an address in.
bool is_broadcast(const sockbuf::SegmentHeader& netd, const base::IpAddr& addr)
{
    constexpr std::uint8_t length_max = 30; // RFC 3021: two hosts on a /31, and no broadcast
    if (!addr.is_v4()) {
        return false;
    }
    if (addr.v4() == 0xffffffff) {
        return true;
    }
    std::uint32_t count = std::min<std::uint32_t>(netd.prefix_count, sockbuf::max_prefixes);
    const auto* end = netd.prefixes + count;
    return std::any_of(netd.prefixes, end, [&](const sockbuf::AnnouncedPrefix& p) {
        base::Prefix network{base::IpAddr::v6(p.addr), p.length};
        std::uint32_t hosts = p.length == 0 || p.length > length_max ? 0 : ~std::uint32_t{0} >> p.length;
        bool last = network.addr.is_v4() && hosts != 0 && network.contains(addr) && (addr.v4() & hosts) == hosts;
        return last && std::any_of(netd.prefixes, end, [&](const sockbuf::AnnouncedPrefix& own) {
            return own.is_local != 0 && network.contains(base::IpAddr::v6(own.addr));
        });
    });
}

} // namespace

bool parse_kernel_rules(std::string_view text, std::vector<KernelRule>& out)
{
    bool good = true;
    while (!text.empty()) {
        std::size_t comma = text.find(',');
        KernelRule rule;
        if (parse_rule(text.substr(0, comma), rule)) {
            out.push_back(rule);
        } else {
            good = false;
        }
        text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    }
    return good;
}

Verdict decide(const sockbuf::SegmentHeader& netd, const std::vector<KernelRule>& rules, const base::Endpoint& at,
    Use use, bool v6_only)
{
    base::IpAddr addr = at.addr.on_wire();
    bool ipv6 = has_ipv6(netd);
    if (addr == base::IpAddr{} && !v6_only && !ipv6) { // "::" takes IPv4 too unless told otherwise
        addr = base::IpAddr::any_v4();
    }
    if (!addr.is_v4() && !ipv6) {
        return {false, "netd has no IPv6 here"};
    }
    for (const KernelRule& rule : rules) {
        bool both = addr == base::IpAddr{} && !v6_only && rule.prefix.contains(base::IpAddr::any_v4());
        if ((both || rule.prefix.contains(addr)) && (rule.port == 0 || rule.port == at.port)) {
            return {false, "netrun --kernel says so"};
        }
    }
    if (use == Use::bind) {
        if (addr.is_any() || announced(netd, addr, true) || addr.is_multicast() || is_broadcast(netd, addr)) {
            return {true, ""};
        }
        // A network that is netd's as a whole (loopback by configuration) has all its addresses.
        return addr.is_loopback() && announced(netd, addr, false) ? Verdict{true, ""}
                                                                  : Verdict{false, "address is not one of netd's"};
    }
    if (addr.is_any()) { // connect to 0.0.0.0 or :: is connect to this host
        addr = addr.is_v4() ? base::IpAddr::v4(0x7f000001) : base::IpAddr::loopback_v6();
    }
    if (addr.is_loopback() && !announced(netd, addr, false)) {
        return {false, "loopback is the kernel's"};
    }
    return announced(netd, addr, false) ? Verdict{true, ""} : Verdict{false, "destination is not in netd's networks"};
}

} // namespace preload
