// Visits of shards, see shard.hpp.
#include "lwkt/futex.hpp"
#include "lwkt/shard.hpp"

namespace lwkt {

constinit thread_local Visitor visitor;

namespace {

constexpr unsigned passes_max = 16;        // of a visit; what is left then is another visit's
constexpr unsigned visits_max = 2048;      // that one operation makes; a walk over 64 shards needs one each
constexpr std::uint64_t timed_one_in = 64; // visits that are timed: a look at the clock costs as much as the lock

} // namespace

// A shard of which this thread is not the visitor, now or at all.
void CpuImpl::leave_to_service()
{
    shard->for_service.store(1, std::memory_order_seq_cst);
    shard->service.asked();
}

void Visitor::note(Cpu& cpu)
{
    if (dirty_begin != dirty_end && dirty[(dirty_end - 1) % dirty_max].cpu == &cpu) {
        return;
    }
    if (dirty_end - dirty_begin == dirty_max) {
        cpu.impl_->leave_to_service();
        return;
    }
    bool foreign = &cpu.set() != home;
    if (foreign) {
        cpu.impl_->shard->expected.fetch_add(1, std::memory_order_seq_cst);
    }
    dirty[dirty_end++ % dirty_max] = {&cpu, foreign};
}

void after_release(void (*f)(void*), void* argument)
{
    Visitor& v = visitor;
    if (v.inside == nullptr || v.deferred == Visitor::deferred_max) {
        f(argument); // the second is a system call under the lock, which is better than a lost one
        return;
    }
    v.calls[v.deferred++] = {f, argument};
}

void CpuImpl::push_posted(Message& m)
{
    Message* head = posted.load(std::memory_order_relaxed);
    do {
        m.next = head;
    } while (!posted.compare_exchange_weak(head, &m, std::memory_order_seq_cst, std::memory_order_relaxed));
}

void CpuImpl::queue_to_shard(CpuId to, Message& m, bool passive)
{
    Cpu& target = cpu.set().cpu(to);
    base::count(cpu.counters_.messages_out);
    target.impl_->push_posted(m);
    if (!passive && visitor.inside != nullptr) { // else stop() is draining all
        visitor.note(target);
    }
}

void CpuImpl::ring_shard()
{
    Visitor& v = visitor;
    if (v.busy()) {
        v.note(cpu);
    } else if (Cpu::current() != nullptr) { // a protocol thread of another set: visits never nest in its round
        leave_to_service();
    } else {
        v.home = &cpu.set();
        v.note(cpu);
        settle();
    }
}

bool CpuImpl::enter(Operation f, void* argument, std::uint32_t socket)
{
    if (visitor.busy()) {
        return false;
    }
    visitor.home = &cpu.set();
    if (!shard->lock.try_lock()) {
        Clock& clock = cpu.set().clock();
        std::int64_t start_ns = clock.now_ns();
        shard->lock.lock();
        base::count(cpu.counters_.lock_waits);
        base::count(cpu.counters_.lock_wait_ns, static_cast<std::uint64_t>(clock.now_ns() - start_ns));
    }
    SocketLocks* side = socket == no_socket ? nullptr : shard->socket_locks;
    if (side != nullptr) { // only ever taken under a shard's lock, send before receive
        side += socket % SocketLocks::count;
        side->snd.lock();
        side->rcv.lock();
    }
    visit_and_release(f, argument, side);
    settle();
    return true;
}

// Holding the lock.
void CpuImpl::visit_and_release(Operation f, void* argument, SocketLocks* side)
{
    Visitor& v = visitor;
    Clock& clock = cpu.set().clock();
    v.inside = &cpu;
    bool timed = cpu.counters_.rounds.load(std::memory_order_relaxed) % timed_one_in == 0;
    timing = timed;
    std::int64_t held_since_ns = timed ? clock.now_ns() : 0;
    bool left = false;
    {
        OnCpu here(cpu);
        left = visit(f, argument);
    }
    std::int64_t due_us = next_deadline().time_since_epoch().count();
    bool moved = due_us != shard->deadline_us.load(std::memory_order_relaxed);
    if (moved) {
        shard->deadline_us.store(due_us, std::memory_order_seq_cst);
    }
    if (timed) {
        base::count(cpu.counters_.holds_timed);
        base::count(cpu.counters_.hold_ns, static_cast<std::uint64_t>(clock.now_ns() - held_since_ns));
    }
    v.inside = nullptr;
    if (side != nullptr) {
        side->rcv.unlock();
        side->snd.unlock();
    }
    shard->lock.unlock();
    if (moved) {
        shard->service.deadline_moved(due_us);
    }
    if (left || shard->news.fetch_or(0, std::memory_order_seq_cst) != 0) {
        v.note(cpu);
    }
}

// A lean round: no budgets per class, because the caller waits for its own operation and for nothing else. True when
// something is left.
bool CpuImpl::visit(Operation f, void* argument)
{
    if (removed) {
        compact();
    }
    base::count(cpu.counters_.rounds);
    base::count(cpu.counters_.busy_rounds);
    cpu.refresh_now();
    if (shard->news.load(std::memory_order_relaxed) != 0) {
        shard->news.exchange(0, std::memory_order_seq_cst); // before the look at what it tells of
    }
    take_in();
    if (shard->deadline_us.load(std::memory_order_relaxed) <= cpu.now().time_since_epoch().count()) {
        run_batch(Class::clock, options.class_items);
    }
    if (f != nullptr) {
        base::count(cpu.counters_.operations);
        f(argument, cpu);
    }
    run_rollups();
    bool again = true;
    for (unsigned pass = 0; again && pass < passes_max; ++pass) {
        std::uint32_t n = run_batch(Class::net, options.class_items);
        n += run_batch(Class::serial, options.class_items);
        if (n != 0) {
            run_rollups();
        }
        again = n != 0 || posted.load(std::memory_order_relaxed) != nullptr;
        if (again) {
            take_in();
        }
    }
    if (run_batch(Class::bio, options.class_items) + run_batch(Class::gen, options.class_items) != 0) {
        run_rollups();
    }
    return again || !queues_empty();
}

// Grows with everything that was done.
std::uint64_t CpuImpl::work_done() const
{
    std::uint64_t sum = cpu.counters_.messages_in.load(std::memory_order_relaxed);
    for (const auto& items : cpu.counters_.items) {
        sum += items.load(std::memory_order_relaxed);
    }
    return sum;
}

// A visit for what was published there, unless somebody is inside, who then looks again.
void CpuImpl::call_on()
{
    shard->news.exchange(1, std::memory_order_seq_cst);
    if (shard->lock.try_lock()) {
        visit_and_release(nullptr, nullptr, nullptr);
    } else {
        cpu.counters_.left_to_holder.fetch_add(1, std::memory_order_relaxed);
    }
}

// What this thread owes after a release: first the system calls, so that those it woke get going, then the CPUs that it
// sent something.
void CpuImpl::settle()
{
    Visitor& v = visitor;
    v.settling = true;
    for (unsigned visits = 0;;) {
        for (unsigned i = 0; i < v.deferred; ++i) {
            v.calls[i].function(v.calls[i].argument);
        }
        v.deferred = 0;
        if (v.dirty_begin == v.dirty_end) {
            break;
        }
        Visitor::Noted noted = v.dirty[v.dirty_begin++ % Visitor::dirty_max];
        CpuImpl& next = *noted.cpu->impl_;
        if (++visits > visits_max) {
            next.leave_to_service();
        } else if (!noted.expected || !next.shard->closed.load(std::memory_order_seq_cst)) {
            next.call_on();
        }
        if (noted.expected) { // the last touch: the set may go now
            next.shard->expected.fetch_sub(1, std::memory_order_seq_cst);
        }
    }
    v.settling = false;
}

} // namespace lwkt
