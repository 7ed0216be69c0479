// A function with a stack of its own that can stop in the middle: what an application of the simulation runs on, so
// that its blocking calls can wait while everything else goes on, on one OS thread. A fiber that is destroyed before
// its end is abandoned where it stands, as a thread of a killed process is: destructors on its stack do not run, so it
// must not own memory there. No exceptions.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <functional>

namespace sim {

class Fiber {
public:
    explicit Fiber(std::function<void()> body);
    ~Fiber();
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    // Runs it until it pauses or ends. Not from inside a fiber.
    void resume();
    bool ended() const { return ended_; }
    // Inside a fiber: back to who resumed it.
    static void pause();
    static Fiber* current();

private:
    static void enter();

    std::function<void()> body_;
    std::byte* stack_;
    ucontext_t here_{};
    ucontext_t resumer_{};
    bool ended_ = false;
};

} // namespace sim
