// One CPU's queue of a simulated link, see sim_wire.hpp.
#include <algorithm>

#include "base/ownership.hpp"
#include "drivers/congestion_mark.hpp"
#include "drivers/frame_flow.hpp"
#include "drivers/sim_wire.hpp"
#include "netmsg/gso.hpp"

namespace drivers {
namespace {

constexpr std::uint32_t ip_bytes_max = 65535;
constexpr base::Micros blocked_retry{50};
constexpr base::Micros memory_retry{1000};

} // namespace

void SimQueue::attach(SimWire& wire, unsigned side, lwkt::Cpu& cpu, netmsg::Netif& netif, netmsg::PacketPool& pool,
    netmsg::InputFn input, void* context, netmsg::NetifCounters& counters)
{
    wire_ = &wire;
    side_ = side;
    cpu_ = &cpu;
    netif_ = &netif;
    pool_ = &pool;
    input_ = input;
    context_ = context;
    counters_ = &counters;
    steering_ = side == 0 ? wire.options.b.steering : wire.options.a.steering;
    random_ = base::Random(wire.options.seed * 2 + side + (std::uint64_t{cpu.id()} << 32));
    held_.reserve(wire.options.held_frames_max);
    cpu.add_poller(lwkt::Class::net, *this);
    cpu.add_rollup(*this);
}

void SimQueue::detach()
{
    cpu_->remove_poller(lwkt::Class::net, *this);
    cpu_->remove_rollup(*this);
    for (Held& h : held_) {
        h.packet->free();
    }
    held_.clear();
    if (wire_->lanes_made()) {
        for (std::size_t i = 0; i < wire_->lanes_to(side_); ++i) {
            wire_->lane(1 - side_, i, cpu_->id()).drain();
        }
    }
}

void SimQueue::refuse(netmsg::Packet& p, std::atomic<std::uint64_t>* why)
{
    if (why != nullptr) {
        base::count(*why);
    }
    base::count(counters_->out_dropped);
    p.free();
}

void SimQueue::transmit(netmsg::Packet& p)
{
    const SimLinkOptions& o = wire_->options;
    std::uint32_t ip_bytes = p.total() - std::min(p.total(), network_offset(p, wire_->link_header_bytes()));
    bool super = p.gso == netmsg::Gso::tcp4 || p.gso == netmsg::Gso::tcp6;
    if (!peer_up() || ip_bytes > (super ? ip_bytes_max : o.mtu)) {
        refuse(p, nullptr);
        return;
    }
    if (super && (o.split || !o.tso)) {
        segment(p);
        return;
    }
    if (p.csum == netmsg::Csum::partial && !o.csum_offload && !netmsg::finish_checksum(p)) {
        base::count(counters_->errors);
        refuse(p, nullptr);
        return;
    }
    submit(p);
}

void SimQueue::segment(netmsg::Packet& p)
{
    netmsg::PacketQueue segments;
    if (!netmsg::gso_segment(p, network_offset(p, wire_->link_header_bytes()), *pool_, segments)) {
        base::count(counters_->errors);
        refuse(p, nullptr);
        return;
    }
    p.free();
    while (lwkt::Message* m = segments.pop()) {
        submit(static_cast<netmsg::Packet&>(*m));
    }
}

// Probabilities of 0 draw nothing, so that switching one impairment on does not change what the others do.
void SimQueue::submit(netmsg::Packet& p)
{
    const Impairments& im = wire_->impairments(side_);
    base::count(counters_->out_packets);
    base::count(counters_->out_bytes, p.total());
    if (wire_->options.watch != nullptr) {
        wire_->options.watch->sent(side_, p);
    }
    if (im.mark > 0 && random_.chance(im.mark) && mark_congestion(p, network_offset(p, wire_->link_header_bytes()))) {
        base::count(losses_.marked);
    }
    if (im.loss > 0 && random_.chance(im.loss)) {
        base::count(losses_.lost);
        p.free();
        return;
    }
    netmsg::Packet* sent = &p;
    if (im.corrupt > 0 && random_.chance(im.corrupt)) {
        sent = corrupt(p);
        if (sent == nullptr) {
            return;
        }
    }
    if (im.duplicate > 0 && random_.chance(im.duplicate)) {
        if (netmsg::Packet* twin = pool_->clone(*sent); twin != nullptr) {
            base::count(losses_.duplicated);
            place(*twin);
        }
    }
    place(*sent);
}

// Takes p and returns a packet with a wrong bit, which receivers must find by the checksum.
netmsg::Packet* SimQueue::corrupt(netmsg::Packet& p)
{
    netmsg::Packet* own = pool_->clone(p);
    p.free();
    if (own == nullptr) {
        base::count(losses_.held_full);
        base::count(counters_->out_dropped);
        return nullptr;
    }
    if (own->csum == netmsg::Csum::partial) {
        netmsg::finish_checksum(*own);
    }
    std::uint32_t link = network_offset(*own, wire_->link_header_bytes());
    if (own->total() > link) {
        std::uint32_t at = link + random_.below(own->total() - link);
        iovec byte[netmsg::packet_pieces_max + 1];
        own->span(at, 1, byte);
        *static_cast<std::byte*>(byte[0].iov_base) ^= std::byte{1} << random_.below(8);
        base::count(losses_.corrupted);
    }
    own->csum = netmsg::Csum::unknown;
    return own;
}

// When the last bit is on the wire. False when the queue in front of it is full.
bool SimQueue::leave(std::uint32_t bytes, base::Instant& when)
{
    const Impairments& im = wire_->impairments(side_);
    if (im.rate_bits_per_s == 0) {
        return true;
    }
    double ns_per_byte = 8e9 / static_cast<double>(im.rate_bits_per_s);
    std::int64_t now_ns = when.time_since_epoch().count() * 1000;
    auto takes_ns = static_cast<std::int64_t>(ns_per_byte * bytes);
    std::atomic<std::int64_t>& busy = wire_->sides[side_].busy_until_ns;
    std::int64_t until = busy.load(std::memory_order_relaxed);
    std::int64_t done = 0;
    do {
        std::int64_t start = std::max(until, now_ns);
        if (static_cast<double>(start - now_ns) > ns_per_byte * im.queue_bytes_max) {
            return false;
        }
        done = start + takes_ns;
    } while (!busy.compare_exchange_weak(until, done, std::memory_order_relaxed));
    when = base::Instant{base::Micros{(done + 999) / 1000}};
    return true;
}

void SimQueue::place(netmsg::Packet& p)
{
    const Impairments& im = wire_->impairments(side_);
    base::Instant now = cpu_->now();
    base::Instant due = now;
    if (!leave(p.total(), due)) {
        refuse(p, &losses_.queue_full);
        return;
    }
    due += im.delay;
    if (im.reorder > 0 && random_.chance(im.reorder)) {
        base::count(losses_.reordered);
        due += im.reorder_hold;
    }
    // What is due now overtakes nothing that is due now and waits.
    bool waits = !held_.empty() && held_.front().due <= due;
    if (due <= now && !waits && hand_over(p)) {
        p.free();
        return;
    }
    hold(p, due);
}

void SimQueue::hold(netmsg::Packet& p, base::Instant due)
{
    netmsg::Packet* own = &p;
    if (held_.size() >= wire_->options.held_frames_max) {
        refuse(p, &losses_.held_full);
        return;
    }
    if (!netmsg::owns_bytes(p)) {
        own = pool_->clone(p);
        if (own == nullptr) {
            refuse(p, &losses_.held_full);
            return;
        }
        p.free();
    }
    held_.push_back({due, held_order_++, own});
    std::push_heap(held_.begin(), held_.end());
}

// Copies into a posted packet of the receiver; false when there is none.
bool SimQueue::hand_over(const netmsg::Packet& p)
{
    std::size_t receivers = wire_->sides[1 - side_].cpus;
    auto to = steering_ != nullptr ? frame_queue(*steering_, p, wire_->link_header_bytes())
                                   : static_cast<base::CpuId>(cpu_->id() % receivers);
    INVARIANT(to < receivers);
    bool verified = p.csum != netmsg::Csum::unknown && wire_->options.csum_offload;
    if (!wire_->lane(side_, cpu_->id(), to).send(p, verified ? netmsg::Csum::valid : netmsg::Csum::unknown)) {
        return false;
    }
    if (wire_->options.watch != nullptr) {
        wire_->options.watch->taken(side_, p);
    }
    if (std::find(dirty_.begin(), dirty_.end(), to) == dirty_.end()) {
        dirty_.push_back(to);
    }
    return true;
}

std::uint32_t SimQueue::release_due()
{
    std::uint32_t released = 0;
    blocked_ = false;
    bool up = peer_up();
    while (!held_.empty() && held_.front().due <= cpu_->now()) {
        netmsg::Packet& p = *held_.front().packet;
        if (up && !hand_over(p)) {
            blocked_ = true;
            break;
        }
        std::pop_heap(held_.begin(), held_.end());
        held_.pop_back();
        p.free();
        ++released;
    }
    return released;
}

std::uint32_t SimQueue::poll(std::uint32_t budget)
{
    if (!wire_->lanes_made()) {
        return 0;
    }
    std::uint32_t done = release_due();
    short_of_memory_ = false;
    for (std::size_t i = 0; i < wire_->lanes_to(side_); ++i) {
        SimLane& lane = wire_->lane(1 - side_, i, cpu_->id());
        while (done < budget) {
            netmsg::Packet* p = lane.receive();
            if (p == nullptr) {
                break;
            }
            ++done;
            p->netif = netif_;
            p->stamp = cpu_->now();
            base::count(counters_->in_packets);
            base::count(counters_->in_bytes, p->total());
            input_(context_, *p);
        }
        short_of_memory_ |= !lane.refill(*pool_);
    }
    return done;
}

bool SimQueue::pending() const
{
    if (!dirty_.empty()) {
        return true;
    }
    if (!wire_->lanes_made()) {
        return false;
    }
    for (std::size_t i = 0; i < wire_->lanes_to(side_); ++i) {
        if (wire_->lane(1 - side_, i, cpu_->id()).pending()) {
            return true;
        }
    }
    return false;
}

base::Instant SimQueue::deadline() const
{
    base::Instant at = base::never;
    if (!held_.empty()) {
        at = blocked_ ? cpu_->now() + blocked_retry : held_.front().due;
    }
    return short_of_memory_ ? std::min(at, cpu_->now() + memory_retry) : at;
}

void SimQueue::rollup()
{
    if (dirty_.empty()) {
        return;
    }
    if (peer_up()) {
        for (base::CpuId to : dirty_) {
            wire_->lane(side_, cpu_->id(), to).publish(wire_->sides[1 - side_].set->cpu(to));
        }
    }
    dirty_.clear();
}

void SimQueue::count_into(SimLinkCounters& sum) const
{
    sum.marked += losses_.marked.load(std::memory_order_relaxed);
    sum.lost += losses_.lost.load(std::memory_order_relaxed);
    sum.corrupted += losses_.corrupted.load(std::memory_order_relaxed);
    sum.duplicated += losses_.duplicated.load(std::memory_order_relaxed);
    sum.reordered += losses_.reordered.load(std::memory_order_relaxed);
    sum.queue_full += losses_.queue_full.load(std::memory_order_relaxed);
    sum.held_full += losses_.held_full.load(std::memory_order_relaxed);
}

} // namespace drivers
