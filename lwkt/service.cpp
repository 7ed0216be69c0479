// See service.hpp.
#include "lwkt/service.hpp"

#include <algorithm>

#include "lwkt/cpu_set.hpp"
#include "lwkt/futex.hpp"
#include "lwkt/shard.hpp"

namespace lwkt {

void Service::ring()
{
    if (bell_.exchange(1, std::memory_order_seq_cst) == 0) {
        futex_wake(bell_, 1);
    }
}

void Service::stop()
{
    stop_.store(true, std::memory_order_seq_cst);
    ring();
}

void Service::visit_due()
{
    std::int64_t now_us = clock_.now().time_since_epoch().count();
    for (Cpu* cpu : cpus_) {
        Shard& shard = *cpu->impl_->shard;
        bool asked = shard.for_service.load(std::memory_order_relaxed) != 0 &&
                     shard.for_service.exchange(0, std::memory_order_seq_cst) != 0;
        if (asked || shard.deadline_us.load(std::memory_order_relaxed) <= now_us) {
            cpu->impl_->enter(nullptr, nullptr);
        }
    }
}

std::int64_t Service::plan() const
{
    std::int64_t next = never_us;
    for (const Cpu* cpu : cpus_) {
        next = std::min(next, cpu->impl_->shard->deadline_us.load(std::memory_order_relaxed));
    }
    return next;
}

// Called with wake_at_us_ stored: who moves a deadline after this look sees that we sleep.
bool Service::overtaken(std::int64_t wake_at_us) const
{
    return stop_.load(std::memory_order_seq_cst) || std::any_of(cpus_.begin(), cpus_.end(), [&](const Cpu* cpu) {
        const Shard& shard = *cpu->impl_->shard;
        return shard.deadline_us.load(std::memory_order_seq_cst) < wake_at_us ||
               shard.for_service.load(std::memory_order_seq_cst) != 0;
    });
}

void Service::run()
{
    while (!stop_.load(std::memory_order_relaxed)) {
        bell_.exchange(0, std::memory_order_seq_cst);
        visit_due();
        std::int64_t next_us = plan();
        wake_at_us_.store(next_us, std::memory_order_seq_cst);
        if (!overtaken(next_us)) {
            futex_wait(bell_, 0, next_us == never_us ? base::never : Instant{Micros{next_us}});
        }
        wake_at_us_.store(awake, std::memory_order_seq_cst);
    }
}

} // namespace lwkt
