// Interposition, the two stacks, what is planted, and the sorting of locked instructions: see steady_state.hpp.
#include "benchmarks/steady_state.hpp"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "benchmarks/single_step.hpp"
#include "embed/netd.hpp"

namespace {

struct Calls {
    std::uint64_t locks = 0;
    std::uint64_t allocations = 0;
};
Calls counted;

template <typename F>
F real(const char* name)
{
    return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

} // namespace

// glibc's own names for what it offers to interposers (malloc(3), "Replacing malloc").
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* p, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);

__attribute__((visibility("default"))) void* malloc(std::size_t size)
{
    ++counted.allocations;
    return __libc_malloc(size);
}
__attribute__((visibility("default"))) void* calloc(std::size_t count, std::size_t size)
{
    ++counted.allocations;
    return __libc_calloc(count, size);
}
__attribute__((visibility("default"))) void* realloc(void* p, std::size_t size)
{
    ++counted.allocations;
    return __libc_realloc(p, size);
}
__attribute__((visibility("default"))) void* aligned_alloc(std::size_t alignment, std::size_t size)
{
    ++counted.allocations;
    return __libc_memalign(alignment, size);
}
__attribute__((visibility("default"))) int pthread_mutex_lock(pthread_mutex_t* m)
{
    static const auto next = real<int (*)(pthread_mutex_t*)>("pthread_mutex_lock");
    ++counted.locks;
    return next(m);
}
__attribute__((visibility("default"))) int pthread_mutex_trylock(pthread_mutex_t* m)
{
    static const auto next = real<int (*)(pthread_mutex_t*)>("pthread_mutex_trylock");
    ++counted.locks;
    return next(m);
}
__attribute__((visibility("default"))) int pthread_rwlock_rdlock(pthread_rwlock_t* m)
{
    static const auto next = real<int (*)(pthread_rwlock_t*)>("pthread_rwlock_rdlock");
    ++counted.locks;
    return next(m);
}
__attribute__((visibility("default"))) int pthread_rwlock_wrlock(pthread_rwlock_t* m)
{
    static const auto next = real<int (*)(pthread_rwlock_t*)>("pthread_rwlock_wrlock");
    ++counted.locks;
    return next(m);
}
}

namespace steady {

namespace {

const base::Endpoint b_echo = *embed::parse_endpoint("10.0.0.2:7");
constexpr std::size_t piece_bytes = 16384;

embed::StackConfig config(embed::Simulation& world, std::uint64_t seed, const char* name)
{
    embed::StackConfig c;
    c.pin.assign(2, -1);
    c.simulation = &world;
    c.seed = seed;
    c.name = name;
    c.gateway.segment.sockets = 2048;
    c.gateway.segment.ring_memory = std::uint64_t{2} << 30;
    return c;
}

// Two stacks on a wire and one connection between them.
struct Pair {
    Pair() : a(config(world, 22, "a")), b(config(world, 23, "b"))
    {
        std::string error;
        good = embed::join(a, "10.0.0.1/24", b, "10.0.0.2/24", {}, link, error) && a.start(error) && b.start(error) &&
               embed::Socket::open(b, SOCK_STREAM, listener) == 0 && listener.bind(b_echo) == 0 &&
               listener.listen(8) == 0 && embed::Socket::open(a, SOCK_STREAM, c) == 0 && c.connect(b_echo) == 0 &&
               listener.accept(s) == 0;
    }

    // Small requests and answers, then a stream; false when a byte was lost.
    bool exchange(int requests, int pieces)
    {
        static char buffer[piece_bytes];
        for (int i = 0; i < requests && good; ++i) {
            good = c.send({buffer, 64}) == 64 && s.recv(buffer) == 64 && s.send({buffer, 64}) == 64 &&
                   c.recv(buffer) == 64;
        }
        for (int i = 0; i < pieces && good; ++i) {
            good = c.send({buffer, sizeof buffer}) == sizeof buffer;
            for (ssize_t got = 0; good && got < static_cast<ssize_t>(sizeof buffer);) {
                ssize_t n = s.recv(buffer);
                good = n > 0;
                got += n;
            }
        }
        return good;
    }
    std::uint64_t remote_messages()
    {
        std::uint64_t sum = 0;
        for (embed::Stack* stack : {&a, &b}) {
            for (base::CpuId i = 0; i < stack->cpus().size(); ++i) {
                const lwkt::CpuCounters& n = stack->cpus().cpu(i).counters();
                sum += n.messages_out + n.passive_out;
            }
        }
        return sum;
    }
    std::uint64_t packets()
    {
        std::uint64_t sum = 0;
        for (embed::Stack* stack : {&a, &b}) {
            for (const auto& interface : stack->protocols().interfaces()) {
                for (base::CpuId i = 0; i < stack->cpus().size(); ++i) {
                    sum += interface->netif->counters(i).in_packets;
                }
            }
        }
        return sum;
    }

