// Which sockets are netd's (decided at bind, connect or first send): a pure function of the address, of what netd
// announces and of what `netrun --kernel` excludes.
//
// A wildcard is netd's, IPv4's always and "::" where netd has IPv6, or without IPV6_V6ONLY (it then serves IPv4 alone):
// it serves none of the kernel's addresses then, which cannot be had from here.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/net_addr.hpp"
#include "sockbuf/abi.hpp"

namespace preload {

struct KernelRule {
    base::Prefix prefix;
    std::uint16_t port = 0; // 0 = all
};

// "PREFIX[:PORT],..." as netrun passes it in NETD_KERNEL. False when some part is not of that form; the rest is used.
bool parse_kernel_rules(std::string_view text, std::vector<KernelRule>& out);

struct Verdict {
    bool netd;
    const char* reason; // why the kernel
};

enum class Use : std::uint8_t { bind, destination };

// `v6_only`: of an AF_INET6 socket, IPV6_V6ONLY.
Verdict decide(const sockbuf::SegmentHeader& netd, const std::vector<KernelRule>& rules, const base::Endpoint& at,
    Use use, bool v6_only);

} // namespace preload
