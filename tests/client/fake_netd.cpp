// The segment and the loopback network of the fake netd. See fake_netd.hpp.
#include "tests/client/fake_netd.hpp"

#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/check.hpp"
#include "base/net_addr.hpp"
#include "tests/family.hpp"

namespace fake {

using namespace sockbuf;

namespace {

constexpr auto seq = std::memory_order_seq_cst;
const base::IpAddr here = test::address("127.0.0.1");
const std::uint32_t local_bytes = here.is_v4() ? 0 : datagram_local_bytes; // behind a received datagram

} // namespace

void Netd::make_segment()
{
    SegmentHeader layout{};
    std::uint64_t per_socket = (std::uint64_t{1 + options_.cpus} << options_.ring_shift) +
                               ((options_.cpus * lane_stride(options_.lane_entries) + 4095) & ~std::uint64_t{4095});
    lay_out(layout, options_.cpus, options_.sockets, per_socket * options_.sockets);
    std::copy(options_.pins.begin(), options_.pins.end(), layout.pins);
    segment_fd_ = memfd_create("fake-netd", MFD_CLOEXEC);
    page_fd_ = memfd_create("fake-netd-sleep", MFD_CLOEXEC);
    INVARIANT(ftruncate(segment_fd_, static_cast<off_t>(layout.bytes)) == 0);
    INVARIANT(ftruncate(page_fd_, static_cast<off_t>(layout.page_bytes)) == 0);
    void* base = mmap(nullptr, layout.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, segment_fd_, 0);
    void* page = mmap(nullptr, layout.page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, page_fd_, 0);
    INVARIANT(base != MAP_FAILED && page != MAP_FAILED);
    std::memcpy(base, &layout, sizeof layout);
    view_ = SegmentView(static_cast<std::byte*>(base), layout);
    sleep_words_ = static_cast<std::atomic<std::uint32_t>*>(page);
    sockets_.resize(options_.sockets);
    for (std::uint32_t s = options_.sockets; s-- > 0;) {
        free_.push_back(s);
    }
    for (std::uint32_t cpu = 0; cpu < options_.cpus; ++cpu) {
        view_.grant_lane(cpu).capacity = grant_lane_entries;
        doorbells_.push_back(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    }
    fill_grants();
}

void Netd::prepare(std::uint32_t s, std::uint64_t holders, SlotState state)
{
    SocketSlot& slot = view_.slot(s);
    std::uint32_t generation = slot.info.generation + 1;
    sockets_[s] = Socket{};
    for (std::atomic<std::uint64_t>* offset : {&slot.owner.snd_acked, &slot.owner.rcv_produced, &slot.app.snd_produced,
             &slot.app.rcv_consumed, &slot.app.waiters[0], &slot.app.waiters[1], &slot.owner.lanes}) {
        offset->store(0);
    }
    slot.owner.accept_ready.store(0);
    slot.app.accept_taken.store(0);
    slot.app.partner.store(0);
    for (std::atomic<std::uint64_t>* none : {&slot.owner.rcv_end, &slot.owner.urgent_mark, &slot.app.snd_end}) {
        none->store(no_offset);
    }
    slot.owner.rcv_ring_at.store(0);
    slot.owner.snd_broken.store(0);
    slot.app.want_space.store(0);
    slot.share.status.store(0);
    slot.app.rcv_turn.store(0);
    for (std::uint32_t cpu = 0; cpu <= options_.cpus; ++cpu) {
        view_.lanes(s)[cpu].produced.store(0);
        view_.lanes(s)[cpu].dropped.store(0);
        view_.lanes(s)[cpu].consumed.store(0);
    }
    for (auto* lock : {&slot.share.snd_lock, &slot.share.rcv_lock, &slot.share.ctl_lock}) {
        lock->store(0);
    }
    slot.info.so_error.store(0);
    slot.info.owner_cpu.store(static_cast<std::uint16_t>(s % options_.cpus));
    slot.info.snd_shift = slot.info.rcv_shift = 0;
    slot.share.holders.store(holders);
    slot.info.generation.store(generation, std::memory_order_release);
    slot.info.state.store(static_cast<std::uint32_t>(state), seq);
}

void Netd::push_lane(LaneHeader& lane, std::uint32_t s)
{
    std::uint32_t at = lane.produced.load();
    SegmentView::lane_entries(lane)[at & (lane.capacity - 1)].store(
        s | std::uint64_t{view_.slot(s).info.generation} << 32);
    lane.produced.store(at + 1, seq);
}

// Only a few at a time, so that tests see refills.
void Netd::fill_grants()
{
    for (std::uint32_t cpu = 0; cpu < options_.cpus; ++cpu) {
        LaneHeader& lane = view_.grant_lane(cpu);
        while (lane.produced.load() - lane.consumed.load() < 4) {
            auto it =
                std::find_if(free_.rbegin(), free_.rend(), [&](std::uint32_t s) { return s % options_.cpus == cpu; });
            if (it == free_.rend()) {
                break;
            }
            std::uint32_t s = *it;
            free_.erase(std::next(it).base());
            prepare(s, lane_holder, SlotState::granted);
            push_lane(lane, s);
        }
    }
}

void Netd::run()
{
    while (!stop_) {
        while (serve_once()) {
        }
        for (std::uint32_t cpu = 0; cpu < options_.cpus; ++cpu) {
            sleep_words_[cpu * 16].store(1, seq);
        }
        if (!serve_once()) {
            std::vector<pollfd> fds{{stop_fd_, POLLIN, 0}};
            for (int fd : doorbells_) {
                fds.push_back({fd, POLLIN, 0});
            }
            poll(fds.data(), fds.size(), -1);
        }
        for (std::uint32_t cpu = 0; cpu < options_.cpus; ++cpu) {
            sleep_words_[cpu * 16].store(0, seq);
            std::uint64_t count;
            [[maybe_unused]] ssize_t n = read(doorbells_[cpu], &count, sizeof count);
        }
    }
}

bool Netd::serve_once()
{
    std::lock_guard lock(mutex_);
    bool worked = false;
    for (std::uint32_t cpu = 0; cpu < options_.cpus && !stop_; ++cpu) {
        worked = serve_cpu(cpu) || worked;
    }
    fill_grants();
    return worked;
}

// As the ABI asks: a mark is cleared before the offsets it is about are read.
bool Netd::serve_cpu(std::uint32_t cpu)
{
    MarkLine& line = view_.marks(cpu);
    std::uint64_t processes = line.processes.exchange(0, seq);
    for (std::uint32_t p = 0; p < max_processes; ++p) {
        if ((processes >> p & 1) == 0) {
            continue;
        }
        RequestRing& ring = view_.requests(p, cpu);
        while (ring.consumed.load() != ring.produced.load(seq)) {
            Request r = ring.entries[ring.consumed.load() % request_slots];
            ring.consumed.store(ring.consumed.load() + 1, seq);
            r.process = p;
            serve_request(r);
        }
    }
    bool worked = processes != 0;
    for (std::uint32_t i = 0; i < 15; ++i) {
        std::uint64_t words = line.summary[i].exchange(0, seq);
        for (std::uint32_t j = 0; j < 64; ++j) {
            std::uint64_t bits = (words >> j & 1) != 0 ? view_.mark_bits(cpu)[i * 64 + j].exchange(0, seq) : 0;
            for (std::uint32_t b = 0; b < 64; ++b) {
                if ((bits >> b & 1) != 0) {
                    marks_seen_.fetch_add(1);
                    worked = true;
                    pump((i * 64 + j) * 64 + b);
                }
            }
        }
    }
    return worked;
}

void Netd::wake(std::uint32_t s)
{
    for (std::uint32_t w = 0; w < max_waiters; ++w) {
        bool watches = (view_.slot(s).app.waiters[w / 64].load(seq) >> (w % 64) & 1) != 0;
        if (watches && view_.waiter(w).kind == static_cast<std::uint32_t>(sockbuf::WaiterKind::set)) {
            view_.waiter_bits(w)[s / 64].fetch_or(std::uint64_t{1} << (s % 64), seq);
            view_.waiter(w).summary[s / 4096].fetch_or(std::uint64_t{1} << (s / 64 % 64), seq);
        }
        if (watches && view_.waiter(w).sleeping.exchange(0, seq) != 0 && w < waiter_fds_.size() &&
            waiter_fds_[w] >= 0) {
            [[maybe_unused]] ssize_t n = write(waiter_fds_[w], "!", 1);
        }
    }
}

void Netd::deliver(std::uint32_t s, const void* data, std::size_t size)
{
    Socket& so = sockets_[s];
    SocketSlot& to = slot(s);
    if (to.app.rcv_consumed.load(seq) == so.filled) { // as netd does: an empty ring goes on at its first byte
        to.owner.rcv_start.store(static_cast<std::uint32_t>(so.filled), seq);
    }
    view_.receive_ring(to).copy_in(so.filled, data, size);
    so.filled += size;
    slot(s).owner.rcv_produced.store(so.filled, seq);
    wake(s);
}

void Netd::space_freed(std::uint32_t s)
{
    slot(s).owner.snd_acked.store(sockets_[s].sent, seq);
    if (slot(s).app.want_space.exchange(0, seq) != 0) {
        wake(s);
    }
}

void Netd::pump(std::uint32_t s)
{
    Socket& so = sockets_[s];
    if (!so.exists || so.listening) {
        return;
    }
    if (so.datagram) {
        pump_datagrams(s);
        return;
    }
    pump_stream(s);
    if (so.peer >= 0) {
        pump_stream(static_cast<std::uint32_t>(so.peer)); // its receiver may have made space
    }
}

// Moves what fits from the send ring of s into its peer's receive ring, then FIN if that was all.
void Netd::pump_stream(std::uint32_t s)
{
    Socket& so = sockets_[s];
    SocketSlot& from = slot(s);
    if (so.peer < 0) {
        return;
    }
    auto p = static_cast<std::uint32_t>(so.peer);
    SocketSlot& to = slot(p);
    std::uint64_t produced = from.app.snd_produced.load(seq);
    std::uint64_t size = std::uint64_t{1} << options_.ring_shift;
    std::uint64_t n = std::min(produced - so.sent, size - (sockets_[p].filled - to.app.rcv_consumed.load(seq)));
    to.owner.rcv_ring_at.store(to.app.rcv_consumed.load(seq) + size / 4, seq);
    if (n != 0) {
        iovec pieces[RingView::pieces_max];
        unsigned count = view_.send_ring(from).pieces(so.sent, n, pieces);
        for (unsigned i = 0; i < count; ++i) {
            deliver(p, pieces[i].iov_base, pieces[i].iov_len);
        }
        so.sent += n;
        space_freed(s);
    }
    std::uint64_t end = from.app.snd_end.load(seq);
    if (end == so.sent && to.owner.rcv_end.load() == no_offset) {
        to.owner.rcv_end.store(sockets_[p].filled, seq);
        wake(p);
    }
    if (so.closing && end == so.sent) {
        sockets_[p].peer = -1;
        release(s);
    }
}

void Netd::pump_datagrams(std::uint32_t s)
{
    Socket& so = sockets_[s];
    SocketSlot& from = slot(s);
    RingView ring = view_.send_ring(from);
    while (so.sent != from.app.snd_produced.load(seq)) {
        DatagramHeader h{};
        ring.copy_out(so.sent, &h, sizeof h);
        std::vector<std::byte> payload(h.size);
        ring.copy_out(so.sent + sizeof h, payload.data(), h.size);
        so.sent += datagram_stride(h.size);
        int target = find_port(h.port != 0 ? h.port : so.peer_port, true);
        if (target < 0) {
            from.info.so_error.store(ECONNREFUSED, seq);
            wake(s);
            continue;
        }
        auto t = static_cast<std::uint32_t>(target);
        std::uint32_t cpu = so.port % options_.cpus; // our hash of a flow
        DatagramLane& lane = view_.lanes(t)[cpu];
        std::uint64_t at = lane.produced.load();
        std::uint64_t stride = datagram_stride(h.size + local_bytes);
        if (stride > (std::uint64_t{1} << options_.ring_shift) - (at - lane.consumed.load(seq))) {
            lane.dropped.fetch_add(1);
            continue;
        }
        lane.ring = (std::uint64_t{slot(t).info.snd_ring.load()} << page_shift) +
                    (std::uint64_t{1 + cpu} << options_.ring_shift);
        lane.shift = options_.ring_shift;
        slot(t).owner.lanes.fetch_or(std::uint64_t{1} << cpu, seq);
        std::memcpy(h.addr, here.bytes(), 16);
        h.port = so.port;
        h.ttl = h.ttl != 0 ? h.ttl : 64;
        h.interface = 1;
        h.local_v4 = here.is_v4() ? here.v4() : 0;
        set_answer_v4(h, here.is_v4() ? here.v4() + 1 : 0); // another one, as for a broadcast
        RingView in = view_.lane_ring(lane);
        in.copy_in(at, &h, sizeof h);
        in.copy_in(at + sizeof h, payload.data(), h.size);
        in.copy_in(at + sizeof h + h.size, here.bytes(), local_bytes);
        lane.produced.store(at + stride, seq);
        wake(t);
    }
    space_freed(s);
}

std::uint64_t Netd::sockets_in_use()
{
    std::lock_guard lock(mutex_);
    return static_cast<std::uint64_t>(
        std::count_if(sockets_.begin(), sockets_.end(), [](const Socket& s) { return s.exists; }));
}

} // namespace fake
