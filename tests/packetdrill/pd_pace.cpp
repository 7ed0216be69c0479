// See pace.hpp.
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>

#include "tests/packetdrill/pace.hpp"

namespace packetdrill {

namespace {

constexpr std::uint64_t seed = 1;
constexpr std::int64_t epoch_us = 1'700'000'000'000'000; // virtual time 0, as a date
// Real time after which a thread that was to read the clock is given up, and after which a call that sleeps moves time
// itself because the tool waits for that call and for nothing else.
constexpr std::chrono::milliseconds reader_patience{2000};
constexpr std::chrono::milliseconds mover_patience{2000};

} // namespace

void RealPace::sleep_for(std::int64_t us)
{
    timespec t{us / 1'000'000, us % 1'000'000 * 1000};
    nanosleep(&t, nullptr);
}

std::int64_t RealPace::stamp()
{
    timeval t{};
    ::gettimeofday(&t, nullptr);
    return t.tv_sec * std::int64_t{1'000'000} + t.tv_usec;
}

bool RealPace::wait_until(const std::function<bool()>& there, std::int64_t us)
{
    std::int64_t end = stamp() + us;
    while (!there()) {
        if (stamp() >= end) {
            return false;
        }
    }
    return true;
}

VirtualPace::VirtualPace() : world_(seed)
{
    world_.set_wait([this](const bool& woken, base::Instant limit) { return sleep(woken, limit); });
}

void VirtualPace::enter()
{
    mutex_.lock();
    ++entries_;
    ++inside_;
}

void VirtualPace::leave()
{
    settle();
    --inside_;
    mutex_.unlock();
}

void VirtualPace::settle()
{
    while (world_.step(world_.now())) {
    }
}

bool VirtualPace::release_ready()
{
    bool any = false;
    std::erase_if(sleepers_, [&](Sleeper* s) {
        s->released = s->ready(world_.now());
        if (s->released) {
            awake_.push_back(s->thread);
            any = true;
        }
        return s->released;
    });
    return any;
}

// Lets the calls that have what they waited for return, and their threads read the clock, before time moves.
void VirtualPace::hold()
{
    auto others = [this] {
        return std::any_of(awake_.begin(), awake_.end(), [](auto id) { return id != std::this_thread::get_id(); });
    };
    settle();
    while (release_ready() || others()) {
        changed_.notify_all();
        std::unique_lock lock(mutex_, std::adopt_lock);
        bool read = changed_.wait_for(lock, reader_patience, [&] { return !others(); });
        lock.release();
        if (!read) {
            awake_.clear();
        }
        settle();
    }
}

// One step of the world, or time to the next moment at which something happens.
void VirtualPace::advance(base::Instant limit)
{
    hold();
    for (const Sleeper* s : sleepers_) {
        limit = std::min(limit, s->limit);
    }
    if (!world_.step(limit)) {
        world_.clock().advance_to(std::max(limit, world_.now()));
    }
}

void VirtualPace::pass_until(base::Instant until)
{
    while (world_.now() < until) {
        advance(until);
    }
    hold();
}

bool VirtualPace::forget_awake()
{
    bool was = std::erase(awake_, std::this_thread::get_id()) != 0;
    if (was) {
        changed_.notify_all();
    }
    return was;
}

// A blocked call, inside enter(). What can happen now may already be what it waits for (the answer to a request).
bool VirtualPace::sleep(const bool& woken, base::Instant limit)
{
    settle();
    Sleeper me{&woken, limit};
    if (me.ready(world_.now())) {
        return true;
    }
    forget_awake();
    sleepers_.push_back(&me);
    --inside_;
    while (!me.released) {
        std::uint64_t seen = entries_;
        std::unique_lock lock(mutex_, std::adopt_lock);
        bool nobody = !changed_.wait_for(lock, mover_patience, [&] { return me.released || entries_ != seen; });
        lock.release();
        if (nobody && inside_ == 0) {
            base::Instant bound = std::min(limit, world_.now() + base::seconds(1));
            advance(bound);
            if (me.ready(world_.now())) {
                std::erase(sleepers_, &me);
                me.released = true;
            }
        }
    }
    ++inside_;
    return true;
}

void VirtualPace::sleep_for(std::int64_t us)
{
    enter();
    pass_until(world_.now() + base::Micros{us});
    leave();
}

// Creeps, so that a loop that waits for a time by looking at the clock comes to its end.
std::int64_t VirtualPace::read_clock()
{
    enter();
    if (!forget_awake()) {
        pass_until(world_.now() + base::Micros{1});
    }
    std::int64_t now = stamp();
    leave();
    return now;
}

std::int64_t VirtualPace::stamp()
{
    return epoch_us + world_.now().time_since_epoch().count();
}

bool VirtualPace::wait_until(const std::function<bool()>& there, std::int64_t us)
{
    enter();
    base::Instant limit = world_.now() + base::Micros{us};
    bool found = false;
    for (;;) {
        hold(); // what can happen now comes before a look, and a look before time moves
        found = there();
        if (found || world_.now() >= limit) {
            break;
        }
        advance(limit);
    }
    leave();
    return found;
}

} // namespace packetdrill
