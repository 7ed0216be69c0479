// The steady state of an established connection whose packets arrive on its owner: no lock, no allocation and no
// message between CPUs per packet. Counted by interposing the calls, in virtual time (every thread's work happens on
// this one). Each counter is shown to count by planting what it looks for on the protocol threads' path.
#include <dlfcn.h>
#include <pthread.h>

#include <cstdlib>
#include <mutex>

#include "tests/embed/pair.hpp"

namespace {

struct Counts {
    std::uint64_t locks = 0;
    std::uint64_t allocations = 0;
};
Counts counted;

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

namespace {

using namespace test;

struct Steady {
    std::uint64_t locks = 0;
    std::uint64_t allocations = 0;
    std::uint64_t remote = 0;
    std::uint64_t packets = 0;
};

std::uint64_t remote_messages(embed::Stack& stack)
{
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < stack.cpus().size(); ++i) {
        const lwkt::CpuCounters& c = stack.cpus().cpu(static_cast<base::CpuId>(i)).counters();
        sum += c.messages_out + c.passive_out;
    }
    return sum;
}
std::uint64_t packets_in(embed::Stack& stack)
{
    std::uint64_t sum = 0;
    for (const auto& interface : stack.protocols().interfaces()) {
        for (std::size_t i = 0; i < stack.cpus().size(); ++i) {
            sum += interface->netif->counters(static_cast<base::CpuId>(i)).in_packets;
        }
    }
    return sum;
}

// Small requests and answers, then a stream; false when a byte was lost.
bool exchange(embed::Socket& c, embed::Socket& s)
{
    static char buffer[16384];
    bool good = true;
    for (int i = 0; i < 100 && good; ++i) {
        good = c.send({buffer, 64}) == 64 && s.recv(buffer) == 64 && s.send({buffer, 64}) == 64 && c.recv(buffer) == 64;
    }
    for (int i = 0; i < 64 && good; ++i) {
        good = c.send({buffer, sizeof buffer}) == sizeof buffer;
        for (ssize_t got = 0; good && got < static_cast<ssize_t>(sizeof buffer);) {
            ssize_t n = s.recv(buffer);
            good = n > 0;
            got += n;
        }
    }
    return good;
}

// What a protocol thread should never do, once a batch.
class Planted final : public lwkt::Rollup {
public:
    enum class Kind { nothing, lock, allocation, message };
    explicit Planted(Kind kind) : kind_(kind) {}
    void rollup() override
    {
        lwkt::Cpu* here = lwkt::Cpu::current();
        if (kind_ == Kind::lock) {
            std::lock_guard lock(mutex_);
        } else if (kind_ == Kind::allocation) {
            delete new (std::nothrow) Planted*;
        } else if (kind_ == Kind::message && here->id() == 0 && !on_its_way_) {
            on_its_way_ = true;
            message_.dispatch = [](lwkt::Message& m) { static_cast<Note&>(m).planted->on_its_way_ = false; };
            message_.planted = this;
            here->send(1, message_);
        }
    }

private:
    struct Note : lwkt::Message {
        Planted* planted = nullptr;
    };
    Kind kind_;
    std::mutex mutex_;
    Note message_;
    bool on_its_way_ = false;
};

Steady measure(Planted::Kind kind)
{
    embed::Simulation world{11};
    Pair p(2, &world);
    Planted planted(kind);
    embed::Socket listener = listen(p.b, b_echo);
    embed::Socket c = open(p.a, SOCK_STREAM);
    REQUIRE(c.connect(b_echo) == 0);
    embed::Socket s;
    REQUIRE(listener.accept(s) == 0);
    REQUIRE(exchange(c, s)); // vectors grow and pools fill once
    if (kind != Planted::Kind::nothing) {
        p.b.cpus().call(0, [&](lwkt::Cpu& cpu) { cpu.add_rollup(planted); });
    }
    std::uint64_t packets = packets_in(p.a) + packets_in(p.b);
    std::uint64_t remote = remote_messages(p.a) + remote_messages(p.b);
    Counts before = counted;
    bool good = exchange(c, s);
    Counts after = counted;
    Steady r;
    r.locks = after.locks - before.locks;
    r.allocations = after.allocations - before.allocations;
    r.remote = remote_messages(p.a) + remote_messages(p.b) - remote;
    r.packets = packets_in(p.a) + packets_in(p.b) - packets;
    REQUIRE(good);
    if (kind != Planted::Kind::nothing) {
        p.b.cpus().call(0, [&](lwkt::Cpu& cpu) { cpu.remove_rollup(planted); });
    }
    world.run_for(base::seconds(1)); // the planted message is home
    return r;
}

} // namespace

TEST_CASE("steady state: no lock, no allocation, no message to another CPU per packet")
{
    Steady r = measure(Planted::Kind::nothing);
    CHECK(r.packets > 250);
    CHECK(r.locks == 0);
    CHECK(r.allocations == 0);
    CHECK(r.remote == 0);
}

TEST_CASE("steady state: what is planted is counted")
{
    Steady lock = measure(Planted::Kind::lock);
    CHECK(lock.locks > 0);
    CHECK(lock.allocations == 0);
    Steady allocation = measure(Planted::Kind::allocation);
    CHECK(allocation.allocations > 0);
    CHECK(allocation.locks == 0);
    Steady message = measure(Planted::Kind::message);
    CHECK(message.remote > 0);
    CHECK(message.allocations == 0);
}