    embed::Simulation world{11};
    drivers::SimLink link;
    embed::Stack a;
    embed::Stack b;
    embed::Socket listener, c, s;
    bool good = false;
};

// What a protocol thread should never do, once a batch.
class Fault final : public lwkt::Rollup {
public:
    explicit Fault(Planted kind) : kind_(kind) {}
    void rollup() override
    {
        lwkt::Cpu* here = lwkt::Cpu::current();
        if (kind_ == Planted::lock) {
            std::lock_guard lock(mutex_);
        } else if (kind_ == Planted::allocation) {
            delete new (std::nothrow) Fault*;
        } else if (kind_ == Planted::atomic) {
            shared_.fetch_add(1, std::memory_order_relaxed);
        } else if (kind_ == Planted::message && here->id() == 0 && !on_its_way_) {
            on_its_way_ = true;
            message_.dispatch = [](lwkt::Message& m) { static_cast<Note&>(m).fault->on_its_way_ = false; };
            message_.fault = this;
            here->send(1, message_);
        }
    }
    void add_to(embed::Stack& stack)
    {
        if (kind_ != Planted::nothing) {
            stack.cpus().call_all([this](lwkt::Cpu& cpu) { cpu.add_rollup(*this); });
        }
    }
    void remove_from(embed::Stack& stack)
    {
        if (kind_ != Planted::nothing) {
            stack.cpus().call_all([this](lwkt::Cpu& cpu) { cpu.remove_rollup(*this); });
        }
    }

private:
    struct Note : lwkt::Message {
        Fault* fault = nullptr;
    };
    Planted kind_;
    std::mutex mutex_;
    std::atomic<std::uint64_t> shared_{0};
    Note message_;
    bool on_its_way_ = false;
};

// Which memory an address is.
struct Places {
    explicit Places(Pair& p)
    {
        for (embed::Stack* stack : {&p.a, &p.b}) {
            views.push_back(stack->session().view);
            sleep_words.push_back(reinterpret_cast<std::uint64_t>(stack->session().sleep_words));
        }
    }
    static std::uint64_t begin(const sockbuf::SegmentView& v) { return reinterpret_cast<std::uint64_t>(v.base()); }
    bool in_segment(std::uint64_t at) const
    {
        return std::any_of(
            views.begin(), views.end(), [at](const auto& v) { return at - begin(v) < v.layout().bytes; });
    }
    bool in_mark_bits(std::uint64_t at) const
    {
        return std::any_of(views.begin(), views.end(), [at](const auto& v) {
            return at - begin(v) - v.layout().mark_bits < std::uint64_t{v.cpus()} * (v.sockets() / 8);
        });
    }
    bool in_marks(std::uint64_t at) const
    {
        bool line = std::any_of(views.begin(), views.end(), [at](const auto& v) {
            return at - begin(v) - v.layout().mark_lines < v.cpus() * sizeof(sockbuf::MarkLine);
        });
        bool word = std::any_of(
            sleep_words.begin(), sleep_words.end(), [at](std::uint64_t words) { return at - words < 2 * 64; });
        return line || word || in_mark_bits(at);
    }
    std::vector<sockbuf::SegmentView> views;
    std::vector<std::uint64_t> sleep_words;
};

} // namespace

Counts measure(Planted planted)
{
    Pair p;
    p.exchange(100, 64); // vectors grow and pools fill once
    Fault fault(planted);
    fault.add_to(p.b);
    Counts r;
    r.packets = p.packets();
    r.remote = p.remote_messages();
    Calls before = counted;
    p.exchange(100, 64);
    Calls after = counted;
    r.locks = after.locks - before.locks;
    r.allocations = after.allocations - before.allocations;
    r.remote = p.remote_messages() - r.remote;
    r.packets = p.packets() - r.packets;
    r.good = p.good;
    fault.remove_from(p.b);
    p.world.run_for(base::seconds(1)); // the planted message is home
    return r;
}

Atomics measure_atomics(Planted planted)
{
    constexpr int requests = 5;
    constexpr int pieces = 2;
    Pair p;
    p.exchange(100, 64);
    std::uint64_t packets = p.packets();
    p.exchange(requests, pieces);
    Fault fault(planted);
    fault.add_to(p.b);
    Places places(p);
    Atomics r;
    r.packets = p.packets() - packets; // the child's are as many
    struct Line {
        std::uint64_t count = 0;
        std::set<std::uint16_t> cpus;
    };
    std::map<std::uint64_t, Line> lines;
    Stepped stepped = step_through([&] { return p.exchange(requests, pieces); }, &base::current_cpu,
        [&](const LockedInstruction& i) {
            if (i.operand == 0) {
                ++r.fences;
            } else if (i.context == base::no_cpu) {
                ++r.application;
            } else if (places.in_marks(i.operand)) {
                ++r.marks;
                r.looks += places.in_mark_bits(i.operand) ? 1 : 0;
            } else if (places.in_segment(i.operand)) {
                ++r.published;
            } else {
                Line& line = lines[i.operand / 64];
                ++line.count;
                line.cpus.insert(i.context);
            }
        });
    for (const auto& [at, line] : lines) {
        (line.cpus.size() > 1 ? r.shared : r.own) += line.count;
    }
    r.good = stepped.good && p.good;
    r.instructions = stepped.instructions;
    fault.remove_from(p.b);
    return r;
}

} // namespace steady
