// How time passes for a stack that packetdrill drives, and who runs the stack meanwhile.
//
// VirtualPace: one lock; whoever holds it is the one thread of the simulation. The tool's clock calls move time. A
// blocked call sleeps on a condition variable until what it waits for has happened in the world that others move; time
// then stands still until its thread has read the clock, so that the call ends at the moment it was woken. RealPace:
// the stack has threads of its own and calls go straight through.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "embed/simulation.hpp"

namespace packetdrill {

class Pace {
public:
    virtual ~Pace() = default;
    // The simulation to build the stack in; null: real time.
    virtual embed::Simulation* simulation() = 0;
    // Around everything that touches the stack.
    virtual void enter() = 0;
    virtual void leave() = 0;
    // Members 27 and 28 of the interface, and the time a packet leaves: microseconds since 1970.
    virtual void sleep_for(std::int64_t us) = 0;
    virtual std::int64_t read_clock() = 0;
    virtual std::int64_t stamp() = 0; // inside enter() or on a thread of the stack
    // Until `there()`, at most for `us`. there() may wait on its own in real time, never in virtual.
    virtual bool wait_until(const std::function<bool()>& there, std::int64_t us) = 0;
};

class RealPace final : public Pace {
public:
    embed::Simulation* simulation() override { return nullptr; }
    void enter() override {}
    void leave() override {}
    void sleep_for(std::int64_t us) override;
    std::int64_t read_clock() override { return stamp(); }
    std::int64_t stamp() override;
    bool wait_until(const std::function<bool()>& there, std::int64_t us) override;
};

class VirtualPace final : public Pace {
public:
    VirtualPace();
    embed::Simulation* simulation() override { return &world_; }
    void enter() override;
    void leave() override; // everything that can happen now has happened
    void sleep_for(std::int64_t us) override;
    std::int64_t read_clock() override;
    std::int64_t stamp() override;
    bool wait_until(const std::function<bool()>& there, std::int64_t us) override;

private:
    struct Sleeper { // a blocked call
        const bool* woken;
        base::Instant limit;
        std::thread::id thread = std::this_thread::get_id();
        bool released = false;
        bool ready(base::Instant now) const { return *woken || limit <= now; }
    };
    bool sleep(const bool& woken, base::Instant limit);
    void settle();
    bool release_ready();
    void hold();
    void advance(base::Instant limit);
    void pass_until(base::Instant until);
    bool forget_awake();

    std::mutex mutex_; // everything below, and the stack
    std::condition_variable changed_;
    embed::Simulation world_;
    std::vector<Sleeper*> sleepers_;
    std::vector<std::thread::id> awake_; // released, and have not read the clock since
    std::uint64_t entries_ = 0;          // calls so far: shows that somebody moves time
    unsigned inside_ = 0;                // calls that are under way and not asleep
};

// enter() and leave() for a scope.
class InStack {
public:
    explicit InStack(Pace& p) : pace_(p) { pace_.enter(); }
    ~InStack() { pace_.leave(); }
    InStack(const InStack&) = delete;
    InStack& operator=(const InStack&) = delete;

private:
    Pace& pace_;
};

} // namespace packetdrill
