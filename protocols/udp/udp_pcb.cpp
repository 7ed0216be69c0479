// The UDP table: entries, lookup, and the calls that bind and connect make on every CPU. Owner: the domain's CPU.
#include "protocols/udp/udp_state.hpp"

#include "protocols/reuse_group.hpp"
#include "protocols/socket/so_dispatch.hpp"
#include "protocols/stack.hpp"

namespace protocols {

namespace {

UdpState::PcbList& bucket(Domain& d, std::uint16_t port)
{
    return d.udp->table[port % UdpState::buckets];
}

// How well an entry fits: a connected one before one with the address before a wildcard, of these one of the family's
// own before one of both. 0 = not at all.
unsigned score(const UdpPcb& pcb, const base::FourTuple& flow)
{
    if (!udp_matches(pcb, flow)) {
        return 0;
    }
    bool both = pcb.flow.local.addr == base::IpAddr{} && flow.local.addr.is_v4();
    return 1U + (both ? 0 : 1) + (pcb.flow.local.addr.is_any() ? 0 : 2) + (pcb.flow.peer.port != 0 ? 4 : 0);
}

UdpPcb* entry_of(Domain& d, const Socket& so)
{
    UdpState::PcbList& list = bucket(d, so.flow.local.port);
    for (UdpPcb* pcb = list.front(); pcb != nullptr; pcb = list.next(*pcb)) {
        if (pcb->socket == &so) {
            return pcb;
        }
    }
    return nullptr;
}

void on_timer(lwkt::Timer& t)
{
    auto& pcb = static_cast<UdpPcb&>(t);
    udp_usr_send(pcb.domain, *pcb.socket); // the rest of a long ring
}

} // namespace

UdpPcb::UdpPcb(Domain& d, Socket& so) : lwkt::Timer(on_timer), domain(d), socket(&so), owner(so.domain->id())
{
    auto cpus = static_cast<std::uint32_t>(d.stack.cpus());
    lane.index = d.id();
    lane.shared = &so.lanes[lane.index];
    errors.index = cpus;
    errors.shared = &so.lanes[cpus];
    copy_from(so);
}

void UdpPcb::copy_from(const Socket& so)
{
    flow = so.flow;
    reuse_port = so.options.reuse_port;
    v6_only = so.options.v6_only;
    reuse_key = so.reuse_key;
    rcv_shut = so.rcv_shut;
    lane_bytes = so.options.receive_ring_bytes;
    groups = so.groups;
    multicast_all = so.options.multicast_all;
    multicast_all6 = so.options.multicast_all6;
}

UdpState::UdpState(Domain&)
{
}

UdpState::~UdpState()
{
    for (PcbList& list : table) {
        while (UdpPcb* pcb = list.pop_front()) {
            delete pcb;
        }
    }
}

bool udp_matches(const UdpPcb& pcb, const base::FourTuple& flow)
{
    if (pcb.flow.local.port != flow.local.port || (pcb.flow.peer.port != 0 && !(pcb.flow.peer == flow.peer))) {
        return false;
    }
    return pcb.flow.local.addr == flow.local.addr || wildcard_takes(pcb.flow.local.addr, pcb.v6_only, flow.local.addr);
}

UdpPcb* udp_lookup(Domain& d, const base::FourTuple& flow, std::uint32_t hash)
{
    UdpState::PcbList& list = bucket(d, flow.local.port);
    UdpPcb* best = nullptr;
    unsigned best_score = 0;
    std::uint64_t best_weight = 0;
    for (UdpPcb* pcb = list.front(); pcb != nullptr; pcb = list.next(*pcb)) {
        unsigned s = score(*pcb, flow);
        if (s == 0 || s < best_score) {
            continue;
        }
        std::uint64_t weight = pcb->reuse_port ? reuse_weight(hash, pcb->reuse_key) : 0;
        if (s == best_score && best->reuse_port && pcb->reuse_port && weight < best_weight) {
            continue; // of a group another one takes this flow
        }
        best = pcb; // among equals outside a group the latest bound, as Linux
        best_score = s;
        best_weight = weight;
    }
    return best;
}

void udp_update_here(Domain& d, const Socket& so)
{
    base::assert_on(d.cpu.owner());
    if (UdpPcb* pcb = entry_of(d, so); pcb != nullptr) {
        pcb->copy_from(so);
    }
}

base::Error udp_attach_here(Domain& d, Socket& so)
{
    base::assert_on(d.cpu.owner());
    auto* pcb = new (std::nothrow) UdpPcb(d, so); // control path
    if (pcb == nullptr) {
        return base::Error::no_buffers;
    }
    bucket(d, so.flow.local.port).push_back(*pcb);
    ++d.udp->count;
    if (so.domain == &d) {
        so.udp = pcb;
    }
    return base::Error::none;
}

void udp_detach_here(Domain& d, Socket& so)
{
    base::assert_on(d.cpu.owner());
    if (UdpPcb* pcb = entry_of(d, so); pcb != nullptr) {
        pcb->lane.give_back(so);
        pcb->errors.give_back(so);
        pcb->link.unlink();
        delete pcb;
        --d.udp->count;
    }
    if (so.domain == &d) {
        so.udp = nullptr;
    }
}

} // namespace protocols
