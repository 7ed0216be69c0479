// Small steps every call is made of: find the slot of a Sock, its rings and bits, mark it dirty, lock a side. Internal
// to client/. Any thread; what netd writes is trusted here (netd does not trust us, that is its own concern).
#pragma once

#include <fcntl.h>

#include <atomic>
#include <cerrno>

#include "client/joined.hpp"
#include "client/socket_calls.hpp"
#include "sockbuf/side_lock.hpp"

namespace client {

using sockbuf::no_offset;
using sockbuf::SlotState;
using sockbuf::SocketSlot;

// What fcntl(F_SETFL) may change.
inline constexpr std::uint32_t status_settable = O_NONBLOCK | O_APPEND | O_ASYNC;
// Private bits of SlotShare::status, beside the O_* flags that fcntl shows.
inline constexpr std::uint32_t status_fast_connect = 1U << 20; // TCP_FASTOPEN_CONNECT: connect waits for netd's word
inline constexpr std::uint32_t status_datagram = 1U << 24;
inline constexpr std::uint32_t status_inet6 = 1U << 25;
inline constexpr std::uint32_t status_oob_inline = 1U << 26;
inline constexpr std::uint32_t status_lingers = 1U << 27; // SO_LINGER with a time: the last close may block
inline constexpr std::uint32_t status_pktinfo = 1U << 28;
inline constexpr std::uint32_t status_recv_ttl = 1U << 29;
inline constexpr std::uint32_t status_recv_tos = 1U << 30;
inline constexpr std::uint32_t status_pktinfo6 = 1U << 31;
inline constexpr std::uint32_t status_recv_hops = 1U << 23;
inline constexpr std::uint32_t status_recv_class = 1U << 21;
// A connect whose success no call of connect has told yet. One that does not block is only posted: until netd has
// looked at it the slot's state is what it was before.
inline constexpr std::uint32_t status_connect_posted = 1U << 22;

inline std::uint32_t generation_of(SocketSlot& slot)
{
    return slot.info.generation.load(std::memory_order_acquire);
}
inline bool has_status(SocketSlot& slot, std::uint32_t bit)
{
    return (slot.share.status.load(std::memory_order_relaxed) & bit) != 0;
}
// As netd says it.
inline SlotState raw_state_of(SocketSlot& slot)
{
    return static_cast<SlotState>(slot.info.state.load(std::memory_order_seq_cst));
}
inline SlotState state_of(SocketSlot& slot)
{
    SlotState state = raw_state_of(slot);
    bool before_connect = state == SlotState::granted || state == SlotState::open;
    bool under_way = before_connect && has_status(slot, status_connect_posted) &&
                     slot.info.so_error.load(std::memory_order_seq_cst) == 0;
    return under_way ? SlotState::connecting : state;
}
// False also between uses: the generation changes only when netd gives the slot out again.
inline bool is_current(SocketSlot& slot, Sock k)
{
    return generation_of(slot) == k.generation && raw_state_of(slot) != SlotState::free;
}

// Null when the slot was given to somebody else meanwhile: -EBADF.
inline SocketSlot* find_slot(Session& s, Sock k)
{
    if (k.slot >= s.view.sockets()) {
        return nullptr;
    }
    SocketSlot& slot = s.view.slot(k.slot);
    return is_current(slot, k) ? &slot : nullptr;
}

inline bool is_datagram(SocketSlot& slot)
{
    return has_status(slot, status_datagram);
}
inline int family_of(SocketSlot& slot)
{
    return has_status(slot, status_inet6) ? AF_INET6 : AF_INET;
}
inline bool is_nonblocking(SocketSlot& slot, int flags)
{
    return (flags & MSG_DONTWAIT) != 0 || has_status(slot, O_NONBLOCK);
}

// Rings exist once the state says so (their shifts are written before it), size 0 before. A ring that is not valid()
// has no memory now: there is nothing in it, and who wants to send asks for it.
inline sockbuf::RingView send_ring(Session& s, SocketSlot& slot)
{
    return s.view.send_ring(slot);
}
// Under snd_lock, while everything sent is acknowledged: the ring begins again, with as many bytes as are known to come
// at `at`. Before snd_produced says so.
inline void restart_send_ring(SocketSlot& slot, sockbuf::RingView& ring, std::uint64_t at, std::uint64_t bytes)
{
    ring.restart(at, bytes);
    slot.app.snd_start.store(ring.start(), std::memory_order_relaxed);
}
inline std::uint64_t send_ring_bytes(SocketSlot& slot)
{
    return sockbuf::SegmentView::send_ring_bytes(slot);
}
inline std::uint32_t send_page(SocketSlot& slot)
{
    return slot.info.snd_ring.load(std::memory_order_seq_cst);
}
// To read what rcv_produced said, which is loaded before.
inline sockbuf::RingView receive_ring(Session& s, SocketSlot& slot)
{
    return s.view.receive_ring(slot);
}

// The byte before urgent mark `mark` was read by MSG_OOB already. (Of one mark in 2^32 it is never said.)
inline bool urgent_was_read(SocketSlot& slot, std::uint64_t mark)
{
    std::uint32_t read = slot.share.urgent_read().load(std::memory_order_relaxed);
    return read != 0 && read == static_cast<std::uint32_t>(mark);
}
// How much of `bytes` a reader may wait for without taking any: the ring must not fill up under it.
inline std::uint64_t reachable(const sockbuf::RingView& ring, std::uint64_t bytes)
{
    return std::min(bytes, ring.size() / 2);
}

inline bool receive_over(SocketSlot& slot)
{
    return slot.app.rcv_consumed.load(std::memory_order_seq_cst) >= slot.owner.rcv_end.load(std::memory_order_seq_cst);
}
inline bool send_over(SocketSlot& slot)
{
    return slot.owner.snd_broken.load(std::memory_order_seq_cst) != 0 ||
           slot.app.snd_end.load(std::memory_order_seq_cst) != no_offset;
}
// A pending error, taken (SO_ERROR semantics); 0 when none.
inline int take_error(SocketSlot& slot)
{
    if (slot.info.so_error.load(std::memory_order_seq_cst) == 0) {
        return 0;
    }
    slot.share.status.fetch_and(~status_connect_posted); // a connect that was refused is over
    return slot.info.so_error.exchange(0, std::memory_order_seq_cst);
}

// A mark for CPU `cpu`, and its doorbell where one is due. Out of line, since callers that never mark
// (`direct` sessions) would prepare for it all the same.
[[gnu::noinline]] inline void mark_on(Session& s, std::uint32_t cpu, std::uint32_t slot)
{
    if (set_mark(s.view, cpu, slot)) {
        s.look_and_ring(cpu);
    }
}
// "Look at socket k": after the offset it is about was stored sequentially consistent.
inline void mark(Session& s, SocketSlot& slot, Sock k)
{
    std::uint32_t cpu = slot.info.owner_cpu.load(std::memory_order_relaxed);
    if (!s.direct || !s.host->look(cpu, k.slot)) {
        mark_on(s, cpu, k.slot);
    }
}
inline std::uint64_t process_bit(const Session& s)
{
    return std::uint64_t{1} << s.process;
}

// Frees receive ring up to `offset`; netd (of a joined pair the sender) hears of it only when an update is due.
inline void consume(Session& s, SocketSlot& slot, Sock k, std::uint64_t offset)
{
    slot.app.rcv_consumed.store(offset, std::memory_order_seq_cst);
    if (offset >= slot.owner.rcv_ring_at.load(std::memory_order_seq_cst)) {
        if (std::uint32_t partner = slot.app.partner.load(std::memory_order_seq_cst)) {
            give_back(s, slot, k, partner - 1, offset);
        } else {
            mark(s, slot, k);
        }
    }
}

// Makes the send ring's bytes below `offset` visible: to netd, or to the other end of a joined pair. The partner is
// looked up after the store: who unties a pair reads the offset afterwards.
inline void publish(Session& s, SocketSlot& slot, Sock k, std::uint64_t offset)
{
    slot.app.snd_produced.store(offset, std::memory_order_seq_cst);
    if (std::uint32_t partner = slot.app.partner.load(std::memory_order_seq_cst)) {
        deliver(s, slot, k, partner - 1, offset);
    } else {
        mark(s, slot, k);
    }
}

// A side lock for a scope. error(): 0, or -EAGAIN when a signal handler interrupted the holder in its own thread (it
// may try again later, waiting would deadlock), or -ENETDOWN when netd died and a dead process holds the lock.
class SideGuard {
public:
    SideGuard(Session& s, std::atomic<std::uint32_t>& word) : word_(word)
    {
        std::uint32_t holder = sockbuf::side_lock_holder(s.process);
        error_ = sockbuf::side_lock_try(word, holder) ? 0 : contended(s, word, holder);
    }
    ~SideGuard() { release(); }
    SideGuard(const SideGuard&) = delete;
    SideGuard& operator=(const SideGuard&) = delete;

    int error() const { return error_; }
    void release()
    {
        if (error_ == 0) {
            sockbuf::side_lock_release(word_);
            error_ = -ENOLCK;
        }
    }

private:
    [[gnu::cold, gnu::noinline]] static int contended(
        Session& s, std::atomic<std::uint32_t>& word, std::uint32_t holder)
    {
        sockbuf::SideLockResult r;
        do {
            r = sockbuf::side_lock_acquire(word, holder);
        } while (r == sockbuf::SideLockResult::timed_out && s.host->alive());
        using enum sockbuf::SideLockResult;
        return r == taken ? 0 : r == self_held ? -EAGAIN : -ENETDOWN;
    }

    std::atomic<std::uint32_t>& word_;
    int error_;
};

} // namespace client
