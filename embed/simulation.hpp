// A world in virtual time: stacks that share one clock and are stepped by the one thread that uses them, in an order
// drawn from a seed, so the same seed gives the same run to the bit. Blocking calls on a simulated stack step the
// world until they are done. One OS thread only, or several of which one at a time is inside (set_wait).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "lwkt/cpu_set.hpp"

namespace embed {

class Simulation {
public:
    explicit Simulation(std::uint64_t seed) : order_(seed) {}
    Simulation(const Simulation&) = delete;
    Simulation& operator=(const Simulation&) = delete;

    base::Instant now() const { return clock_.now(); }
    lwkt::VirtualClock& clock() { return clock_; }

    // A round of every CPU of every stack; when none had work, the clock moves to the next deadline, at most to
    // `limit`. False, with the clock where it was, when nothing can happen before `limit` any more.
    bool step(base::Instant limit = base::never);
    // Steps until `done()`; false when that did not come within `patience` of virtual time, or never can.
    bool run_until(const std::function<bool()>& done, base::Micros patience);
    // Lets virtual time pass.
    void run_for(base::Micros time);

    // How a blocked call waits when another thread moves the world, at most to `limit`; true: look again, else as
    // step(). That thread and the calls exclude each other. Without it a blocked call steps the world.
    using Wait = std::function<bool(const bool& woken, base::Instant limit)>;
    void set_wait(Wait wait) { wait_ = std::move(wait); }
    bool wait(const bool& woken, base::Instant limit) { return wait_ ? wait_(woken, limit) : step(limit); }

    // Stacks come and go (embed/embed_stack.cpp).
    void add(lwkt::CpuSet& set) { sets_.push_back(&set); }
    void remove(lwkt::CpuSet& set) { std::erase(sets_, &set); }

private:
    bool step_sets();

    lwkt::VirtualClock clock_;
    base::Random order_;
    std::vector<lwkt::CpuSet*> sets_;
    Wait wait_;
    int stuck_ = 0; // steps without work though a deadline has passed
};

} // namespace embed
