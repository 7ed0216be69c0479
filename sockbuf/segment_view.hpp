// Typed access to the parts of a mapped segment. Addresses are computed from counts that the holder of the view trusts:
// netd builds it from its own private copy of the layout, never from the header in shared memory. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sockbuf/abi.hpp"
#include "sockbuf/ring_view.hpp"

namespace sockbuf {

// Where everything lies for `cpus` CPUs and `sockets` slots (a multiple of 64, at most max_sockets), with `ring_bytes`
// of ring memory at the end. Fills every c-field of `header` but the prefixes.
void lay_out(SegmentHeader& header, std::uint32_t cpus, std::uint32_t sockets, std::uint64_t ring_bytes);

class SegmentView {
public:
    SegmentView() = default;
    // `layout` is copied.
    SegmentView(std::byte* base, const SegmentHeader& layout) : base_(base), layout_(layout) {}

    std::byte* base() const { return base_; }
    const SegmentHeader& layout() const { return layout_; }
    std::uint32_t cpus() const { return layout_.cpus; }
    std::uint32_t sockets() const { return layout_.sockets; }

    SocketSlot& slot(std::uint32_t s) const { return at<SocketSlot>(layout_.slots)[s]; }
    // It is looked at soon: its lines come side by side.
    void fetch_slot(std::uint32_t s) const
    {
        const auto* line = reinterpret_cast<const std::byte*>(&slot(s));
        for (const auto* end = line + sizeof(SocketSlot); line < end; line += 64) {
            __builtin_prefetch(line, 1);
        }
    }
    MarkLine& marks(std::uint32_t cpu) const { return at<MarkLine>(layout_.mark_lines)[cpu]; }
    std::atomic<std::uint64_t>* mark_bits(std::uint32_t cpu) const
    {
        return at<std::atomic<std::uint64_t>>(layout_.mark_bits) + std::size_t{cpu} * (layout_.sockets / 64);
    }
    LaneHeader& grant_lane(std::uint32_t cpu) const
    {
        return *at<LaneHeader>(layout_.grant_lanes + cpu * lane_stride(grant_lane_entries));
    }
    // Lane `cpu` of a listener whose lanes start at byte offset `lanes`.
    LaneHeader& accept_lane(std::uint64_t lanes, std::uint32_t entries, std::uint32_t cpu) const
    {
        return *at<LaneHeader>(lanes + cpu * lane_stride(entries));
    }
    static std::atomic<std::uint64_t>* lane_entries(LaneHeader& lane)
    {
        return reinterpret_cast<std::atomic<std::uint64_t>*>(&lane + 1);
    }
    RequestRing& requests(std::uint32_t process, std::uint32_t cpu) const
    {
        return at<RequestRing>(layout_.requests)[std::size_t{process} * layout_.cpus + cpu];
    }
    ReplyArea& reply_area(std::uint32_t process) const { return at<ReplyArea>(layout_.replies)[process]; }
    Waiter& waiter(std::uint32_t w) const { return at<Waiter>(layout_.waiters)[w]; }
    std::atomic<std::uint64_t>* waiter_bits(std::uint32_t w) const
    {
        return at<std::atomic<std::uint64_t>>(layout_.waiter_bits) + std::size_t{w} * (layout_.sockets / 64);
    }
    // Lane i of socket `s` is element i, its error queue element cpus().
    DatagramLane* lanes(std::uint32_t s) const
    {
        return at<DatagramLane>(layout_.lanes) + std::size_t{s} * (layout_.cpus + 1);
    }
    RingView ring(std::uint64_t offset, unsigned shift, std::uint32_t start = 0) const
    {
        return RingView{base_ + offset, shift, start, RingView::home_of(offset >> shift, shift), head(offset, shift)};
    }
    // Of the ring at `offset`. Rings of one size are at least that size apart, so each has its own number.
    std::byte* head(std::uint64_t offset, unsigned shift) const
    {
        std::uint64_t number = (offset - layout_.rings) >> shift;
        return base_ + layout_.heads[shift - page_shift] + number * RingView::head_bytes;
    }
    std::byte* head_page(std::uint64_t offset, unsigned shift) const // where that head lies
    {
        constexpr std::uint64_t in_page = (std::uint64_t{1} << page_shift) - 1;
        std::byte* h = head(offset, shift);
        return h - (static_cast<std::uint64_t>(h - base_) & in_page);
    }
    // As the slot names them: the size is known from the connection's begin, memory is there while there is use for it.
    RingView send_ring(const SocketSlot& s) const
    {
        return ring_at(s.info.snd_ring, s.info.snd_shift, s.app.snd_start.load(std::memory_order_relaxed));
    }
    RingView receive_ring(const SocketSlot& s) const // read after rcv_produced
    {
        return ring_at(s.info.rcv_ring, s.info.rcv_shift, s.owner.rcv_start.load(std::memory_order_relaxed));
    }
    // What send_ring(s).size() is.
    static std::uint64_t send_ring_bytes(const SocketSlot& s) { return RingView{nullptr, s.info.snd_shift}.size(); }
    RingView lane_ring(const DatagramLane& lane) const // read after its produced
    {
        return ring(lane.ring, lane.shift, lane.start.load(std::memory_order_relaxed));
    }
    static std::uint64_t lanes_of(const SocketSlot& listener)
    {
        return std::uint64_t{listener.info.rcv_ring.load(std::memory_order_acquire)} << page_shift;
    }

private:
    RingView ring_at(const std::atomic<std::uint32_t>& page, unsigned shift, std::uint32_t start) const
    {
        std::uint64_t offset = std::uint64_t{page.load(std::memory_order_seq_cst)} << page_shift;
        bool has_memory = offset != 0 && offset < layout_.bytes;
        if (has_memory && shift != 0) [[likely]] {
            return ring(offset, shift, start);
        }
        return shift == 0 ? RingView{} : RingView{nullptr, shift, start};
    }
    template <typename T>
    T* at(std::uint64_t offset) const
    {
        return reinterpret_cast<T*>(base_ + offset);
    }

