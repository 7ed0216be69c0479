#include "embed/simulation.hpp"

#include <algorithm>

namespace embed {

// The stacks in a drawn order, each with its CPUs in a drawn order.
bool Simulation::step_sets()
{
    for (auto left = static_cast<std::uint32_t>(sets_.size()); left > 1; --left) {
        std::swap(sets_[left - 1], sets_[order_.below(left)]);
    }
    bool worked = false;
    for (lwkt::CpuSet* set : sets_) {
        worked |= set->step(&order_);
    }
    return worked;
}

bool Simulation::step(base::Instant limit)
{
    if (step_sets()) {
        return true;
    }
    base::Instant next = base::never;
    for (lwkt::CpuSet* set : sets_) {
        next = std::min(next, set->next_deadline());
    }
    if (next == base::never || next > limit) {
        return false;
    }
    clock_.advance_to(std::max(next, clock_.now()));
    return true;
}

bool Simulation::run_until(const std::function<bool()>& done, base::Micros patience)
{
    base::Instant limit = now() + patience;
    while (!done()) {
        if (now() > limit || !step(limit)) {
            return false;
        }
    }
    return true;
}

void Simulation::run_for(base::Micros time)
{
    base::Instant until = now() + time;
    while (now() < until && step(until)) {
    }
    clock_.advance_to(std::max(until, now()));
}

} // namespace embed
