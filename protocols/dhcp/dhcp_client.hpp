// The DHCP client (RFC 2131): asks for an interface's IPv4 address, looks whether somebody has it (RFC 5227 2.1), keeps
// the lease and gives it up. One CPU does it for an interface, chosen by its index; what a lease changes is told to
// every CPU (ipv4_change). Who keeps the address over a restart is asked for it first (INIT-REBOOT). DhcpState,
// DhcpClient: owner = their domain's CPU; everything o unless marked.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <vector>

#include "lwkt/timer_wheel.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/wire/dhcp.hpp"

namespace protocols {

enum class DhcpPhase : std::uint8_t {
    start,      // waits before it asks
    rebooting,  // asked for the address that it had before a restart
    selecting,  // asked who has an address
    requesting, // asked for the one offered
    probing,    // has it, and asks the link whether somebody else does
    bound,
    renewing,  // past T1: asks the server that gave it
    rebinding, // past T2: asks any
    releasing, // told the server; that waits for its link-layer address
    released,  // for good
};

struct DhcpLease {
    Ipv4Address own; // addr 0 = none
    std::uint32_t server = 0;
    std::vector<RouteEntry> routes; // default ones, the preferred first
    wire::DhcpAddresses dns;        // for information
    base::Instant renew_at = base::never;
    base::Instant rebind_at = base::never;
    base::Instant ends_at = base::never;
};

struct DhcpClient : lwkt::Timer {
    DhcpClient(Domain& d, Interface& of);

    // Tells the CPUs again what one of them could not be told.
    struct Retell : lwkt::Timer {
        explicit Retell(DhcpClient& of);
        DhcpClient& client; // c
    };

    Domain& domain; // c
    Interface& in;  // c
    DhcpPhase phase = DhcpPhase::start;
    std::uint32_t xid = 0;
    unsigned attempts = 0;     // messages, or probes, of this phase
    std::uint32_t offered = 0; // requesting, rebooting: the address, and who offers it
    std::uint32_t offered_by = 0;
    base::Instant began{};     // asking for an address, or for more time
    std::uint16_t seconds = 0; // of the last DHCPDISCOVER: its DHCPREQUEST says the same (RFC 2131 3.1 (3))
    base::Instant asked_at{};  // the last DHCPREQUEST of a new number: the lease runs from there (RFC 2131 4.4.1)
    DhcpLease lease;
    std::deque<Ipv4Change> untold;
    Retell retell{*this};
    std::uint32_t remembered = 0;                // of a run before; 0 = none, or asked for in vain
    std::function<void(std::uint32_t)> remember; // see dhcp_remember
    std::function<void()> released;              // see dhcp_release
};

struct alignas(base::apart) DhcpState {
    std::list<DhcpClient> clients;
};

// The CPU that asks for the interface.
base::CpuId dhcp_owner(const Domain& d, const Interface& in);
// Before the CPUs run, on the owner's domain: asks as soon as they do.
void dhcp_start(Domain& d, Interface& in);
// Between dhcp_start and then: `address` is what a run before had, 0 = none; `remember` hears on the owner, and must
// not wait, what a run after should be told: an address, or 0 when there is none any more.
void dhcp_remember(Domain& d, Interface& in, std::uint32_t address, std::function<void(std::uint32_t)> remember);
// Null = not on this CPU.
const DhcpClient* dhcp_client(const Domain& d, const Interface& in);
// A clean end, on the owner: the server hears that the address is free, and it goes from here. `done` is called there,
// once: when that is said, or nobody has the server's address (some seconds).
void dhcp_release(Domain& d, const Interface& in, std::function<void()> done);

// A datagram to the client's port of an interface that asks; data at the DHCP message; any CPU. Takes the packet.
void dhcp_input(Domain& d, Interface& in, netmsg::Packet& p);
// Somebody on the link has, or wants, the address that is probed for; any CPU.
void dhcp_conflict(Domain& d, Interface& in, std::uint32_t address);

// ---- Between the files of the client. dhcp_messages.cpp:

void dhcp_send_discover(DhcpClient& c);
void dhcp_send_request(DhcpClient& c); // as its phase has it (RFC 2131 4.3.2)
void dhcp_send_decline(DhcpClient& c);
void dhcp_send_release(DhcpClient& c);

// dhcp_lease.cpp:

// Whether what an offer or acknowledgement says could be a lease.
bool dhcp_acceptable(const wire::DhcpMessage& m);
// The lease that it grants from now on; its address and routes are in force only by the calls below.
DhcpLease dhcp_lease(const DhcpClient& c, const wire::DhcpMessage& m);
void dhcp_try(DhcpClient& c, DhcpLease fresh);   // with a tentative address
void dhcp_apply(DhcpClient& c, DhcpLease fresh); // in place of what there was
void dhcp_drop(DhcpClient& c);                   // address and routes go

} // namespace protocols
