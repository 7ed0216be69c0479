// Which sources of a group are wanted (RFC 3376 2 and 3, RFC 3810 4): of a socket, or merged over the sockets of an
// interface. Pure; control path only, but for admits().
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/net_addr.hpp"

namespace protocols {

struct SourceFilter {
    bool exclude = false;              // all but `sources`; else only they
    std::vector<base::IpAddr> sources; // sorted, as on the wire: the interface is their zone

    bool admits(const base::IpAddr& source) const
    {
        return std::binary_search(sources.begin(), sources.end(), source) != exclude;
    }
    bool nothing() const { return !exclude && sources.empty(); }
    // False when it is there already.
    bool add(const base::IpAddr& source);
    bool remove(const base::IpAddr& source); // false when it is not there
    bool operator==(const SourceFilter&) const = default;
};

// What a socket has joined.
struct Membership {
    base::IpAddr group; // in its zone
    std::uint32_t interface = 0;
    SourceFilter filter;
    std::vector<base::IpAddr> coming; // sources of a list (MCAST_MSFILTER) whose rest is on its way
};

// RFC 3376 3.2: what an interface must receive for both.
SourceFilter merged(const SourceFilter& a, const SourceFilter& b);
// In `a` and not in `b`; in both. Sorted lists.
std::vector<base::IpAddr> difference(const std::vector<base::IpAddr>& a, const std::vector<base::IpAddr>& b);
std::vector<base::IpAddr> common(const std::vector<base::IpAddr>& a, const std::vector<base::IpAddr>& b);

} // namespace protocols
