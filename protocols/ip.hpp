// What IPv4 and IPv6 have in common below the transports: how packets are dropped, go to another CPU or come back to
// this one, their checksums and lengths, and what leaves without a link header. Owner: the domain's CPU.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/error.hpp"
#include "netmsg/packet.hpp"
#include "protocols/stack.hpp"

namespace protocols {

inline void drop(netmsg::Packet& p, std::atomic<std::uint64_t>& reason)
{
    count(reason);
    p.free();
}
// The same of what was to be sent.
inline base::Error refuse(netmsg::Packet& p, std::atomic<std::uint64_t>& reason, base::Error error)
{
    drop(p, reason);
    return error;
}

// ---- Between CPUs ---------------------------------------------------------------------------------------------------

// Sends the packet to another CPU, which calls `next` with it; drops and counts when shed or forwarded too often:
// false.
bool forward_to_cpu(
    Domain& d, base::CpuId to, netmsg::Packet& p, lwkt::Message::Dispatch next, lwkt::Shed shed = lwkt::Shed::early);
// The domain and interface of a packet that was forwarded here.
Domain& forwarded_domain(lwkt::Message& m);
Interface& received_on(Domain& d, const netmsg::Packet& p);
// Copies the packet's bytes to every other CPU, which calls `next` with its copy; false when some CPU got none.
bool tell_all_cpus(Domain& d, const netmsg::Packet& p, lwkt::Message::Dispatch next);
// A packet of ours to a group comes back: a copy, as if it had arrived on the interface by which it leaves, is sent as
// a message to this CPU, so that input never nests.
void ip_loop(Domain& d, const Route& route, const netmsg::Packet& p, lwkt::Message::Dispatch next);

// ---- Checksums and lengths ------------------------------------------------------------------------------------------

// Whether the sum over the pseudo-header and `p`, which begins with the transport's header, is right.
bool checksum_correct(const IpIn& ip, std::uint8_t protocol, const netmsg::Packet& p);
// The longest packet that what leaves as `p` becomes, where a device or we cut it; data behind the IP header.
std::uint32_t longest_cut(const netmsg::Packet& p, std::uint32_t ip_header_bytes);
// Bytes of IP packet that the route's interface takes, by its device, its lease or its routers (route.cpp).
std::uint32_t route_device_mtu(const Domain& d, const Route& route);

// What transmitting has in common: the checksum where the device makes none; and where there is no link header the
// packet leaves. True then.
bool transmit_without_link(Domain& d, const Route& route, netmsg::Packet& p);

} // namespace protocols
