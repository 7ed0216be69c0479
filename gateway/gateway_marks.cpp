// Marks and request rings: what families say to this CPU. Owner: this CPU's protocol thread. A mark is cleared before
// the offsets it is about are read, so a publication after the read leaves a new mark. A summary bit stays while its
// word is in use: neither side then pays a locked instruction for it, nor takes its line from the other, per mark.
#include <bit>
#include <cstring>

#include "base/plant.hpp"
#include "gateway/gateway_cpu.hpp"

namespace gateway {

namespace {

// Some microseconds of a CPU that has nothing else to do; under load the words are in use.
constexpr std::uint32_t rounds_until_unused = 64;

// What summary word `i` can name.
std::uint64_t words_of(const Client& c, std::uint32_t i)
{
    std::uint32_t words = c.view().sockets() / 64 - i * 64;
    return words >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << words) - 1;
}

} // namespace

std::uint32_t GatewayCpu::poll(std::uint32_t budget)
{
    base::assert_on(cpu_.owner());
    families_.listen(cpu_.now());
    auto& lively = families_.lively();
    std::uint32_t done = to_serve_.empty() ? 0 : serve_wanted_rings();
    std::size_t n = lively.size();
    for (std::size_t i = 0; i < n && done < budget; ++i) {
        PollSet::Family& f = lively[(first_ + i) % n];
        std::uint32_t of_it = poll_client(*f.client, budget - done);
        f.said |= of_it != 0;
        done += of_it;
    }
    if (done >= budget) {
        ++first_;
    }
    families_.sort([this](const Client& c) { return has_news(c); });
    return done;
}

bool GatewayCpu::pending() const
{
    return !to_serve_.empty() || families_.pending([this](const Client& c) { return has_news(c); });
}

bool GatewayCpu::has_news(const Client& c) const
{
    const auto& line = c.view().marks(me());
    if (c.cpu[me()].processes_left != 0 || c.cpu[me()].marks_left.any() ||
        line.processes.load(std::memory_order_seq_cst) != 0) {
        return true;
    }
    for (std::uint32_t i = 0; i * 4096 < c.view().sockets(); ++i) {
        if (marked_words(c, i, line.summary[i].load(std::memory_order_seq_cst)) != 0) {
            return true;
        }
    }
    return false;
}

// Those of the words `named` in summary word `i` that are not 0.
std::uint64_t GatewayCpu::marked_words(const Client& c, std::uint32_t i, std::uint64_t named) const
{
    const auto* bits = c.view().mark_bits(me()) + std::size_t{i} * 64;
    std::uint64_t marked = 0;
    for (std::uint64_t left = named & words_of(c, i); left != 0; left &= left - 1) {
        if (bits[std::countr_zero(left)].load(std::memory_order_seq_cst) != 0) {
            marked |= left & -left;
        }
    }
    return marked;
}

std::uint32_t GatewayCpu::poll_client(Client& c, std::uint32_t budget)
{
    auto& line = c.view().marks(me());
    ClientCpu& mine = c.cpu[me()];
    if (base::planted(base::Plant::mark_cleared_late)) {
        for (const LateMarks& m : late_marks_) {
            c.view().mark_bits(me())[m.word % (c.view().sockets() / 64)].fetch_and(~m.bits);
        }
        late_marks_.clear();
    }
    if (line.processes.load(std::memory_order_relaxed) != 0) {
        mine.processes_left |= line.processes.exchange(0, std::memory_order_seq_cst);
    }
    // Half for requests while there are marks, so that neither waits for the other.
    std::uint32_t done = mine.processes_left != 0 ? drain_requests(c, (budget + 1) / 2) : 0;
    done += done < budget ? take_marks(c, budget - done) : 0;
    return done < budget && mine.processes_left != 0 ? done + drain_requests(c, budget - done) : done;
}

