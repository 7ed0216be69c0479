#include "embed/simulation.hpp"

#include <algorithm>

#include "base/check.hpp"

namespace embed {

namespace {

constexpr int stuck_max = 1000; // a poller whose deadline passed must do something about it

} // namespace

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
        stuck_ = 0;
        return true;
    }
    base::Instant next = base::never;
    for (lwkt::CpuSet* set : sets_) {
        next = std::min(next, set->next_deadline());
    }
    if (next == base::never || next > limit) {
        return false;
    }
    stuck_ = next > now() ? 0 : stuck_ + 1;
    INVARIANT(stuck_ < stuck_max);
    clock_.advance_to(std::max(next, now()));
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
