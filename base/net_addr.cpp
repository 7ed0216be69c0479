#include "base/net_addr.hpp"

#include <arpa/inet.h>

#include <charconv>
#include <cstdio>

namespace base {

std::string to_string(const IpAddr& a)
{
    char text[INET6_ADDRSTRLEN];
    if (a.is_v4()) {
        inet_ntop(AF_INET, a.bytes() + 12, text, sizeof text);
    } else {
        inet_ntop(AF_INET6, a.on_wire().bytes(), text, sizeof text);
    }
    return a.zone() == 0 ? text : std::string{text} + "%" + std::to_string(a.zone());
}

std::optional<IpAddr> parse_ip(std::string_view text)
{
    auto percent = text.find('%');
    std::string copy{text.substr(0, percent)};
    unsigned char raw[16];
    if (percent != std::string_view::npos) {
        std::uint16_t zone = 0;
        auto [end, error] = std::from_chars(text.data() + percent + 1, text.data() + text.size(), zone);
        bool good = error == std::errc{} && end == text.data() + text.size() && zone != 0 &&
                    inet_pton(AF_INET6, copy.c_str(), raw) == 1 && IpAddr::v6(raw).is_link_scoped();
        return good ? std::optional{IpAddr::v6(raw).in_zone(zone)} : std::nullopt;
    }
    if (inet_pton(AF_INET, copy.c_str(), raw) == 1) {
        return IpAddr::v4(load_be32(raw));
    }
    if (inet_pton(AF_INET6, copy.c_str(), raw) == 1) {
        return IpAddr::v6(raw);
    }
    return std::nullopt;
}

std::string to_string(const Endpoint& e)
{
    std::string host = e.addr.is_v4() ? to_string(e.addr) : "[" + to_string(e.addr) + "]";
    return host + ":" + std::to_string(e.port);
}

std::string to_string(const MacAddr& m)
{
    char text[18];
    const auto& b = m.bytes;
    std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
    return text;
}

std::optional<MacAddr> parse_mac(std::string_view text)
{
    MacAddr m;
    if (text.size() != 17) {
        return std::nullopt;
    }
    for (int i = 0; i < 6; ++i) {
        const char* begin = text.data() + i * 3;
        auto [end, error] = std::from_chars(begin, begin + 2, m.bytes[static_cast<std::size_t>(i)], 16);
        if (error != std::errc{} || end != begin + 2 || (i < 5 && *end != ':')) {
            return std::nullopt;
        }
    }
    return m;
}

bool Prefix::contains(const IpAddr& a) const
{
    if (a.is_v4() != addr.is_v4()) {
        return false;
    }
    unsigned bits = length + (addr.is_v4() ? 96U : 0U);
    unsigned whole = bits / 8;
    if (std::memcmp(a.bytes(), addr.bytes(), whole) != 0) {
        return false;
    }
    unsigned rest = bits % 8;
    return rest == 0 || ((a.bytes()[whole] ^ addr.bytes()[whole]) >> (8 - rest)) == 0;
}

std::optional<Prefix> parse_prefix(std::string_view text)
{
    auto slash = text.find('/');
    auto addr = parse_ip(text.substr(0, slash));
    if (!addr) {
        return std::nullopt;
    }
    unsigned limit = addr->is_v4() ? 32 : 128;
    unsigned length = limit;
    if (slash != std::string_view::npos) {
        auto digits = text.substr(slash + 1);
        auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
        if (error != std::errc{} || end != digits.data() + digits.size() || length > limit) {
            return std::nullopt;
        }
    }
    return Prefix{*addr, static_cast<std::uint8_t>(length)};
}

std::string to_string(const Prefix& p)
{
    return to_string(p.addr) + "/" + std::to_string(p.length);
}

} // namespace base
