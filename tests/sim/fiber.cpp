// Stacks are used again, since applications come and go by the thousand. The address sanitizer is told of every switch.
#include "tests/sim/fiber.hpp"

#include <sys/mman.h>

#include <vector>

#include "base/check.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#endif
#ifdef SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace sim {

namespace {

constexpr std::size_t stack_bytes = 256 * 1024;
Fiber* running = nullptr;

std::vector<std::byte*>& spare_stacks()
{
    static std::vector<std::byte*> spare;
    return spare;
}

std::byte* take_stack()
{
    std::vector<std::byte*>& spare = spare_stacks();
    if (!spare.empty()) {
        std::byte* s = spare.back();
        spare.pop_back();
        return s;
    }
    void* memory = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    INVARIANT(memory != MAP_FAILED);
    return static_cast<std::byte*>(memory);
}

void give_stack(std::byte* stack)
{
#ifdef SIM_ASAN
    __asan_unpoison_memory_region(stack, stack_bytes); // frames of an abandoned fiber
#endif
    spare_stacks().push_back(stack);
}

#ifdef SIM_ASAN
const void* main_bottom = nullptr;
std::size_t main_bytes = 0;
void* main_fake = nullptr;
#endif

} // namespace

Fiber::Fiber(std::function<void()> body) : body_(std::move(body)), stack_(take_stack())
{
    getcontext(&here_);
    here_.uc_stack.ss_sp = stack_;
    here_.uc_stack.ss_size = stack_bytes;
    here_.uc_link = nullptr;
    makecontext(&here_, &Fiber::enter, 0);
}

Fiber::~Fiber()
{
    give_stack(stack_);
}

Fiber* Fiber::current()
{
    return running;
}

void Fiber::resume()
{
    INVARIANT(running == nullptr && !ended_);
    running = this;
#ifdef SIM_ASAN
    __sanitizer_start_switch_fiber(&main_fake, stack_, stack_bytes);
#endif
    swapcontext(&resumer_, &here_);
#ifdef SIM_ASAN
    __sanitizer_finish_switch_fiber(main_fake, nullptr, nullptr);
#endif
    running = nullptr;
}

void Fiber::pause()
{
    INVARIANT(running != nullptr);
    Fiber& me = *running;
#ifdef SIM_ASAN
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(me.ended_ ? nullptr : &fake, main_bottom, main_bytes);
#endif
    swapcontext(&me.here_, &me.resumer_);
#ifdef SIM_ASAN
    __sanitizer_finish_switch_fiber(fake, &main_bottom, &main_bytes);
#endif
}

void Fiber::enter()
{
#ifdef SIM_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &main_bottom, &main_bytes);
#endif
    running->body_();
    running->ended_ = true;
    pause();
    base::check_failed("an ended fiber was resumed", __FILE__, __LINE__);
}

} // namespace sim
