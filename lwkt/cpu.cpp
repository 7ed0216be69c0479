// The public side of a CPU: sending, doorbells, pollers.
#include "lwkt/cpu.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "base/plant.hpp"
#include "lwkt/shard.hpp"

namespace lwkt {
namespace {

thread_local Cpu* current = nullptr;

template <typename T>
void drop(std::vector<T*>& list, T& e)
{
    auto at = std::find(list.begin(), list.end(), &e);
    INVARIANT(at != list.end());
    *at = nullptr; // the list may be in use by the running round; compact() closes the gap
}

} // namespace

OnCpu::OnCpu(Cpu& cpu) : cpu_before_(current), id_before_(base::current_cpu)
{
    current = &cpu;
    base::current_cpu = cpu.id();
}

OnCpu::~OnCpu()
{
    current = cpu_before_;
    base::current_cpu = id_before_;
}

CpuImpl::CpuImpl(Cpu& of, const CpuSetOptions& set_options, std::unique_ptr<Shard> of_shard)
    : cpu(of), options(set_options), shard(std::move(of_shard)),
      doorbell_fd(shard == nullptr ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1),
      doorbells_fd(set_options.discipline == Discipline::message ? epoll_create1(EPOLL_CLOEXEC) : -1),
      patience(set_options.spin_max)
{
    INVARIANT(doorbell_fd >= 0 || shard != nullptr);
    INVARIANT(doorbells_fd >= 0 || set_options.discipline != Discipline::message);
}

CpuImpl::~CpuImpl()
{
    waiter.reset();
    for (int fd : {doorbell_fd, doorbells_fd}) {
        if (fd >= 0) {
            close(fd);
        }
    }
}

void CpuImpl::assert_may_configure() const
{
    INVARIANT(Cpu::current() == &cpu || !cpu.set().running());
}

void CpuImpl::queue_to(CpuId to, Message& m, bool passive)
{
    base::assert_on(cpu.owner());
    INVARIANT(m.dispatch != nullptr);
    if (to == cpu.id()) {
        take(m);
        return;
    }
    if (shard != nullptr) {
        queue_to_shard(to, m, passive);
        return;
    }
    INVARIANT(to < outgoing.size());
    Outgoing& out = outgoing[to];
    base::count(cpu.counters_.messages_out);
    if ((!out.spill.empty() && !base::planted(base::Plant::spill_overtaken)) || !out.ring->ring.push(Sent(m))) {
        out.spill.push(m);
        ++spilled;
        base::count(cpu.counters_.spills);
        passive = false; // a target that sleeps on a full ring of passive messages has to make room
    }
    if (!passive) {
        mark_dirty(out);
    }
}

void CpuImpl::mark_dirty(Outgoing& out)
{
    if (!out.dirty) {
        out.dirty = true;
        dirty.push_back(&out);
    }
    // Who is seen asleep is woken now; who was just falling asleep is caught by ring_doorbells() after the batch.
    if (out.target->sleep_word().load(std::memory_order_relaxed) != 0) {
        ring_one(*out.target);
    }
}

void CpuImpl::ring_one(Cpu& target)
{
    if (base::planted(base::Plant::lost_doorbell)) {
        return;
    }
    target.ring();
    base::count(cpu.counters_.doorbells_sent);
}

void CpuImpl::ring_doorbells()
{
    for (Outgoing* out : dirty) {
        out->dirty = false;
        out->ring->fence();
        if (out->target->sleep_word().load(std::memory_order_seq_cst) != 0) {
            ring_one(*out->target);
        } else {
            base::count(cpu.counters_.doorbells_suppressed);
        }
    }
    dirty.clear();
}

// True when something moved.
bool CpuImpl::flush_spills()
{
    bool moved = false;
    if (spilled == 0) {
        return false;
    }
    for (Outgoing& out : outgoing) {
        bool here = false;
        // Popped before the push: once pushed, the message and its link belong to the target.
        while (Message* m = out.spill.front()) {
            if (out.ring->ring.waiting(options.ring_slots - 1) >= options.ring_slots) {
                break;
            }
            out.spill.pop();
            INVARIANT(out.ring->ring.push(Sent(*m)));
            --spilled;
            here = true;
        }
        if (here) {
            mark_dirty(out);
            moved = true;
        }
    }
    return moved;
}

Cpu::Cpu(CpuSet& set, CpuId id, std::atomic<std::uint32_t>* sleep_word) : owner_(id), set_(set), sleep_word_(sleep_word)
{
}

Cpu::~Cpu() = default;

Cpu* Cpu::current()
{
    return lwkt::current;
}

Instant Cpu::refresh_now()
{
    now_ = set_.clock().now();
    return now_;
}

void Cpu::send(CpuId to, Message& m)
{
    impl_->queue_to(to, m, false);
}

bool Cpu::try_send(CpuId to, Message& m, Shed shed)
{
    base::assert_on(owner_);
    std::uint32_t quarters = 2 + static_cast<std::uint32_t>(shed);
    std::uint32_t limit = impl_->options.packets_queued_max / 4 * quarters;
    std::size_t waiting = 0;
    if (to == id()) {
        for (const auto& c : impl_->classes) {
            waiting += c.queue.size();
        }
    } else if (impl_->shard != nullptr) {
        // What was posted and not taken in yet is bounded by the packet pools alone.
        waiting = set_.cpu(to).impl_->backlog.load(std::memory_order_relaxed);
    } else {
        INVARIANT(to < impl_->outgoing.size());
        CpuImpl::Outgoing& out = impl_->outgoing[to];
        waiting = out.spill.size() + out.target->impl_->backlog.load(std::memory_order_relaxed);
        waiting += out.ring->ring.waiting(waiting < limit ? limit - static_cast<std::uint32_t>(waiting) - 1 : 0);
    }
    if (waiting >= limit) {
        base::count(counters_.shed);
        return false;
    }
    impl_->queue_to(to, m, false);
    return true;
}

void Cpu::send_passive(CpuId to, Message& m)
{
    impl_->queue_to(to, m, true);
    base::count(counters_.passive_out);
}

void Cpu::add_poller(Class cls, Poller& p)
{
    impl_->assert_may_configure();
    impl_->classes[static_cast<unsigned>(cls)].pollers.push_back(&p);
}

void Cpu::remove_poller(Class cls, Poller& p)
{
    impl_->assert_may_configure();
    drop(impl_->classes[static_cast<unsigned>(cls)].pollers, p);
    impl_->removed = true;
    if (impl_->waiter != nullptr) {
        impl_->watch_pollers(); // now: the caller may close the descriptor next
    }
}

void Cpu::add_rollup(Rollup& r)
{
    impl_->assert_may_configure();
    impl_->rollups.push_back(&r);
}

void Cpu::remove_rollup(Rollup& r)
{
    impl_->assert_may_configure();
    drop(impl_->rollups, r);
    impl_->removed = true;
}

int Cpu::doorbell_fd() const
{
    return impl_->doorbell_fd;
}

// Edge-triggered: each write is heard once, whatever the counter says, so it need not be read.
int Cpu::add_doorbell()
{
    INVARIANT(impl_->doorbells_fd >= 0);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    if (fd >= 0 && epoll_ctl(impl_->doorbells_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

void Cpu::remove_doorbell(int fd)
{
    // Closing alone would not do: others have the same open file.
    INVARIANT(epoll_ctl(impl_->doorbells_fd, EPOLL_CTL_DEL, fd, nullptr) == 0);
    close(fd);
}

void Cpu::ring()
{
    if (impl_->shard != nullptr) {
        impl_->ring_shard(); // its sleep word stays set: nobody polls for it
        return;
    }
    if (sleep_word_->exchange(0, std::memory_order_seq_cst) != 0) {
        // At once also where the caller holds the lock of another set's shard (a link between a stack with locks and
        // one without): a call put off could come when this set is gone.
        std::uint64_t one = 1;
        [[maybe_unused]] auto n = write(impl_->doorbell_fd, &one, sizeof one); // full counter: it is readable anyway
    }
}

} // namespace lwkt