    std::byte* base_ = nullptr; // c
    SegmentHeader layout_{};    // c
};

// Sets the mark of socket `s` for `cpu`; true when it was not set before, so that the caller owes a look at the CPU's
// sleep word (a doorbell is due at most once per mark). The offset that the mark is about must have been stored
// sequentially consistent before: the load of a bit that is still set must not pass that store. Application side.
inline bool set_mark(const SegmentView& v, std::uint32_t cpu, std::uint32_t s)
{
    std::uint64_t bit = std::uint64_t{1} << (s % 64);
    auto& word = v.mark_bits(cpu)[s / 64];
    if ((word.load(std::memory_order_seq_cst) & bit) != 0 ||
        (word.fetch_or(bit, std::memory_order_seq_cst) & bit) != 0) {
        return false;
    }
    std::uint32_t w = s / 64;
    auto& summary = v.marks(cpu).summary[w / 64];
    std::uint64_t named = std::uint64_t{1} << (w % 64);
    if ((summary.load(std::memory_order_seq_cst) & named) == 0) { // netd leaves it set while the word is in use
        summary.fetch_or(named, std::memory_order_seq_cst);
    }
    return true;
}

// Sets the ready bit of socket `s` for waiter `w`, an epoll set. Whoever publishes an event of the socket, afterwards.
inline void set_ready(const SegmentView& v, std::uint32_t w, std::uint32_t s)
{
    std::uint64_t bit = std::uint64_t{1} << (s % 64);
    std::uint32_t word = s / 64;
    if ((v.waiter_bits(w)[word].fetch_or(bit, std::memory_order_seq_cst) & bit) == 0) {
        v.waiter(w).summary[word / 64].fetch_or(std::uint64_t{1} << (word % 64), std::memory_order_seq_cst);
    }
}

} // namespace sockbuf
