#include "client/control.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <optional>

#include "client/blocking.hpp"

namespace client {

namespace {

constexpr base::Micros ring_full_nap{100};
constexpr base::Micros look_up_every = base::millis(50);

// Process index and a counter: unique among everything that can be outstanding for a slot, also across a death.
std::uint32_t next_sequence(const Session& s)
{
    static std::atomic<std::uint32_t> counter{0};
    std::uint32_t n = counter.fetch_add(1, std::memory_order_relaxed) & 0xffffff;
    return ((s.process + 1) << 24) | n;
}

// False when the ring is full.
bool push(Session& s, std::uint32_t cpu, const sockbuf::Request& r, int& error)
{
    sockbuf::RequestRing& ring = s.view.requests(s.process, cpu);
    SideGuard lock(s, ring.lock);
    error = lock.error();
    if (error != 0) {
        return true;
    }
    std::uint32_t at = ring.produced.load(std::memory_order_relaxed);
    if (at - ring.consumed.load(std::memory_order_acquire) >= sockbuf::request_slots) {
        return false;
    }
    std::memcpy(&ring.entries[at % sockbuf::request_slots], &r, sizeof r);
    ring.produced.store(at + 1, std::memory_order_seq_cst);
    return true;
}

int send_request(Session& s, SocketSlot& slot, const sockbuf::Request& r)
{
    for (;;) {
        if (!s.host->alive()) {
            return -ENETDOWN;
        }
        std::uint32_t cpu = slot.info.owner_cpu.load(std::memory_order_relaxed);
        if (s.direct && s.host->request(cpu, r)) {
            return 0;
        }
        int error = 0;
        bool pushed = push(s, cpu, r, error);
        if (error != 0) {
            return error;
        }
        poke_netd(s, cpu);
        if (pushed) {
            return 0;
        }
        s.host->sleep(WaiterHandle{}, s.host->now() + ring_full_nap);
    }
}

bool is_long(const ReplyBuffer* reply)
{
    return reply != nullptr && reply->capacity > sockbuf::reply_inline_bytes;
}

// The reply is ours while we hold ctl_lock: sequence numbers of others never appear in it.
int take_reply(Session& s, SocketSlot& slot, ReplyBuffer* reply)
{
    if (reply != nullptr) {
        reply->size = std::min({slot.reply.size, reply->capacity, sockbuf::reply_data_max});
        const unsigned char* from =
            reply->size <= sockbuf::reply_inline_bytes ? slot.reply.data : s.view.reply_area(s.process).data;
        std::memcpy(reply->data, from, reply->size);
    }
    return -slot.reply.result;
}

// netd does not answer a socket that another thread closed meanwhile, so look up now and then.
int await_reply(Session& s, SocketSlot& slot, Sock k, std::uint32_t sequence)
{
    CountedBy nobody(nullptr);
    auto answered = [&] { return slot.reply.done.load(std::memory_order_seq_cst) == sequence; };
    while (!answered()) {
        int rc = wait_for(s, slot, k, s.host->now() + look_up_every, answered);
        if (answered()) {
            return 0;
        }
        bool ours = (slot.share.holders.load(std::memory_order_relaxed) & process_bit(s)) != 0;
        if (!is_current(slot, k) || !ours) {
            return -EBADF;
        }
        if (rc == -EPIPE || !s.host->alive()) {
            return -ENETDOWN;
        }
        if (rc != 0 && rc != -ETIMEDOUT && rc != -EINTR) {
            return rc;
        }
    }
    return 0;
}

} // namespace

sockbuf::Request make_request(SocketSlot& slot, Sock k, sockbuf::Op op, std::int32_t value)
{
    sockbuf::Request r{};
    r.op = static_cast<std::uint32_t>(op);
    r.slot = k.slot;
    r.generation = k.generation;
    r.kind = static_cast<std::uint8_t>(is_datagram(slot) ? sockbuf::SlotKind::datagram : sockbuf::SlotKind::stream);
    r.family = static_cast<std::uint8_t>(family_of(slot));
    r.value = value;
    return r;
}

void set_endpoint(sockbuf::Request& r, const base::Endpoint& e)
{
    std::memcpy(r.addr, e.addr.bytes(), sizeof r.addr);
    r.port = e.port;
}

int call_netd(Session& s, SocketSlot& slot, Sock k, sockbuf::Request& r, ReplyBuffer* reply)
{
    ControlTurn turn(s, slot);
    return ask_netd(turn, s, slot, k, r, reply);
}

int ask_netd(const ControlTurn& turn, Session& s, SocketSlot& slot, Sock k, sockbuf::Request& r, ReplyBuffer* reply)
{
    if (turn.error() != 0) {
        return turn.error();
    }
    std::optional<SideGuard> area; // always behind ctl_lock, so no two threads wait for each other
    if (is_long(reply)) {
        area.emplace(s, s.view.reply_area(s.process).lock);
        if (area->error() != 0) {
            return area->error();
        }
    }
    r.sequence = next_sequence(s);
    int rc = send_request(s, slot, r);
    if (rc == 0) {
        rc = await_reply(s, slot, k, r.sequence);
    }
    return rc == 0 ? take_reply(s, slot, reply) : rc;
}

int post_to_netd(Session& s, SocketSlot& slot, sockbuf::Request& r)
{
    SignalGuard no_handlers(s.defer_signals);
    r.sequence = 0;
    return send_request(s, slot, r);
}

void poke_netd(Session& s, std::uint32_t cpu)
{
    std::uint64_t bit = process_bit(s);
    auto& processes = s.view.marks(cpu).processes;
    if ((processes.load(std::memory_order_seq_cst) & bit) == 0 &&
        (processes.fetch_or(bit, std::memory_order_seq_cst) & bit) == 0) {
        s.look_and_ring(cpu);
    }
}

} // namespace client
