// Discipline inline: application threads are the protocol threads. A thread adopts a CPU (one of each set it uses),
// runs rounds of it when it likes and whenever it waits, and gives it back. Between rounds it is an ordinary thread. A
// CPU that nobody has adopted stands still, but for what CpuSet::call runs there.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "lwkt/cpu_set.hpp"

namespace lwkt {

// The calling thread is the protocol thread of `cpu` for the life of this object, which must end on the same thread.
// Waits until no other thread is.
class Adopted {
public:
    explicit Adopted(Cpu& cpu);
    ~Adopted(); // runs what is queued first
    Adopted(const Adopted&) = delete;
    Adopted& operator=(const Adopted&) = delete;

    Cpu& cpu() const { return cpu_; }

private:
    Cpu& cpu_; // c
};

// The CPU of `set` that the calling thread has adopted; null = none.
Cpu* adopted_of(const CpuSet& set);
bool has_adopted();
// Runs `f` as the protocol thread of a CPU that the calling thread has adopted.
void on_cpu(Cpu& adopted, void (*f)(void*), void* argument);
template <typename F>
void on_cpu(Cpu& adopted, F&& f)
{
    on_cpu(
        adopted, [](void* argument) { (*static_cast<std::remove_reference_t<F>*>(argument))(); }, std::addressof(f));
}
// A round of every CPU that the calling thread has adopted. True when there was work.
bool run_adopted();
// Returns when one of them may have work, when `woken` is not 0, at `deadline`, or spuriously. Who stores `woken`
// (sequentially consistent) rings one of them afterwards if its sleep word is set.
void wait_adopted(Instant deadline, const std::atomic<std::uint32_t>& woken);

} // namespace lwkt