// Each process once, beginning behind the last one, so that low numbers do not starve high ones.
std::uint32_t GatewayCpu::drain_requests(Client& c, std::uint32_t budget)
{
    ClientCpu& mine = c.cpu[me()];
    mine.processes_left &= (std::uint64_t{1} << sockbuf::max_processes) - 1;
    std::uint32_t done = 0;
    for (std::uint64_t left = mine.processes_left; left != 0 && done < budget;) {
        std::uint64_t behind = left & (~std::uint64_t{0} << mine.next_process);
        auto process = static_cast<std::uint32_t>(std::countr_zero(behind != 0 ? behind : left));
        left &= ~(std::uint64_t{1} << process);
        mine.next_process = (process + 1) % sockbuf::max_processes;
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
    bool any = false;
    for (std::uint32_t n = 0; n < summaries && done < budget; ++n) {
        left.summary_at = left.summary_at + 1 < summaries ? left.summary_at + 1 : 0;
        std::uint32_t i = left.summary_at;
        std::uint64_t named = line.summary[i].load(std::memory_order_relaxed);
        if (named == 0) {
            continue; // most families, most of the time
        }
        any = true;
        if ((named & ~words_of(c, i)) != 0) {
            line.summary[i].fetch_and(words_of(c, i), std::memory_order_seq_cst);
            fault(c);
        }
        left.summary = marked_words(c, i, named);
        left.used[i] |= left.summary;
        done += look_at_marks(c, budget - done);
    }
    if (any && ++left.rounds >= rounds_until_unused) {
        left.rounds = 0;
        forget_unused_words(c);
    }
    return done;
}

// A bit is cleared first and its word looked at afterwards: who marks in between either saw the bit cleared and sets it
// again, or marked before this look.
void GatewayCpu::forget_unused_words(Client& c)
{
    auto& line = c.view().marks(me());
    MarksLeft& left = c.cpu[me()].marks_left;
    for (std::uint32_t i = 0; i * 4096 < c.view().sockets(); ++i) {
        std::uint64_t unused = line.summary[i].load(std::memory_order_relaxed) & ~left.used[i];
        left.used[i] = 0;
        if (unused != 0) {
            line.summary[i].fetch_and(~unused, std::memory_order_seq_cst);
            if (std::uint64_t marked = marked_words(c, i, unused); marked != 0) {
                line.summary[i].fetch_or(marked, std::memory_order_seq_cst);
            }
        }
    }
}

// A process that dies between the two steps of a mark leaves a word that nobody names.
void GatewayCpu::name_marked_words(Client& c)
{
    for (std::uint32_t i = 0; i * 4096 < c.view().sockets(); ++i) {
        if (std::uint64_t marked = marked_words(c, i, words_of(c, i)); marked != 0) {
            c.view().marks(me()).summary[i].fetch_or(marked, std::memory_order_seq_cst);
        }
    }
}

// What has been taken, as far as the budget goes.
std::uint32_t GatewayCpu::look_at_marks(Client& c, std::uint32_t budget)
{
    auto* bits = c.view().mark_bits(me());
    MarksLeft& left = c.cpu[me()].marks_left;
    std::uint32_t done = 0;
    while (left.any() && done < budget) {
        if (left.bits == 0) {
            left.word = left.summary_at * 64 + static_cast<std::uint32_t>(std::countr_zero(left.summary));
            left.summary &= left.summary - 1;
            left.bits = bits[left.word].exchange(0, std::memory_order_seq_cst);
            if (base::planted(base::Plant::mark_cleared_late)) {
                late_marks_.push_back({left.word, left.bits});
            }
            continue;
        }
        std::uint32_t slot = left.word * 64 + static_cast<std::uint32_t>(std::countr_zero(left.bits));
        left.bits &= left.bits - 1;
        if (left.bits != 0) {
            fetch_record(c, left.word * 64 + static_cast<std::uint32_t>(std::countr_zero(left.bits)));
        }
        look(c, slot);
        ++done;
    }
    return done;
}

// It is looked at next: its lines, and the slot's, come meanwhile.
void GatewayCpu::fetch_record(const Client& c, std::uint32_t slot) const
{
    const SocketRecord* rec = c.owner[slot].load(std::memory_order_acquire) == me() ? c.slots[slot].record() : nullptr;
    if (rec != nullptr) {
        const auto* line = reinterpret_cast<const std::byte*>(rec);
        for (const auto* end = line + sizeof *rec; line < end; line += 64) {
            __builtin_prefetch(line, 1);
        }
        c.view().fetch_slot(slot);
    }
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
    SocketRecord* rec = record_of(c, slot);
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
