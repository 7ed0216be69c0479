#include "netd/bus_guard.hpp"

#include <sys/eventfd.h>
#include <sys/mman.h>

#include <cerrno>

#include "base/check.hpp"

namespace netd {

namespace {

std::atomic<BusGuard*> the_guard{nullptr};

} // namespace

void GuardedRange::set(std::uintptr_t begin, std::uintptr_t end)
{
    std::uint32_t version = version_.load(std::memory_order_relaxed);
    version_.store(version + 1, std::memory_order_relaxed);
    begin_.store(begin, std::memory_order_release);
    end_.store(end, std::memory_order_release);
    version_.store(version + 2, std::memory_order_release);
}

BusGuard::BusGuard(std::size_t segments_max)
    : ranges_(std::make_unique<Range[]>(segments_max)), count_(segments_max),
      event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))
{
    INVARIANT(event_ && the_guard.exchange(this) == nullptr);
    struct sigaction action {};
    action.sa_sigaction = &BusGuard::handle;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    INVARIANT(sigaction(SIGBUS, &action, nullptr) == 0);
}

BusGuard::~BusGuard()
{
    signal(SIGBUS, SIG_DFL);
    the_guard.store(nullptr);
}

bool BusGuard::watch(const void* base, std::size_t bytes, std::uint32_t id)
{
    auto begin = reinterpret_cast<std::uintptr_t>(base);
    std::uintptr_t end = begin + bytes;
    Range* free = nullptr;
    for (std::size_t i = 0; i < count_; ++i) {
        Range& r = ranges_[i];
        auto [r_begin, r_end] = r.at.get();
        if (r_end != 0 && r_begin < end && begin < r_end) {
            r.at.clear(); // that segment was unmapped
            r_end = 0;
        }
        if (r_end == 0) {
            free = &r;
        } else if (r.retired && free == nullptr) {
            free = &r;
        }
    }
    if (free == nullptr) {
        return false;
    }
    free->at.clear();
    free->id.store(id, std::memory_order_relaxed);
    free->marked.store(0, std::memory_order_relaxed);
    free->retired = false;
    free->at.set(begin, end);
    return true;
}

void BusGuard::unwatch(std::uint32_t id)
{
    for (std::size_t i = 0; i < count_; ++i) {
        if (ranges_[i].id.load(std::memory_order_relaxed) == id) {
            ranges_[i].retired = true;
        }
    }
}

std::vector<std::uint32_t> BusGuard::take_marked()
{
    std::uint64_t count;
    [[maybe_unused]] ssize_t n = read(event_.get(), &count, sizeof count); // before the looks, so that none is missed
    std::vector<std::uint32_t> ids;
    for (std::size_t i = 0; i < count_; ++i) {
        if (ranges_[i].marked.load(std::memory_order_relaxed) != 0 &&
            ranges_[i].marked.exchange(0, std::memory_order_acq_rel) != 0) {
            ids.push_back(ranges_[i].id.load(std::memory_order_relaxed));
        }
    }
    return ids;
}

// The whole segment becomes private zero memory: from here on nothing the client does can be seen or can fault.
bool BusGuard::absorb(std::uintptr_t address)
{
    for (std::size_t i = 0; i < count_; ++i) {
        Range& r = ranges_[i];
        auto [begin, end] = r.at.get();
        if (end == 0 || address < begin || address >= end) {
            continue;
        }
        void* zero = mmap(reinterpret_cast<void*>(begin), end - begin, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
        if (zero == MAP_FAILED) {
            return false;
        }
        r.marked.store(1, std::memory_order_release);
        std::uint64_t one = 1;
        [[maybe_unused]] ssize_t n = write(event_.get(), &one, sizeof one); // full = rung already
        return true;
    }
    return false;
}

void BusGuard::handle(int signal, siginfo_t* info, void*)
{
    int before = errno;
    BusGuard* guard = the_guard.load(std::memory_order_acquire);
    // si_code > 0: a real fault, not somebody's kill().
    if (guard == nullptr || info->si_code <= 0 || !guard->absorb(reinterpret_cast<std::uintptr_t>(info->si_addr))) {
        ::signal(signal, SIG_DFL);
        raise(signal); // pending until we return, then it ends the process with its core
    }
    errno = before;
}

} // namespace netd
