// Requests: control operations of applications become socket messages, replies become reply lines. Owner: this CPU's
// protocol thread; a request whose slot another CPU owns is sent there.
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "gateway/gateway_cpu.hpp"

namespace gateway {

using netmsg::SocketOp;
using sockbuf::Op;
static_assert(netmsg::option_bytes_max == sockbuf::reply_data_max);

void ReplyPort::deliver(lwkt::Message& m)
{
    // Always queued, never run nested: the replier may still be in the middle of its handler.
    auto& msg = static_cast<netmsg::SocketMsg&>(m);
    m.dispatch = GatewayCpu::reply_dispatch;
    lwkt::Cpu::current()->send(msg.socket->domain->id(), m);
}

void GatewayCpu::reply_dispatch(lwkt::Message& m)
{
    auto& msg = static_cast<netmsg::SocketMsg&>(m);
    auto* rec = static_cast<SocketRecord*>(msg.socket->user_ref);
    rec->client->gateway_cpus[base::current_cpu]->replied(msg);
}

void GatewayCpu::request_dispatch(lwkt::Message& m)
{
    auto& msg = static_cast<RequestMsg&>(m);
    GatewayCpu& here = *msg.client->gateway_cpus[base::current_cpu];
    sockbuf::Request copy = msg.request;
    Client& c = *msg.client;
    if (msg.extra) {
        c.close_under_way[copy.slot].store(false, std::memory_order_release);
        delete &msg;
    } else {
        here.shared_.requests.destroy(msg);
        c.pooled.fetch_sub(1, std::memory_order_relaxed);
    }
    here.request(c, copy);
    c.on_the_way.fetch_sub(1, std::memory_order_release); // last: the family may be freed once it is 0
}

void GatewayCpu::request(Client& c, const sockbuf::Request& r)
{
    if (r.slot >= c.view().sockets()) {
        fault(c);
        return;
    }
    std::uint16_t owner = c.owner[r.slot].load(std::memory_order_acquire);
    if (owner != me()) {
        if (!forward(c, owner == in_transit ? me() : owner, r)) {
            refuse(c, r, ENOBUFS);
        }
        return;
    }
    SocketRecord* rec = find_or_create(c, r);
    if (rec != nullptr) {
        execute(*rec, r);
    }
}

// Nobody waits for a close, nor asks for it again: it may not be lost when the pool is empty. One that is on its way to
// the slot already is enough. Null: it is, or there is no memory.
RequestMsg* GatewayCpu::make_extra(Client& c, const sockbuf::Request& r)
{
    if (c.close_under_way[r.slot].exchange(true, std::memory_order_acquire)) {
        return nullptr;
    }
    auto* m = new (std::nothrow) RequestMsg;
    if (m == nullptr) {
        c.close_under_way[r.slot].store(false, std::memory_order_release);
    } else {
        m->extra = true;
    }
    return m;
}

// The pool is all families': none has more of it than a part, or requests that go round behind a bind which waits would
// keep those of the others from going.
RequestMsg* GatewayCpu::make_pooled(Client& c)
{
    constexpr std::uint32_t parts = 4;
    if (c.pooled.load(std::memory_order_relaxed) >= std::max(shared_.options.forwarded_max / parts, 1U)) {
        return nullptr;
    }
    RequestMsg* m = shared_.requests.make();
    if (m != nullptr) {
        c.pooled.fetch_add(1, std::memory_order_relaxed);
    }
    return m;
}

bool GatewayCpu::forward(Client& c, std::uint16_t owner, const sockbuf::Request& r)
{
    RequestMsg* m = make_pooled(c);
    if (m == nullptr && static_cast<Op>(r.op) == Op::close) {
        m = make_extra(c, r);
    }
    if (m == nullptr) {
        return false;
    }
    m->client = &c;
    m->request = r;
    m->cls = lwkt::Class::serial;
    m->dispatch = request_dispatch;
    c.on_the_way.fetch_add(1, std::memory_order_relaxed);
    cpu_.send(owner, *m);
    return true;
}

// The record that the request is about; made on the first request for a granted slot. Null: the request is over.
SocketRecord* GatewayCpu::find_or_create(Client& c, const sockbuf::Request& r)
{
    SocketRecord* rec = record_of(c, r.slot);
    if (rec == nullptr && c.slots[r.slot].asleep() != nullptr) {
        if (static_cast<Op>(r.op) == Op::close && c.generations[r.slot] == r.generation) {
            c.sleeper_left.store(true, std::memory_order_relaxed); // closed when there is memory again
        } else {
            refuse(c, r, ENOMEM);
        }
        return nullptr;
    }
    if (rec != nullptr) {
        if (rec->generation != r.generation || rec->closing || rec->detached) {
            fault(c); // a stale request; its slot has moved on and nobody waits
            return nullptr;
        }
        return rec;
    }
    if (!c.slots[r.slot].granted() || c.generations[r.slot] != r.generation) {
        fault(c);
        return nullptr;
    }
    if (c.ending.load(std::memory_order_relaxed) != Ending::none) {
        return nullptr; // was on its way from another CPU; nobody would close what it makes
    }
    if (static_cast<Op>(r.op) == Op::close) { // socket() and close() with nothing between
        slot_home(c, r.slot);
        return nullptr;
    }
    bool known = r.kind == static_cast<std::uint8_t>(sockbuf::SlotKind::stream) ||
                 r.kind == static_cast<std::uint8_t>(sockbuf::SlotKind::datagram);
    known = known && (r.family == AF_INET || r.family == AF_INET6);
    rec = known ? make_record(c, r.slot, static_cast<sockbuf::SlotKind>(r.kind), r.family) : nullptr;
    if (rec == nullptr) {
        refuse(c, r, known ? ENOMEM : EPROTONOSUPPORT);
        return nullptr;
    }
    return rec;
}

void GatewayCpu::execute(SocketRecord& rec, const sockbuf::Request& r)
{
    Client& c = *rec.client;
    auto op = static_cast<Op>(r.op);
    if (op == Op::close) {
        close(rec, r.value == 1);
        return;
    }
    if (rec.busy) { // behind a connect that nobody waits for; every other operation is waited for under ctl_lock
        if (!forward(c, me(), r)) {
            refuse(c, r, ENOBUFS);
        }
        return;
    }
    netmsg::SocketMsg& m = rec.msg;
    m.address = base::Endpoint{base::IpAddr::v6(r.addr), r.port};
    m.value = r.value;
    m.level = r.level;
    m.name = r.name;
    m.size = 0;
    switch (op) {
    case Op::bind:
        return post(rec, SocketOp::bind, r.sequence);
    case Op::listen:
        if (!prepare_listen(rec, r.value)) {
            return refuse(c, r, ENOBUFS);
        }
        return post(rec, SocketOp::listen, r.sequence);
    case Op::connect:
        return post(rec, SocketOp::connect, r.sequence);
    case Op::disconnect:
        return post(rec, SocketOp::unconnect, r.sequence);
    case Op::may_send:
        std::memcpy(m.option, r.data, sizeof r.data);
        return post(rec, SocketOp::may_send, r.sequence);
    case Op::shutdown:
        look_here(rec); // what was published before goes out before the FIN
        if (!rec.closing && !rec.detached) {
            post(rec, SocketOp::shutdown, r.sequence);
        }
        return;
    case Op::setsockopt:
        if (r.size > sockbuf::request_data_max) {
            return answer(c, rec.slot, r.sequence, EINVAL);
        }
        std::memcpy(m.option, r.data, r.size);
        m.size = r.size;
        return post(rec, SocketOp::set_option, r.sequence);
    case Op::getsockopt:
        std::memcpy(
            m.option, r.data, sizeof r.data); // what is asked about, for those that want to know (MCAST_MSFILTER)
        m.size = std::min(r.size, sockbuf::reply_data_max);
        m.process = r.process;
        return post(rec, SocketOp::get_option, r.sequence);
    default:
        fault(c);
        answer(c, rec.slot, r.sequence, EOPNOTSUPP);
    }
}

void GatewayCpu::set_backlog(SocketRecord& listener, std::uint32_t connections)
{
    listener.backlog = connections;
    listener.credits->reset(connections, [&](std::uint32_t cpu) { return waiting_in(listener, cpu); });
}

// The accept lanes exist before any CPU can complete a connection. The listen() of a listener only changes the backlog:
// each lane has room for the longest, of whose address space one page is touched. What a socket was before (a
// connection that failed, a listener that was shut down) leaves nothing to a new one.
bool GatewayCpu::prepare_listen(SocketRecord& rec, std::int32_t backlog)
{
    // One more than asked for, as Linux.
    std::uint32_t wanted = std::min(protocols::listen_backlog(backlog) + 1, protocols::listen_backlog_max);
    if (rec.so.listening) {
        set_backlog(rec, wanted);
        return true;
    }
    if (rec.so.kind != sockbuf::SlotKind::stream || rec.so.tcb != nullptr) {
        return true; // it will be refused, and stays what it is
    }
    leaves(rec);
    Client& c = *rec.client;
    std::uint64_t bytes = sockbuf::lane_stride(accept_lane_entries) * c.cpus;
    unsigned shift = std::max<unsigned>(RingArena::shift_min, static_cast<unsigned>(std::bit_width(bytes - 1)));
    auto offset = shift <= RingArena::shift_max ? c.cpu[me()].arena.take(shift) : std::nullopt;
    if (!offset) {
        return false;
    }
    rec.lanes = *offset;
    rec.lanes_shift = static_cast<std::uint8_t>(shift);
    rec.rings_cpu = me();
    rec.credits = std::make_unique<ListenCredits>(c.cpus);
    rec.accept_lanes = std::make_unique<AcceptLane[]>(c.cpus);
    for (std::uint32_t i = 0; i < c.cpus; ++i) {
        auto& lane = lane_of(rec, i);
        lane.produced.store(0, std::memory_order_relaxed);
        lane.consumed.store(0, std::memory_order_relaxed);
        lane.lock.store(0, std::memory_order_relaxed);
        lane.capacity = accept_lane_entries;
    }
    set_backlog(rec, wanted);
    auto& slot = c.view().slot(rec.slot);
    slot.owner.accept_ready.store(0, std::memory_order_relaxed);
    slot.app.accept_taken.store(0, std::memory_order_relaxed); // a connection had snd_urgent there
    slot.app.want_space.store(0, std::memory_order_relaxed);
    auto& info = slot.info;
    info.lane_entries = static_cast<std::uint16_t>(accept_lane_entries);
    info.rcv_ring.store(static_cast<std::uint32_t>(*offset >> sockbuf::page_shift), std::memory_order_release);
    return true;
}

void GatewayCpu::post(SocketRecord& rec, SocketOp op, std::uint32_t sequence)
{
    rec.busy = true;
    rec.msg.op = op;
    rec.msg.socket = &rec.so;
    rec.msg.sequence = sequence;
    rec.msg.result = 0;
    rec.msg.reply_port = &reply_port_;
    rec.msg.cls = lwkt::Class::serial;
    if (op == SocketOp::connect || rec.closing) {
        forget_idle(rec);
    }
    bool walks =
        op == SocketOp::bind || op == SocketOp::listen || op == SocketOp::connect || op == SocketOp::unconnect ||
        (op == SocketOp::may_send && !rec.so.bound_port) || rec.so.listening ||
        (rec.closing && (rec.so.bound_port || !rec.so.groups.empty())) ||
        (rec.so.kind == sockbuf::SlotKind::datagram && (op == SocketOp::set_option || op == SocketOp::shutdown));
    if (walks) { // other CPUs will touch it, or own it: nobody else may meanwhile
        rec.client->owner[rec.slot].store(in_transit, std::memory_order_release);
    }
    protocols::so_post(domain(), rec.msg);
}

void GatewayCpu::close(SocketRecord& rec, bool abort)
{
    rec.abort_wanted = rec.abort_wanted || abort;
    if (rec.detached || rec.aborted || (rec.closing && !rec.abort_wanted)) {
        return;
    }
    if (rec.busy) {
        rec.close_wanted = true;
        return;
    }
    rec.closing = true;
    rec.aborted = rec.abort_wanted; // an abort overtakes a disconnect that lingers
    post(rec, rec.abort_wanted ? SocketOp::abort : SocketOp::disconnect, 0); // takes what was published before
}

void GatewayCpu::replied(netmsg::SocketMsg& m)
{
    base::assert_on(cpu_.owner());
    auto& rec = *static_cast<SocketRecord*>(m.socket->user_ref);
    Client& c = *rec.client;
    rec.busy = false;
    if (c.owner[rec.slot].load(std::memory_order_relaxed) != me()) {
        moved_here(rec);
        c.owner[rec.slot].store(me(), std::memory_order_release);
    }
    bool listened = rec.lanes != 0 && !rec.so.listening &&
                    (rec.closing || m.op == SocketOp::shutdown || m.op == SocketOp::unconnect);
    if (m.sequence == 0) {
        if (m.op == SocketOp::connect && m.result != 0 && m.result != EINPROGRESS) {
            protocols::so_publish_error(rec.so, static_cast<base::Error>(m.result));
        }
    } else {
        bool has_value = m.op == SocketOp::get_option && m.result == 0;
        answer(c, rec.slot, m.sequence, m.result, m.option, has_value ? m.size : 0, m.process);
        if (m.op == SocketOp::connect || m.op == SocketOp::unconnect || m.op == SocketOp::shutdown) {
            queue_event(c, rec.slot); // may have changed what epoll reports; of Linux too it is an edge
        }
    }
    if (listened) {
        close_unaccepted(rec);
    }
    if (rec.detached) {
        dead_.push_back(&rec);
    } else if (rec.close_wanted) {
        close(rec, rec.abort_wanted);
    } else if (!rec.closing && !mourn(rec)) {
        look_here(rec);
    }
}

// What the death of its family or of a process of it did not do to the socket, as nobody could touch it then. True: it
// is being closed.
bool GatewayCpu::mourn(SocketRecord& rec)
{
    Client& c = *rec.client;
    if (Ending ending = c.ending.load(std::memory_order_relaxed); ending != Ending::none) {
        close(rec, ending == Ending::abort);
        return true;
    }
    std::uint64_t gone = c.gone.load(std::memory_order_relaxed);
    if (gone != 0) {
        std::uint64_t holders = c.view().slot(rec.slot).share.holders.load(std::memory_order_seq_cst);
        // Nobody's: let go by one of them, perhaps, who died before it could say so.
        gone &= (holders & ~sockbuf::lane_holder) != 0 ? holders : gone & -gone;
    }
    for (; gone != 0 && !rec.closing; gone &= gone - 1) {
        sweep_slot(c, rec.slot, static_cast<std::uint32_t>(std::countr_zero(gone)));
    }
    return rec.closing;
}

void GatewayCpu::refuse(Client& c, const sockbuf::Request& r, std::int32_t error)
{
    base::count(counters_.refused);
    if (r.sequence != 0) {
        answer(c, r.slot, r.sequence, error);
    } else if (static_cast<Op>(r.op) == Op::connect) {
        c.view().slot(r.slot).info.so_error.store(error, std::memory_order_seq_cst);
        queue_event(c, r.slot);
    }
}

void GatewayCpu::answer(Client& c, std::uint32_t slot, std::uint32_t sequence, std::int32_t result, const void* data,
    std::uint32_t size, std::uint32_t process)
{
    auto& s = c.view().slot(slot);
    s.reply.result = result;
    s.reply.size = size;
    if (size != 0) {
        std::memcpy(size <= sockbuf::reply_inline_bytes ? s.reply.data : c.view().reply_area(process).data, data, size);
    }
    s.reply.done.store(sequence, std::memory_order_release);
    queue_event(c, slot, For::threads);
}

} // namespace gateway
