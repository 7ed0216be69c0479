// The states of the DHCP client (RFC 2131 4.4, figure 5) and its clock. Owner: the domain's CPU.
#include "protocols/dhcp/dhcp_client.hpp"

#include <algorithm>
#include <utility>

#include "base/endian.hpp"
#include "protocols/arp.hpp"
#include "protocols/ip.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/neighbor.hpp"

namespace protocols {

namespace {

constexpr std::int64_t retry_first_s = 4; // RFC 2131 4.1: doubled up to 64, give or take a second
constexpr unsigned retry_doublings = 4;
constexpr unsigned reboots_max = 2;                            // then it begins anew
constexpr unsigned requests_max = 4;                           // for an offer; then it begins anew
constexpr base::Micros renew_retry_min = base::seconds(60);    // RFC 2131 4.4.5
constexpr base::Micros wait_after_decline = base::seconds(10); // RFC 2131 3.1 (5)
constexpr base::Micros wait_after_refusal = base::seconds(1);  // a server that offers and refuses is no flood
constexpr unsigned probes = 3;                                 // RFC 5227 1.1: PROBE_NUM, and
constexpr base::Micros probe_gap = base::millis(500);   // faster than its one to two seconds: a host waits for it
constexpr unsigned announcements = 2;                   // RFC 5227 1.1: ANNOUNCE_NUM,
constexpr base::Micros announce_gap = base::seconds(2); // ANNOUNCE_INTERVAL

void arm(DhcpClient& c, base::Instant at)
{
    if (at == base::never) { // a lease without end
        return c.domain.wheel.cancel(c);
    }
    c.domain.wheel.arm(c, at);
}

void arm_retry(DhcpClient& c)
{
    base::Micros wait = base::seconds(retry_first_s << std::min(c.attempts++, retry_doublings)) - base::seconds(1);
    arm(c, c.domain.now() + wait + base::Micros{c.domain.random.below(2'000'000)});
}

void enter(DhcpClient& c, DhcpPhase phase)
{
    c.phase = phase;
    c.attempts = 0;
}

void restart(DhcpClient& c, base::Micros wait)
{
    enter(c, DhcpPhase::start);
    arm(c, c.domain.now() + wait);
}

void remember(DhcpClient& c, std::uint32_t address)
{
    c.remembered = 0;
    if (c.remember) {
        c.remember(address);
    }
}

// RFC 2131 4.4.2 (INIT-REBOOT).
void reboot(DhcpClient& c)
{
    enter(c, DhcpPhase::rebooting);
    c.began = c.domain.now();
    c.asked_at = c.began;
    c.xid = static_cast<std::uint32_t>(c.domain.random.next());
    c.offered = c.remembered;
    c.offered_by = 0;
    dhcp_send_request(c);
    arm_retry(c);
}

void begin(DhcpClient& c)
{
    c.remembered = 0;
    enter(c, DhcpPhase::selecting);
    c.began = c.domain.now();
    c.xid = static_cast<std::uint32_t>(c.domain.random.next());
    dhcp_send_discover(c);
    arm_retry(c);
}

void settle(DhcpClient& c)
{
    enter(c, DhcpPhase::bound);
    c.attempts = announcements;
    arm(c, c.lease.renew_at);
}

// RFC 5227 2.3: a host that did not hear the first may hear the second. A lease that is to be renewed sooner has one.
void announce(DhcpClient& c)
{
    ++c.attempts;
    arp_announce(c.domain, c.in, c.lease.own.addr);
    base::Instant again = c.domain.now() + announce_gap;
    bool last = c.attempts == announcements || again >= c.lease.renew_at;
    arm(c, last ? c.lease.renew_at : again);
    c.attempts = last ? announcements : c.attempts;
}

void next_probe(DhcpClient& c)
{
    if (c.attempts++ < probes) {
        arp_probe(c.domain, c.in, c.lease.own.addr);
        return arm(c, c.domain.now() + probe_gap);
    }
    dhcp_apply(c, c.lease);
    count(c.domain.counters.dhcp_leases);
    remember(c, c.lease.own.addr);
    enter(c, DhcpPhase::bound);
    announce(c);
}

// Asks for more time, ever more often, till the phase is over (RFC 2131 4.4.5).
void ask_for_more(DhcpClient& c, DhcpPhase phase, base::Instant until)
{
    base::Instant now = c.domain.now();
    if (c.phase == DhcpPhase::bound) {
        c.began = now; // RFC 2131 2: seconds since the renewal began
    }
    if (c.phase != phase) {
        enter(c, phase);
    }
    c.xid = static_cast<std::uint32_t>(c.domain.random.next());
    c.asked_at = now;
    dhcp_send_request(c);
    arm(c, std::min(until, now + std::max((until - now) / 2, renew_retry_min)));
}

void keep(DhcpClient& c)
{
    base::Instant now = c.domain.now();
    if (now >= c.lease.ends_at) { // RFC 2131 4.4.5: everything that uses the address stops at once
        count(c.domain.counters.dhcp_expired);
        remember(c, 0);
        dhcp_drop(c);
        return begin(c);
    }
    if (now >= c.lease.rebind_at) {
        return ask_for_more(c, DhcpPhase::rebinding, c.lease.ends_at);
    }
    ask_for_more(c, DhcpPhase::renewing, c.lease.rebind_at);
}

// The datagram to the server waits for its link-layer address, or that of a router, until the table gives up.
bool release_waits(const DhcpClient& c)
{
    Route way;
    if (!route_lookup_by(c.domain, base::IpAddr::v4(c.lease.server), c.in.index, way)) {
        return false;
    }
    const NeighborEntry* e = neighbor_find(c.domain, c.in.index, way.next_hop);
    return e != nullptr && e->status == NeighborStatus::incomplete;
}

void finish_release(DhcpClient& c)
{
    constexpr base::Micros look_again = base::millis(10);
    if (c.phase == DhcpPhase::releasing && release_waits(c)) {
        return arm(c, c.domain.now() + look_again);
    }
    dhcp_drop(c);
    enter(c, DhcpPhase::released);
    c.domain.wheel.cancel(c);
    if (auto done = std::exchange(c.released, nullptr)) {
        done();
    }
}

void on_timer(lwkt::Timer& t)
{
    auto& c = static_cast<DhcpClient&>(t);
    switch (c.phase) {
    case DhcpPhase::start:
        return c.remembered != 0 ? reboot(c) : begin(c);
    case DhcpPhase::rebooting:
        if (c.attempts >= reboots_max) {
            return begin(c);
        }
        dhcp_send_request(c);
        return arm_retry(c);
    case DhcpPhase::selecting:
        dhcp_send_discover(c);
        return arm_retry(c);
    case DhcpPhase::requesting:
        if (c.attempts >= requests_max) {
            return begin(c);
        }
        dhcp_send_request(c);
        return arm_retry(c);
    case DhcpPhase::probing:
        return next_probe(c);
    case DhcpPhase::bound:
        return c.attempts < announcements ? announce(c) : keep(c);
    case DhcpPhase::renewing:
    case DhcpPhase::rebinding:
        return keep(c);
    case DhcpPhase::releasing:
        return finish_release(c);
    case DhcpPhase::released:
        return;
    }
}

void retell(lwkt::Timer& t)
{
    constexpr base::Micros soon = base::millis(100);
    DhcpClient& c = static_cast<DhcpClient::Retell&>(t).client;
    while (!c.untold.empty() && ipv4_change(c.domain, c.untold.front())) {
        c.untold.pop_front();
    }
    if (!c.untold.empty()) {
        c.domain.wheel.arm(t, c.domain.now() + soon);
    }
}

void take_offer(DhcpClient& c, const wire::DhcpMessage& m)
{
    enter(c, DhcpPhase::requesting);
    c.offered = m.yours;
    c.offered_by = m.server;
    c.asked_at = c.domain.now();
    dhcp_send_request(c);
    arm_retry(c);
}

void take_acknowledgement(DhcpClient& c, const wire::DhcpMessage& m)
{
    if (c.phase == DhcpPhase::requesting || c.phase == DhcpPhase::rebooting) {
        enter(c, DhcpPhase::probing);
        dhcp_try(c, dhcp_lease(c, m));
        return next_probe(c);
    }
    count(c.domain.counters.dhcp_renewals);
    dhcp_apply(c, dhcp_lease(c, m));
    settle(c);
}

void take_refusal(DhcpClient& c)
{
    count(c.domain.counters.dhcp_refused);
    remember(c, 0);
    dhcp_drop(c);
    restart(c, wait_after_refusal);
}

// Whether the message is one that the client waits for.
bool expected(const DhcpClient& c, const wire::DhcpMessage& m)
{
    using wire::DhcpType;
    bool ours = m.from_server && m.xid == c.xid && m.mac == c.in.netif->info().mac;
    bool grants = dhcp_acceptable(m);
    switch (c.phase) {
    case DhcpPhase::selecting:
        return ours && m.type == DhcpType::offer && grants;
    case DhcpPhase::rebooting:
    case DhcpPhase::requesting:
        return ours && (m.server == c.offered_by || c.phase == DhcpPhase::rebooting) &&
               (m.type == DhcpType::nak || (m.type == DhcpType::ack && grants && m.yours == c.offered));
    case DhcpPhase::renewing:
    case DhcpPhase::rebinding: {
        bool by_it = m.server == c.lease.server || c.phase == DhcpPhase::rebinding;
        return ours && by_it &&
               (m.type == DhcpType::nak || (m.type == DhcpType::ack && grants && m.yours == c.lease.own.addr));
    }
    default:
        return false;
    }
}

DhcpClient* find(const Domain& d, const Interface& in)
{
    auto& all = d.dhcp->clients;
    auto at = std::find_if(all.begin(), all.end(), [&](const DhcpClient& c) { return &c.in == &in; });
    return at == all.end() ? nullptr : &*at;
}

void take(Domain& d, Interface& in, netmsg::Packet& p)
{
    DhcpClient* c = find(d, in);
    INVARIANT(c != nullptr);
    count(d.counters.dhcp_in);
    auto m = p.pullup(p.total()) ? wire::parse_dhcp(p.data, p.size) : std::nullopt;
    p.free();
    if (!m) {
        return count(d.counters.dhcp_in_malformed);
    }
    if (!expected(*c, *m)) {
        return count(d.counters.dhcp_in_ignored);
    }
    if (m->type == wire::DhcpType::offer) {
        take_offer(*c, *m);
    } else if (m->type == wire::DhcpType::ack) {
        take_acknowledgement(*c, *m);
    } else {
        take_refusal(*c);
    }
}

void take_conflict(Domain& d, Interface& in, std::uint32_t address)
{
    DhcpClient* c = find(d, in);
    if (c == nullptr || c->phase != DhcpPhase::probing || address != c->lease.own.addr) {
        return; // over, or an address that others try
    }
    count(d.counters.dhcp_conflicts);
    dhcp_send_decline(*c);
    remember(*c, 0);
    dhcp_drop(*c);
    restart(*c, wait_after_decline);
}

void input_dispatch(lwkt::Message& m)
{
    Domain& d = forwarded_domain(m);
    auto& p = static_cast<netmsg::Packet&>(m);
    take(d, received_on(d, p), p);
}

void conflict_dispatch(lwkt::Message& m)
{
    Domain& d = forwarded_domain(m);
    auto& p = static_cast<netmsg::Packet&>(m);
    std::uint32_t address = base::load_be32(p.data);
    Interface& in = received_on(d, p);
    p.free();
    take_conflict(d, in, address);
}

} // namespace

DhcpClient::DhcpClient(Domain& d, Interface& of) : lwkt::Timer(on_timer), domain(d), in(of)
{
}

DhcpClient::Retell::Retell(DhcpClient& of) : lwkt::Timer(protocols::retell), client(of)
{
}

base::CpuId dhcp_owner(const Domain& d, const Interface& in)
{
    return static_cast<base::CpuId>(in.index % d.stack.cpus());
}

void dhcp_start(Domain& d, Interface& in)
{
    INVARIANT(in.netif->info().ethernet && dhcp_owner(d, in) == d.id());
    DhcpClient& c = d.dhcp->clients.emplace_back(d, in);
    arm(c, d.now());
}

void dhcp_remember(Domain& d, Interface& in, std::uint32_t address, std::function<void(std::uint32_t)> remember)
{
    DhcpClient* c = find(d, in);
    INVARIANT(c != nullptr && c->phase == DhcpPhase::start);
    c->remembered = address;
    c->remember = std::move(remember);
}

const DhcpClient* dhcp_client(const Domain& d, const Interface& in)
{
    return find(d, in);
}

void dhcp_release(Domain& d, const Interface& in, std::function<void()> done)
{
    base::assert_on(d.cpu.owner());
    DhcpClient* c = find(d, in);
    INVARIANT(c != nullptr);
    c->released = std::move(done);
    remember(*c, 0);
    if (c->lease.own.addr != 0 && !c->lease.own.tentative) {
        dhcp_send_release(*c);
        enter(*c, DhcpPhase::releasing);
    }
    finish_release(*c);
}

void dhcp_input(Domain& d, Interface& in, netmsg::Packet& p)
{
    base::assert_on(d.cpu.owner());
    if (base::CpuId owner = dhcp_owner(d, in); owner != d.id()) {
        forward_to_cpu(d, owner, p, input_dispatch, lwkt::Shed::early);
        return;
    }
    take(d, in, p);
}

void dhcp_conflict(Domain& d, Interface& in, std::uint32_t address)
{
    base::assert_on(d.cpu.owner());
    base::CpuId owner = dhcp_owner(d, in);
    if (owner == d.id()) {
        return take_conflict(d, in, address);
    }
    if (netmsg::Packet* p = d.stack.pool().allocate(); p != nullptr) { // else the next answer says so
        base::store_be32(p->put(4), address);
        p->netif = in.netif;
        p->hops = 0;
        forward_to_cpu(d, owner, *p, conflict_dispatch);
    }
}

} // namespace protocols
