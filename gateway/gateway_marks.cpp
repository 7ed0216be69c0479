// Marks and request rings: what families say to this CPU. Owner: this CPU's protocol thread. A mark is cleared before
// the offsets it is about are read, so a publication after the read leaves a new mark.
#include <bit>
#include <cstring>

#include "base/plant.hpp"
#include "gateway/gateway_cpu.hpp"

namespace gateway {

namespace {

// The plant mark_cleared_late: marks are cleared (once more) after the offsets were read, so that one which was set
// meanwhile is lost.
struct LateMarks {
    std::uint32_t word = 0;
    std::uint64_t bits = 0;
};
std::vector<LateMarks>& late_marks(base::CpuId cpu)
{
    static std::vector<LateMarks> late[sockbuf::max_cpus];
    return late[cpu];
}
void clear_marks_late(const sockbuf::SegmentView& view, base::CpuId cpu)
{
    for (const LateMarks& m : late_marks(cpu)) {
        view.mark_bits(cpu)[m.word % (view.sockets() / 64)].fetch_and(~m.bits);
    }
    late_marks(cpu).clear();
}

} // namespace

std::uint32_t GatewayCpu::poll(std::uint32_t budget)
{
    base::assert_on(cpu_.owner());
    std::uint32_t done = 0;
    std::size_t n = clients_.size();
    for (std::size_t i = 0; i < n && done < budget; ++i) {
        done += poll_client(*clients_[(first_ + i) % n], budget - done);
    }
    if (done >= budget) {
        ++first_;
    }
    return done;
}

bool GatewayCpu::pending() const
{
    for (const Client* c : clients_) {
        const auto& line = c->view().marks(me());
        if (c->cpu[me()].processes_left != 0 || c->cpu[me()].marks_left.any() ||
            line.processes.load(std::memory_order_seq_cst) != 0) {
            return true;
        }
        for (std::uint32_t i = 0; i * 4096 < c->view().sockets(); ++i) {
            if (line.summary[i].load(std::memory_order_seq_cst) != 0) {
                return true;
            }
        }
    }
    return false;
}

std::uint32_t GatewayCpu::poll_client(Client& c, std::uint32_t budget)
{
    auto& line = c.view().marks(me());
    ClientCpu& mine = c.cpu[me()];
    if (base::planted(base::Plant::mark_cleared_late)) {
        clear_marks_late(c.view(), me());
    }
    if (line.processes.load(std::memory_order_relaxed) != 0) {
        mine.processes_left |= line.processes.exchange(0, std::memory_order_seq_cst);
    }
    std::uint32_t done = mine.processes_left != 0 ? drain_requests(c, budget) : 0;
    return done < budget ? done + take_marks(c, budget - done) : done;
}

std::uint32_t GatewayCpu::drain_requests(Client& c, std::uint32_t budget)
{
    ClientCpu& mine = c.cpu[me()];
    mine.processes_left &= (std::uint64_t{1} << sockbuf::max_processes) - 1;
    std::uint32_t done = 0;
    for (std::uint64_t left = mine.processes_left; left != 0 && done < budget; left &= left - 1) {
        auto process = static_cast<std::uint32_t>(std::countr_zero(left));
        std::uint32_t n = drain_ring(c, process, budget - done);
        done += n;
        if (done < budget) {
            mine.processes_left &= ~(std::uint64_t{1} << process);
        }
    }
    fill_grants(c);
    return done;
}

std::uint32_t GatewayCpu::drain_ring(Client& c, std::uint32_t process, std::uint32_t budget)
{
    auto& ring = c.view().requests(process, me());
    std::uint32_t& consumed = c.cpu[me()].requests_consumed[process];
    std::uint32_t waiting = ring.produced.load(std::memory_order_seq_cst) - consumed;
    if (waiting > sockbuf::request_slots) { // an index that no honest process writes
        fault(c);
        consumed += waiting;
        waiting = 0;
    }
    std::uint32_t n = 0;
    for (; n < waiting && n < budget; ++n) {
        sockbuf::Request copy;
        std::memcpy(&copy, &ring.entries[consumed % sockbuf::request_slots], sizeof copy);
        copy.process = process;
        ++consumed;
        ring.consumed.store(consumed, std::memory_order_release);
        request(c, copy);
    }
    ring.consumed.store(consumed, std::memory_order_release);
    return n;
}

// At most `budget` sockets: a mark is whatever a program has written since, which may be much.
std::uint32_t GatewayCpu::take_marks(Client& c, std::uint32_t budget)
{
    auto& line = c.view().marks(me());
    std::uint32_t words = c.view().sockets() / 64;
    MarksLeft& left = c.cpu[me()].marks_left;
    std::uint32_t done = look_at_marks(c, budget);
    // Every summary word once, starting behind the last one, so that low slots do not starve high ones.
    std::uint32_t summaries = (words + 63) / 64;
    for (std::uint32_t i = 0; i < summaries && done < budget; ++i) {
        left.summary_at = (left.summary_at + 1) % summaries;
        if (line.summary[left.summary_at].load(std::memory_order_relaxed) != 0) {
            left.summary = line.summary[left.summary_at].exchange(0, std::memory_order_seq_cst);
            done += look_at_marks(c, budget - done);
        }
    }
    return done;
}

// What has been taken, as far as the budget goes.
std::uint32_t GatewayCpu::look_at_marks(Client& c, std::uint32_t budget)
{
    auto* bits = c.view().mark_bits(me());
    std::uint32_t words = c.view().sockets() / 64;
    MarksLeft& left = c.cpu[me()].marks_left;
    std::uint32_t done = 0;
    while (left.any() && done < budget) {
        if (left.bits == 0) {
            left.word = left.summary_at * 64 + static_cast<std::uint32_t>(std::countr_zero(left.summary));
            left.summary &= left.summary - 1;
            if (left.word >= words) {
                fault(c);
                left.summary = 0;
                break;
            }
            left.bits = bits[left.word].exchange(0, std::memory_order_seq_cst);
            if (base::planted(base::Plant::mark_cleared_late)) {
                late_marks(me()).push_back({left.word, left.bits});
            }
            continue;
        }
        std::uint32_t slot = left.word * 64 + static_cast<std::uint32_t>(std::countr_zero(left.bits));
        left.bits &= left.bits - 1;
        look(c, slot);
        ++done;
    }
    return done;
}

void GatewayCpu::look(Client& c, std::uint32_t slot)
{
    std::uint16_t owner = c.owner[slot].load(std::memory_order_acquire);
    if (owner == in_transit) {
        return; // its control message looks at everything when it comes back
    }
    if (owner != me()) { // marked before the application saw the new owner: mark it there
        if (sockbuf::set_mark(c.view(), owner, slot)) {
            shared_.stack.set().cpu(owner).ring();
        }
        return;
    }
    SocketRecord* rec = c.records[slot] != nullptr ? c.records[slot] : wake(c, slot);
    if (rec != nullptr && !rec->closing && !rec->detached) {
        look_here(*rec);
    }
}

// What the application moved is validated below; a socket that lied is aborted there and comes back as detached.
void GatewayCpu::look_here(SocketRecord& rec)
{
    if (rec.partner != 0) {
        return look_joined(rec);
    }
    watch_idle(rec);
    protocols::so_look_send(domain(), rec.so);
    if (!rec.detached) {
        protocols::so_look_rcvd(domain(), rec.so);
    }
    if (!rec.detached && rec.so.slot->app.want_space.load(std::memory_order_relaxed) != 0) {
        look_at_want(rec);
    }
    if (rec.so.app_closed && !rec.closing) {
        fault(*rec.client);
    }
}

// The application could not wake the other end's waiters by itself, or the other end is gone.
void GatewayCpu::look_joined(SocketRecord& rec)
{
    queue_event(*rec.client, rec.partner - 1);
    protocols::tcp_joined_look(domain(), rec.so);
}

} // namespace gateway
