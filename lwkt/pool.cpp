// Per-CPU free lists. A foreign object waits in the freeing CPU's chain for its home until the roll-up sends the chain
// as one passive message, which is carried by the chain's first object.
#include "lwkt/pool.hpp"

#include <algorithm>
#include <atomic>
#include <new>
#include <utility>
#include <vector>

#include "base/check.hpp"
#include "base/page_memory.hpp"
#include "base/plant.hpp"
#include "base/poison.hpp"
#include "lwkt/cpu_set.hpp"

namespace lwkt {
namespace {

constexpr std::size_t cache_line = 64;
constexpr std::size_t first_slab_bytes = 256 * 1024; // few packets cost little; then huge pages

// A free object. `next` and `home` of the Message are used as usual; the rest only by a chain's first object.
struct FreeObject : Message {
    FreeObject* rest = nullptr; // m: the objects behind the first, linked by rest
    void* pool = nullptr;       // m: PoolCore::PerCpu of the home
    std::size_t count = 0;      // m: objects in the chain, the first included
};
static_assert(sizeof(FreeObject) <= cache_line);

struct Chain {
    FreeObject* head = nullptr;
    std::size_t count = 0;
};

} // namespace

struct alignas(base::apart) PoolCore::PerCpu final : Rollup {
    CpuSet* set = nullptr;                   // c
    CpuId id = base::no_cpu;                 // c
    std::size_t object_bytes = 0;            // c
    std::size_t capacity = 0;                // c
    FreeObject* free = nullptr;              // o
    std::size_t carved = 0;                  // o: objects made so far, <= capacity
    std::vector<Chain> chains;               // o: by home
    std::vector<CpuId> chained;              // o: homes with a chain
    std::vector<base::PageBlock> slabs;      // o
    std::atomic<std::size_t> in_use{0};      // s
    std::atomic<std::uint64_t> exhausted{0}; // s

    void count_in_use(std::ptrdiff_t by)
    {
        in_use.store(in_use.load(std::memory_order_relaxed) + static_cast<std::size_t>(by), std::memory_order_relaxed);
    }
    // Nobody but the pool looks at an object that is free.
    void poison(FreeObject& o) const { base::poison(&o + 1, object_bytes - sizeof o); }
    void push_free(FreeObject& o)
    {
        o.rest = free;
        free = &o;
    }
    [[gnu::noinline]] bool carve();
    [[gnu::noinline]] void keep_for(CpuId of, PerCpu& other, FreeObject& o);
    void take_home(FreeObject& first);
    void rollup() override;
};

// Maps one more slab and strings its objects; writing the links is the first touch, on the owner's NUMA node.
bool PoolCore::PerCpu::carve()
{
    std::size_t most = (slabs.empty() ? first_slab_bytes : base::huge_page_bytes) / object_bytes;
    std::size_t objects = std::min(capacity - carved, std::max<std::size_t>(1, most));
    if (objects == 0) {
        return false;
    }
    base::PageBlock slab(objects * object_bytes);
    if (slab.get() == nullptr) {
        return false;
    }
    slab.populate();
    void* memory = slab.get();
    slabs.push_back(std::move(slab));
    carved += objects;
    for (std::size_t i = objects; i-- > 0;) {
        auto* o = ::new (static_cast<char*>(memory) + i * object_bytes) FreeObject;
        o->home = id;
        poison(*o);
        push_free(*o);
    }
    return true;
}

void PoolCore::PerCpu::take_home(FreeObject& first)
{
    count_in_use(-static_cast<std::ptrdiff_t>(first.count));
    for (FreeObject* o = &first; o != nullptr;) {
        FreeObject* following = o->rest;
        push_free(*o);
        o = following;
    }
}

// An object of another CPU's, until the roll-up.
void PoolCore::PerCpu::keep_for(CpuId of, PerCpu& other, FreeObject& o)
{
    Chain& chain = chains[of];
    if (chain.head == nullptr) {
        chained.push_back(of);
    }
    o.pool = &other;
    o.rest = chain.head;
    chain.head = &o;
    ++chain.count;
}

void PoolCore::PerCpu::rollup()
{
    for (CpuId home : chained) {
        Chain& chain = chains[home];
        FreeObject& first = *chain.head;
        first.count = chain.count;
        first.cls = Class::gen;
        first.dispatch = [](Message& m) {
            auto& o = static_cast<FreeObject&>(m);
            static_cast<PerCpu*>(o.pool)->take_home(o);
        };
        chain = Chain{};
        set->cpu(id).send_passive(home, first);
    }
    chained.clear();
}

PoolCore::PoolCore(CpuSet& set, std::size_t object_bytes, std::size_t capacity_per_cpu)
    : per_cpu_(std::make_unique<PerCpu[]>(set.size())), cpus_(set.size())
{
    for (std::size_t i = 0; i < cpus_; ++i) {
        PerCpu& p = per_cpu_[i];
        p.set = &set;
        p.id = static_cast<CpuId>(i);
        p.object_bytes = (std::max(object_bytes, sizeof(FreeObject)) + cache_line - 1) / cache_line * cache_line;
        p.capacity = capacity_per_cpu;
        p.chains.resize(cpus_);
        p.chained.reserve(cpus_);
        p.slabs.reserve(capacity_per_cpu / std::max<std::size_t>(1, base::huge_page_bytes / p.object_bytes) + 2);
    }
    auto add = [this](Cpu& cpu) { cpu.add_rollup(per_cpu_[cpu.id()]); };
    set.configure(add);
}

PoolCore::~PoolCore()
{
    per_cpu_[0].set->configure([this](Cpu& cpu) { cpu.remove_rollup(per_cpu_[cpu.id()]); });
}

void* PoolCore::allocate()
{
    INVARIANT(base::current_cpu < cpus_);
    PerCpu& p = per_cpu_[base::current_cpu];
    if (p.free == nullptr && !p.carve()) {
        base::count(p.exhausted);
        return nullptr;
    }
    FreeObject* o = p.free;
    p.free = o->rest;
    p.count_in_use(1);
    base::unpoison(o, p.object_bytes);
    return o;
}

void PoolCore::release(Message& m)
{
    INVARIANT(m.home < cpus_);
    CpuId home = m.home;
    auto& o = *::new (static_cast<void*>(&m)) FreeObject;
    o.home = home;
    PerCpu& home_pool = per_cpu_[home];
    home_pool.poison(o);
    CpuId here = base::current_cpu;
    if (here == base::no_cpu) {
        INVARIANT(!home_pool.set->running()); // whoever stopped the set may take its objects apart
        here = home;
    }
    if (here == home || base::planted(base::Plant::free_to_wrong_home)) {
        home_pool.push_free(o);
        (here == home ? home_pool : per_cpu_[here]).count_in_use(-1);
        return;
    }
    INVARIANT(here < cpus_);
    per_cpu_[here].keep_for(home, home_pool, o);
}

std::size_t PoolCore::in_use(CpuId cpu) const
{
    INVARIANT(cpu < cpus_);
    return per_cpu_[cpu].in_use.load(std::memory_order_relaxed);
}

std::size_t PoolCore::capacity_per_cpu() const
{
    return per_cpu_[0].capacity;
}

std::uint64_t PoolCore::exhausted(CpuId cpu) const
{
    INVARIANT(cpu < cpus_);
    return per_cpu_[cpu].exhausted.load(std::memory_order_relaxed);
}

} // namespace lwkt
