// The wheel keeps a timer of tick k at the lowest level when k is less than 64 ticks ahead, at level n when it is less
// than 64^(n+1) ahead. When the current tick enters a block of level n, that block's slot is spread over the levels
// below ("cascade"). Bits per slot let a run step over empty time at once, so that virtual hours cost nothing.
#include "lwkt/timer_wheel.hpp"

#include <algorithm>
#include <bit>

#include "base/check.hpp"

namespace lwkt {

Timer::~Timer()
{
    if (armed()) {
        wheel_->cancel(*this);
    }
}

TimerWheel::TimerWheel(Instant start) : start_(start)
{
}

TimerWheel::~TimerWheel()
{
    INVARIANT(!running_);
    for (Slot& slot : wheel_) {
        while (slot.pop_front() != nullptr) {
        }
    }
}

std::uint64_t TimerWheel::tick_of(Instant t) const
{
    return t <= start_ ? 0 : static_cast<std::uint64_t>((t - start_).count() / tick_us);
}

void TimerWheel::put(Timer& t, unsigned slot)
{
    t.slot_ = static_cast<std::uint16_t>(slot);
    wheel_[slot].push_back(t);
    if (slot < due) {
        occupied_[slot >> slot_bits] |= std::uint64_t{1} << (slot & (slots - 1));
    }
}

void TimerWheel::take(Timer& t)
{
    t.link_.unlink();
    unsigned slot = t.slot_;
    if (slot < due && wheel_[slot].empty()) {
        occupied_[slot >> slot_bits] &= ~(std::uint64_t{1} << (slot & (slots - 1)));
    }
}

// Puts the timer where its deadline belongs, seen from the current tick.
void TimerWheel::hang(Timer& t)
{
    std::uint64_t tick = std::max(tick_of(t.deadline_), tick_);
    std::uint64_t ahead = tick - tick_;
    unsigned level = std::min((static_cast<unsigned>(std::bit_width(ahead | 1)) - 1) / slot_bits, levels - 1);
    if (ahead >= (std::uint64_t{1} << (slot_bits * levels))) {
        tick = tick_ + (std::uint64_t{1} << (slot_bits * levels)) - 1; // beyond the wheel: re-hung when it comes up
    }
    put(t, level * slots + static_cast<unsigned>((tick >> (slot_bits * level)) & (slots - 1)));
}

void TimerWheel::arm(Timer& t, Instant deadline)
{
    INVARIANT(deadline != base::never);
    if (t.armed()) {
        cancel(t);
    }
    t.deadline_ = deadline;
    t.wheel_ = this;
    ++count_;
    if (running_) {
        put(t, fresh);
    } else {
        hang(t);
    }
    next_ = std::min(next_, deadline);
}

void TimerWheel::cancel(Timer& t)
{
    if (!t.armed()) {
        return;
    }
    INVARIANT(t.wheel_ == this);
    take(t);
    --count_;
    if (t.deadline_ <= next_ || t.slot_ >= slots) {
        next_known_ = false;
    }
}

// The first tick from the current one on at which a slot fires or is spread; the largest value when there is none.
std::uint64_t TimerWheel::next_event_tick() const
{
    std::uint64_t best = ~std::uint64_t{0};
    for (unsigned level = 0; level < levels; ++level) {
        if (occupied_[level] == 0) {
            continue;
        }
        // The current block of an upper level has been spread already: a bit there means the block 64 further on.
        std::uint64_t first = (tick_ >> (slot_bits * level)) + (level == 0 ? 0 : 1);
        int skip = std::countr_zero(std::rotr(occupied_[level], static_cast<int>(first & (slots - 1))));
        best = std::min(best, (first + static_cast<unsigned>(skip)) << (slot_bits * level));
    }
    return best;
}

// True when an occupied slot of an upper level is spread on entering `tick`.
bool TimerWheel::block_begins(std::uint64_t tick) const
{
    for (unsigned level = 1; level < levels && tick != tick_; ++level) {
        std::uint64_t below = (std::uint64_t{1} << (slot_bits * level)) - 1;
        if ((tick & below) == 0 && (occupied_[level] >> (tick >> (slot_bits * level) & (slots - 1)) & 1) != 0) {
            return true;
        }
    }
    return false;
}

// Makes `tick` the current one and spreads the upper blocks that begin there, the highest first.
void TimerWheel::enter(std::uint64_t tick)
{
    if (tick == tick_) {
        return;
    }
    tick_ = tick;
    for (unsigned level = levels - 1; level > 0; --level) {
        if ((tick & ((std::uint64_t{1} << (slot_bits * level)) - 1)) != 0) {
            continue;
        }
        unsigned slot = level * slots + static_cast<unsigned>((tick >> (slot_bits * level)) & (slots - 1));
        while (Timer* t = wheel_[slot].front()) { // all land lower, or (far ones) in another slot of this level
            take(*t);
            hang(*t);
        }
    }
}

// Moves what is due of the current tick to the due list.
void TimerWheel::collect(Instant now)
{
    Slot& slot = wheel_[tick_ & (slots - 1)];
    for (Timer* t = slot.front(); t != nullptr;) {
        Timer* following = slot.next(*t);
        if (t->deadline_ <= now) {
            take(*t);
            put(*t, due);
        } else if (tick_of(t->deadline_) != tick_) {
            take(*t); // was beyond the wheel
            hang(*t);
        }
        t = following;
    }
}

std::uint32_t TimerWheel::run(Instant now, std::uint32_t budget)
{
    INVARIANT(!running_);
    std::uint64_t target = tick_of(now);
    if (target < tick_ + slots && now < next_deadline()) {
        return 0; // otherwise the current tick is brought up to date, so that what is armed next hangs low
    }
    running_ = true;
    std::uint32_t fired = 0;
    while (fired < budget) {
        Timer* t = wheel_[due].front();
        if (t == nullptr) {
            std::uint64_t tick = next_event_tick();
            bool at_end = tick > target;
            enter(at_end ? std::max(target, tick_) : tick);
            collect(now);
            if (wheel_[due].empty() && (at_end || tick_ == target)) {
                break;
            }
            continue;
        }
        take(*t);
        --count_;
        ++fired;
        t->callback_(*t); // may destroy the timer
    }
    running_ = false;
    while (Timer* t = wheel_[fresh].front()) {
        take(*t);
        hang(*t);
    }
    next_known_ = false;
    return fired;
}

Instant TimerWheel::earliest() const
{
    if (count_ == 0) {
        return base::never;
    }
    Instant best = base::never;
    auto look = [&best](const Slot& slot) {
        auto& list = const_cast<Slot&>(slot); // List has no const iteration; nothing is changed
        for (Timer* t = list.front(); t != nullptr; t = list.next(*t)) {
            best = std::min(best, t->deadline_);
        }
    };
    look(wheel_[due]);
    look(wheel_[fresh]);
    std::uint64_t tick = next_event_tick();
    if (tick == ~std::uint64_t{0}) {
        return best;
    }
    if (tick - tick_ < slots && (occupied_[0] >> (tick & (slots - 1)) & 1) != 0) {
        look(wheel_[tick & (slots - 1)]);
    }
    // What an upper block holds may be due anywhere in it, so its start counts.
    return block_begins(tick) ? std::min(best, time_of(tick)) : best;
}

Instant TimerWheel::next_deadline() const
{
    if (!next_known_) {
        next_ = earliest();
        next_known_ = true;
    }
    return next_;
}

} // namespace lwkt
