// lwIP's sys_arch over pthreads and futexes: mailboxes, semaphores, mutexes, the short-time protection and the thread
// that runs the stack. See lwip_sys.hpp. Written to be quick: nothing allocates once it has been used, a wake is a
// system call only for a thread that sleeps, and a mailbox that is drained starts again at its first line.
#include "benchmarks/lwip/lwip_sys.hpp"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include <lwip/sys.h>

#include "base/pause.hpp"
#include "benchmarks/lwip/lwip_port.hpp"

namespace lwip_bench {

bool one_cpu = true;
int stack_cpu = 0;
std::atomic<std::uint64_t> futex_waits{0};
std::atomic<std::uint64_t> futex_wakes{0};

void look_again(unsigned look)
{
    constexpr unsigned pauses = 256; // then the holder may have lost its CPU to somebody else
    if (one_cpu || look >= pauses) {
        sched_yield();
    } else {
        base::pause_cpu();
    }
}

void futex_sleep(std::atomic<std::uint32_t>& word, std::uint32_t expected, std::uint64_t timeout_ns)
{
    timespec t{static_cast<time_t>(timeout_ns / 1'000'000'000), static_cast<long>(timeout_ns % 1'000'000'000)};
    futex_waits.fetch_add(1, std::memory_order_relaxed);
    syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, timeout_ns == 0 ? nullptr : &t, nullptr, 0);
}

void futex_wake_one(std::atomic<std::uint32_t>& word)
{
    futex_wakes.fetch_add(1, std::memory_order_relaxed);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

namespace {

constexpr std::uint64_t ms_ns = 1'000'000;

SpinLock protection;
thread_local unsigned protected_depth = 0;

} // namespace

} // namespace lwip_bench

using lwip_bench::Sleeper;
using lwip_bench::SpinLock;

// First in, first out; any thread posts, one fetches. The count is read without the lock.
struct bench_lwip_mbox {
    explicit bench_lwip_mbox(unsigned size) : capacity(size), slots(new void*[size]) {}

    bool post(void* message)
    {
        lock.lock();
        std::uint32_t n = count.load(std::memory_order_relaxed);
        if (n == capacity) {
            lock.unlock();
            return false;
        }
        std::uint32_t at = first + n;
        slots[at < capacity ? at : at - capacity] = message;
        count.store(n + 1);
        lock.unlock();
        reader.rouse();
        return true;
    }
    bool fetch(void** message)
    {
        if (empty()) {
            return false;
        }
        lock.lock();
        std::uint32_t n = count.load(std::memory_order_relaxed);
        *message = slots[first];
        first = n == 1 || first + 1 == capacity ? 0 : first + 1;
        count.store(n - 1, std::memory_order_relaxed);
        lock.unlock();
        return true;
    }
    bool empty() const { return count.load() == 0; }

    std::uint32_t capacity;
    std::uint32_t first = 0;
    std::atomic<std::uint32_t> count{0};
    SpinLock lock;
    Sleeper reader;
    std::unique_ptr<void*[]> slots;
};

struct bench_lwip_sem {
    std::atomic<std::uint32_t> count{0};
    Sleeper waiter;
};

// 0 free, 1 held, 2 held and somebody may sleep.
struct bench_lwip_mutex {
    std::atomic<std::uint32_t> word{0};
};

namespace {

SpinLock spare_lock;
std::vector<bench_lwip_mbox*> spare_mboxes; // all of the size that a connection has

struct Started {
    lwip_thread_fn run;
    void* argument;
};

void* start(void* p)
{
    std::unique_ptr<Started> started(static_cast<Started*>(p));
    started->run(started->argument);
    return nullptr;
}

} // namespace

