// The list of living Hosts, so that a thread that ends can give its waiters back without knowing whether the session it
// used is still there. Any thread.
#include "client/session.hpp"

#include <sched.h>

#include <algorithm>
#include <mutex>
#include <new>
#include <vector>

namespace client {

namespace {

struct Registry {
    std::mutex mutex;
    std::uint64_t last_id = 0;
    std::vector<Host*> hosts;

    Host* find(std::uint64_t id) const
    {
        auto it = std::find_if(hosts.begin(), hosts.end(), [id](Host* h) { return h->id() == id; });
        return it == hosts.end() ? nullptr : *it;
    }
};

// Never destroyed: threads end after the destructors of statics ran.
Registry& registry()
{
    static Registry* one = new Registry;
    return *one;
}

} // namespace

Host::Host() : id_(0)
{
    Registry& r = registry();
    std::lock_guard lock(r.mutex);
    id_ = ++r.last_id;
    r.hosts.push_back(this);
}

Host::~Host()
{
    retire();
}

void Host::retire()
{
    Registry& r = registry();
    std::unique_lock lock(r.mutex);
    std::erase(r.hosts, this);
    while (users_ != 0) {
        lock.unlock();
        let_others_run();
        lock.lock();
    }
}

void Host::let_others_run()
{
    sched_yield();
}

void Host::renew_after_fork()
{
    Registry& r = registry();
    // The mutex may have been held by a thread that does not exist in this process; the child has one thread.
    new (&r.mutex) std::mutex;
    id_ = ++r.last_id;
    users_ = 0;
    for (HeldWaiter& w : held_) {
        w.hold.store(0, std::memory_order_relaxed);
        w.watching = false;
    }
}

std::vector<std::uint16_t> threads_near(std::span<const int> pins)
{
    std::vector<std::uint16_t> near;
    for (std::size_t i = 0; i < pins.size(); ++i) {
        if (pins[i] >= 0) {
            auto os_cpu = static_cast<std::size_t>(pins[i]);
            near.resize(std::max(near.size(), os_cpu + 1), no_cpu_near);
            near[os_cpu] = static_cast<std::uint16_t>(i);
        }
    }
    return near;
}

std::vector<std::uint16_t> cpus_near(const sockbuf::SegmentHeader& header)
{
    std::vector<int> pins(header.pins, header.pins + header.cpus);
    return threads_near(pins);
}

bool host_exists(std::uint64_t host_id)
{
    Registry& r = registry();
    std::lock_guard lock(r.mutex);
    return r.find(host_id) != nullptr;
}

// Nobody's before netd hears of it, which may give it out at once.
void give_up(Host& host, HeldWaiter& w)
{
    WaiterHandle handle = w.handle;
    w.watching = false;
    w.hold.store(0, std::memory_order_release);
    host.drop_waiter(handle);
}

void end_hold(std::uint64_t host_id, std::uint32_t waiter, std::uint64_t hold)
{
    Registry& r = registry();
    std::unique_lock lock(r.mutex);
    Host* host = r.find(host_id);
    if (host == nullptr) {
        return;
    }
    // Without the mutex: it may have to wait for a CPU whose thread is about to make or end a Host.
    ++host->users_;
    lock.unlock();
    HeldWaiter& w = host->held(waiter);
    std::uint64_t now = hold;
    if (w.hold.compare_exchange_strong(now, hold | HeldWaiter::in_use, std::memory_order_acq_rel) ||
        now == (hold | HeldWaiter::in_use)) {
        give_up(*host, w);
    }
    lock.lock();
    --host->users_;
}

} // namespace client
