// Per-CPU object pools whose memory goes home: an object freed on another CPU is collected there and sent
// home as one chain per CPU at the next roll-up, passively. Capacity is fixed at construction and prefaulted in slabs
// on demand; running out returns null, which the caller counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "lwkt/cpu.hpp"
#include "lwkt/message.hpp"

namespace lwkt {

// T derives from Message (its `next` and `home` are used by the pool while it is free).
// Untyped core: one instance for all CPUs of a set; per-CPU state is owned by that CPU.
class PoolCore final {
public:
    // `object_bytes` is rounded up to a cache line. `capacity_per_cpu` objects at most per CPU; slabs are
    // allocated as needed on the owner (first touch = its NUMA node).
    PoolCore(CpuSet& set, std::size_t object_bytes, std::size_t capacity_per_cpu);
    // Only when nothing of the pool is under way any more (CpuSet::stop() brings home what is).
    ~PoolCore();

    // Raw memory whose Message header has home set; null when the CPU's share is used up. Owner = the current CPU.
    void* allocate();
    // From any CPU of the set.
    void release(Message& m);

    std::size_t in_use(CpuId cpu) const; // approximate from other threads
    std::size_t capacity_per_cpu() const;
    std::uint64_t exhausted(CpuId cpu) const; // times allocate() returned null

private:
    struct PerCpu;
    std::unique_ptr<PerCpu[]> per_cpu_; // element i: owner = CPU i
    std::size_t cpus_;                  // c
};

template <typename T>
class Pool {
public:
    Pool(CpuSet& set, std::size_t capacity_per_cpu) : core_(set, sizeof(T), capacity_per_cpu) {}
    template <typename... Args>
    T* make(Args&&... args)
    {
        void* memory = core_.allocate();
        if (memory == nullptr) {
            return nullptr;
        }
        T* t = ::new (memory) T(static_cast<Args&&>(args)...);
        t->home = base::current_cpu;
        return t;
    }
    void destroy(T& t)
    {
        CpuId home = t.home;
        t.~T();
        auto* m = ::new (static_cast<void*>(&t)) Message;
        m->home = home;
        core_.release(*m);
    }
    PoolCore& core() { return core_; }

private:
    PoolCore core_;
};

} // namespace lwkt
