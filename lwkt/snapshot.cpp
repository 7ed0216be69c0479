// See snapshot.hpp.
#include "lwkt/snapshot.hpp"

#include <algorithm>

namespace lwkt {

const Snapshot::Sum Snapshot::sums[] = {
    {"rounds", &Snapshot::rounds, &CpuCounters::rounds},
    {"busy_rounds", &Snapshot::busy_rounds, &CpuCounters::busy_rounds},
    {"sleeps", &Snapshot::sleeps, &CpuCounters::sleeps},
    {"operations", &Snapshot::operations, &CpuCounters::operations},
    {"messages_in", &Snapshot::messages_in, &CpuCounters::messages_in},
    {"messages_out", &Snapshot::messages_out, &CpuCounters::messages_out},
    {"passive_out", &Snapshot::passive_out, &CpuCounters::passive_out},
    {"doorbells_sent", &Snapshot::doorbells_sent, &CpuCounters::doorbells_sent},
    {"doorbells_suppressed", &Snapshot::doorbells_suppressed, &CpuCounters::doorbells_suppressed},
    {"spills", &Snapshot::spills, &CpuCounters::spills},
    {"shed", &Snapshot::shed, &CpuCounters::shed},
    {"lock_waits", &Snapshot::lock_waits, &CpuCounters::lock_waits},
    {"lock_wait_ns", &Snapshot::lock_wait_ns, &CpuCounters::lock_wait_ns},
    {"holds_timed", &Snapshot::holds_timed, &CpuCounters::holds_timed},
    {"hold_ns", &Snapshot::hold_ns, &CpuCounters::hold_ns},
    {"left_to_holder", &Snapshot::left_to_holder, &CpuCounters::left_to_holder},
};
const Snapshot::Sum Snapshot::maxima[] = {
    {"batch_max", &Snapshot::batch_max, &CpuCounters::batch_max},
    {"longest_handler_us", &Snapshot::longest_handler_us, &CpuCounters::longest_handler_us},
    {"timer_late_max_us", &Snapshot::timer_late_max_us, &CpuCounters::timer_late_max_us},
};

Snapshot::Snapshot(const CpuCounters& c)
{
    for (const Sum& s : sums) {
        this->*s.field = (c.*s.counter).load(std::memory_order_relaxed);
    }
    for (const Sum& s : maxima) {
        this->*s.field = (c.*s.counter).load(std::memory_order_relaxed);
    }
    for (unsigned i = 0; i < class_count; ++i) {
        items[i] = c.items[i].load(std::memory_order_relaxed);
        busy_us[i] = c.busy_us[i].load(std::memory_order_relaxed);
    }
}

Snapshot& Snapshot::operator+=(const Snapshot& other)
{
    for (const Sum& s : sums) {
        this->*s.field += other.*s.field;
    }
    for (const Sum& s : maxima) {
        this->*s.field = std::max(this->*s.field, other.*s.field);
    }
    for (unsigned i = 0; i < class_count; ++i) {
        items[i] += other.items[i];
        busy_us[i] += other.busy_us[i];
    }
    return *this;
}

Snapshot Snapshot::since(const Snapshot& before) const
{
    Snapshot result = *this;
    for (const Sum& s : sums) {
        result.*s.field -= before.*s.field;
    }
    for (unsigned i = 0; i < class_count; ++i) {
        result.items[i] -= before.items[i];
        result.busy_us[i] -= before.busy_us[i];
    }
    return result;
}

} // namespace lwkt