extern "C" {

void sys_init(void)
{
}

sys_prot_t sys_arch_protect(void)
{
    if (lwip_bench::protected_depth++ == 0) {
        lwip_bench::protection.lock();
    }
    return 0;
}

void sys_arch_unprotect(sys_prot_t)
{
    if (--lwip_bench::protected_depth == 0) {
        lwip_bench::protection.unlock();
    }
}

err_t sys_mutex_new(sys_mutex_t* m)
{
    *m = new bench_lwip_mutex;
    return ERR_OK;
}

void sys_mutex_free(sys_mutex_t* m)
{
    delete *m;
}

void sys_mutex_lock(sys_mutex_t* m)
{
    constexpr unsigned looks = 64;
    std::atomic<std::uint32_t>& word = (*m)->word;
    for (unsigned i = 0; i < looks; ++i) {
        std::uint32_t free = 0;
        if (word.compare_exchange_strong(free, 1, std::memory_order_acquire)) {
            return;
        }
        lwip_bench::look_again(i);
    }
    while (word.exchange(2, std::memory_order_acquire) != 0) {
        lwip_bench::futex_sleep(word, 2, 0);
    }
}

void sys_mutex_unlock(sys_mutex_t* m)
{
    if ((*m)->word.exchange(0, std::memory_order_release) == 2) {
        lwip_bench::futex_wake_one((*m)->word);
    }
}

err_t sys_sem_new(sys_sem_t* s, u8_t count)
{
    *s = new bench_lwip_sem;
    (*s)->count = count;
    return ERR_OK;
}

void sys_sem_free(sys_sem_t* s)
{
    delete *s;
}

void sys_sem_signal(sys_sem_t* s)
{
    (*s)->count.fetch_add(1);
    (*s)->waiter.rouse();
}

// One thread waits with a semaphore at a time: lwIP's are all of that kind.
u32_t sys_arch_sem_wait(sys_sem_t* s, u32_t timeout_ms)
{
    bench_lwip_sem& sem = **s;
    if (!sem.waiter.await([&sem] { return sem.count.load() != 0; }, timeout_ms * lwip_bench::ms_ns)) {
        return SYS_ARCH_TIMEOUT;
    }
    sem.count.fetch_sub(1, std::memory_order_relaxed);
    return 0;
}

sys_sem_t* bench_lwip_thread_sem(void)
{
    static thread_local bench_lwip_sem sem;
    static thread_local sys_sem_t pointer = &sem;
    return &pointer;
}

err_t sys_mbox_new(sys_mbox_t* m, int size)
{
    if (size == DEFAULT_TCP_RECVMBOX_SIZE) {
        spare_lock.lock();
        bench_lwip_mbox* spare = spare_mboxes.empty() ? nullptr : spare_mboxes.back();
        if (spare != nullptr) {
            spare_mboxes.pop_back();
        }
        spare_lock.unlock();
        *m = spare;
        if (spare != nullptr) {
            return ERR_OK;
        }
    }
    *m = new bench_lwip_mbox(static_cast<unsigned>(size));
    return ERR_OK;
}

void sys_mbox_free(sys_mbox_t* m)
{
    if ((*m)->capacity != DEFAULT_TCP_RECVMBOX_SIZE) {
        delete *m;
        return;
    }
    spare_lock.lock();
    spare_mboxes.push_back(*m);
    spare_lock.unlock();
}

void sys_mbox_post(sys_mbox_t* m, void* message)
{
    for (unsigned i = 0; !(*m)->post(message); ++i) {
        lwip_bench::look_again(i);
    }
}

err_t sys_mbox_trypost(sys_mbox_t* m, void* message)
{
    return (*m)->post(message) ? ERR_OK : ERR_MEM;
}

err_t sys_mbox_trypost_fromisr(sys_mbox_t* m, void* message)
{
    return sys_mbox_trypost(m, message);
}

u32_t sys_arch_mbox_fetch(sys_mbox_t* m, void** message, u32_t timeout_ms)
{
    bench_lwip_mbox& box = **m;
    if (!box.reader.await([&box] { return !box.empty(); }, timeout_ms * lwip_bench::ms_ns)) {
        return SYS_ARCH_TIMEOUT;
    }
    void* ignored = nullptr;
    box.fetch(message == nullptr ? &ignored : message);
    return 0;
}

u32_t sys_arch_mbox_tryfetch(sys_mbox_t* m, void** message)
{
    void* ignored = nullptr;
    return (*m)->fetch(message == nullptr ? &ignored : message) ? 0 : SYS_MBOX_EMPTY;
}

// The only thread that lwIP makes is its own.
sys_thread_t sys_thread_new(const char* name, lwip_thread_fn run, void* argument, int, int)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<unsigned>(lwip_bench::stack_cpu), &set);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_t thread{};
    if (pthread_attr_setaffinity_np(&attributes, sizeof set, &set) != 0 ||
        pthread_create(&thread, &attributes, start, new Started{run, argument}) != 0) {
        lwip_bench::fail("no thread on CPU %d", lwip_bench::stack_cpu);
    }
    pthread_attr_destroy(&attributes);
    pthread_setname_np(thread, name);
    pthread_detach(thread);
    return 0;
}

} // extern "C"
