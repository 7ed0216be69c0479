// Cases that run on both families: written with IPv4 addresses, they run over IPv6 when NETD_FAMILY is 6 (meson runs
// each program both ways). 10.0.0.N becomes fd00::N, and so on; sockets are then AF_INET6.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "base/net_addr.hpp"

namespace test {

inline bool over_v6()
{
    const char* family = std::getenv("NETD_FAMILY");
    return family != nullptr && std::string_view(family) == "6";
}
inline int family()
{
    return over_v6() ? AF_INET6 : AF_INET;
}

// "10.0.0.1" or "10.0.0.1/24" in the family that runs.
inline std::string in_family(std::string_view text)
{
    if (!over_v6()) {
        return std::string(text);
    }
    auto slash = text.find('/');
    std::string_view host = text.substr(0, slash);
    bool has_length = slash != std::string_view::npos;
    if (host == "0.0.0.0") {
        return has_length ? "::/0" : "::";
    }
    if (host == "127.0.0.1") {
        return has_length ? "::1/128" : "::1";
    }
    return "fd00::" + std::string(host.substr(host.rfind('.') + 1)) + (has_length ? "/64" : "");
}
inline base::IpAddr address(std::string_view text)
{
    return base::parse_ip(in_family(text)).value();
}
// "10.0.0.1:80" in the family that runs.
inline base::Endpoint endpoint(std::string_view text)
{
    auto colon = text.rfind(':');
    return {address(text.substr(0, colon)), static_cast<std::uint16_t>(std::stoi(std::string(text.substr(colon + 1))))};
}

} // namespace test
