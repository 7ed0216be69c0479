// See tcp_scoreboard.hpp.
#include "protocols/tcp/tcp_scoreboard.hpp"

#include <algorithm>

#include "base/check.hpp"
#include "base/plant.hpp"
#include "protocols/tcp/tcp_limits.hpp"

namespace protocols::tcp {

namespace {
constexpr std::size_t kept_for_sacks = 16; // when only so many are left, the last run of new text is blurred
constexpr unsigned runs_of_a_span = 24;    // each so many runs more, new text shares a time for twice as long
constexpr unsigned longest_span = 4;       // in doublings: half of the shortest round trip
constexpr std::uint32_t parts_of_round_trip = 32;
} // namespace

void Scoreboard::move_to(std::span<SentRun> memory)
{
    INVARIANT(count_ <= memory.size());
    for (unsigned i = 0; i < count_; ++i) {
        memory[i] = at(i);
    }
    runs_ = memory;
    head_ = 0;
}

unsigned Scoreboard::first_beyond(Seq seq) const
{
    unsigned low = 0;
    for (unsigned high = count_; low < high;) {
        unsigned middle = (low + high) / 2;
        if (at(middle).end <= seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

std::uint32_t Scoreboard::pipe(std::uint32_t mss) const
{
    std::uint32_t gone = lost_ + (use_sack ? sacked_ : duplicates * mss);
    std::uint32_t all = flight();
    return gone < all ? all - gone : 0;
}

bool Scoreboard::many_sacked(std::uint32_t mss) const
{
    return sacked_runs_ >= duplicate_threshold || sacked_ > (duplicate_threshold - 1) * mss;
}

[[gnu::noinline]] void Scoreboard::account_marked(const SentRun& r, std::uint32_t octets, bool in)
{
    std::uint32_t& sum = r.fate() == Fate::sacked ? sacked_ : r.fate() == Fate::lost ? lost_ : resent_;
    sum += in ? octets : 0U - octets;
}

void Scoreboard::change(unsigned i, Fate f)
{
    auto octets = static_cast<std::uint32_t>(at(i).end - start_of(i));
    account(at(i), octets, false);
    sacked_runs_ = static_cast<std::uint16_t>(sacked_runs_ - (at(i).fate() == Fate::sacked) + (f == Fate::sacked));
    run(i).set_fate(f);
    account(at(i), octets, true);
}

void Scoreboard::insert(unsigned i, const SentRun& r)
{
    INVARIANT(count_ < runs_.size());
    for (unsigned k = count_; k > i; --k) {
        run(k) = run(k - 1);
    }
    run(i) = r;
    ++count_;
    sacked_runs_ = static_cast<std::uint16_t>(sacked_runs_ + (r.fate() == Fate::sacked));
}

void Scoreboard::remove(unsigned i)
{
    sacked_runs_ = static_cast<std::uint16_t>(sacked_runs_ - (at(i).fate() == Fate::sacked));
    for (unsigned k = i; k + 1 < count_; ++k) {
        run(k) = run(k + 1);
    }
    --count_;
}

void Scoreboard::split(unsigned i, Seq where)
{
    SentRun front = at(i);
    front.end = where;
    insert(i, front);
}

// Equal fates are one run where the time does not matter or is the same. True: run i is gone.
bool Scoreboard::merge_with_previous(unsigned i)
{
    if (i == 0 || i >= count_ || at(i).fate() != at(i - 1).fate()) {
        return false;
    }
    const SentRun& r = at(i);
    bool same = r.fate() == Fate::sacked || (r.word == at(i - 1).word);
    if (!same) {
        return false;
    }
    run(i - 1).end = r.end;
    remove(i);
    return true;
}

void Scoreboard::sent(Seq end, std::uint32_t now_us, std::uint32_t min_rtt_us)
{
    SentRun r;
    r.end = end;
    r.set(now_us, Fate::flying, false);
    if (count_ != 0) {
        SentRun& last = run(count_ - 1);
        bool grows = last.fate() == Fate::flying && !last.resent();
        std::uint32_t span_us = (min_rtt_us / parts_of_round_trip) << std::min(count_ / runs_of_a_span, longest_span);
        bool close = last_grows_ && now_us - last_began_us_ <= span_us;
        if (grows && (close || count_ + kept_for_sacks >= runs_.size())) {
            bool blurred = !close || last.blurred();
            last = r;
            if (blurred) {
                last.blur();
            }
            return;
        }
        if (count_ == runs_.size()) { // the last is SACKed or was sent again: forgetting that costs a resend at worst
            change(count_ - 1, Fate::flying);
            resent_ -= last.resent() ? static_cast<std::uint32_t>(last.end - start_of(count_ - 1)) : 0;
            last = r;
            last.blur();
            return;
        }
    }
    run(count_++) = r;
    last_began_us_ = now_us;
    last_grows_ = true;
}

bool Scoreboard::first_lost(Seq& start, Seq& end) const
{
    if (lost_ == 0) {
        return false;
    }
    for (unsigned i = 0; i < count_; ++i) {
        if (at(i).fate() == Fate::lost) {
            start = start_of(i);
            end = at(i).end;
            auto goes = [](Fate f) {
                return f == Fate::lost || (f == Fate::sacked && base::planted(base::Plant::sacked_sent_again));
            };
            for (unsigned k = i + 1; k < count_ && goes(at(k).fate()); ++k) {
                end = at(k).end;
            }
            return true;
        }
    }
    return false;
}

// No room for one more run: lost ones side by side are one, as young as its newest part, and sent again where any was.
void Scoreboard::join_lost()
{
    unsigned last = 0;
    for (unsigned i = 1; i < count_; ++i) {
        const SentRun r = at(i);
        SentRun& before = run(last);
        if (r.fate() != Fate::lost || before.fate() != Fate::lost) {
            run(++last) = r;
            continue;
        }
        bool younger = static_cast<std::int32_t>(r.time_us() - before.time_us()) > 0;
        before.set(younger ? r.time_us() : before.time_us(), Fate::lost, before.resent() || r.resent());
        before.blur();
        before.end = r.end;
    }
    count_ = static_cast<std::uint16_t>(std::min<unsigned>(count_, last + 1));
}

// Still no room: the one before, of retransmissions too, grows and is as young as its newest part.
bool Scoreboard::move_boundary(unsigned i, Seq end, std::uint32_t now_us)
{
    if (i == 0 || at(i - 1).fate() != Fate::flying || !at(i - 1).resent()) {
        return false;
    }
    auto octets = static_cast<std::uint32_t>(end - start_of(i));
    account(at(i), octets, false);
    run(i - 1).end = end;
    run(i - 1).set(now_us, Fate::flying, true);
    run(i - 1).blur();
    account(at(i - 1), octets, true);
    return true;
}

bool Scoreboard::resend(std::uint32_t len, std::uint32_t now_us)
{
    last_grows_ = false;
    if (count_ == runs_.size()) {
        join_lost();
    }
    unsigned i = 0;
    while (at(i).fate() != Fate::lost) {
        ++i;
    }
    Seq end = start_of(i) + len;
    while (i < count_ && start_of(i) < end) { // the runs of one hole may be several
        if (at(i).end > end) {
            if (count_ == runs_.size()) {
                return move_boundary(i, end, now_us);
            }
            split(i, end);
        }
        change(i, Fate::flying);
        account(at(i), static_cast<std::uint32_t>(at(i).end - start_of(i)), false);
        run(i).set(now_us, Fate::flying, true);
        account(at(i), static_cast<std::uint32_t>(at(i).end - start_of(i)), true);
        if (!merge_with_previous(i)) {
            ++i;
        }
    }
    return true;
}

void Scoreboard::probed(Seq start, std::uint32_t now_us)
{
    if (count_ == 0 || count_ == runs_.size()) {
        return; // judged by its first transmission, then
    }
    last_grows_ = false;
    unsigned i = count_ - 1;
    if (start > start_of(i)) {
        split(i, start);
        ++i;
    }
    account(at(i), static_cast<std::uint32_t>(at(i).end - start_of(i)), false);
    run(i).set(now_us, Fate::flying, true);
    account(at(i), static_cast<std::uint32_t>(at(i).end - start_of(i)), true);
}

void Scoreboard::deliver(const SentRun& r, Seq end, std::uint32_t octets, Rack& rack, Delivery& d) const
{
    if (r.fate() == Fate::sacked) {
        return; // it was, by an earlier ACK
    }
    d.octets += octets;
    d.original |= !r.resent() && end <= recover;
    d.resent |= r.resent();
    if (static_cast<std::int32_t>(r.time_us() - d.newest_sent_us) > 0 || d.octets == octets) {
        d.newest_sent_us = r.time_us();
    }
    if (r.blurred()) {
        rack.fack = base::max(rack.fack, end);
    } else {
        rack.delivered(d.ack, r.time_us(), end, r.resent());
    }
}

void Scoreboard::acked(Seq ack, Rack& rack, Delivery& d)
{
    while (count_ != 0 && una_ < ack) {
        const SentRun& first = runs_[head_];
        Seq end = base::min(first.end, ack);
        auto octets = static_cast<std::uint32_t>(end - una_);
        deliver(first, end, octets, rack, d);
        account(first, octets, false);
        if (end == first.end) {
            sacked_runs_ = static_cast<std::uint16_t>(sacked_runs_ - (first.fate() == Fate::sacked));
            head_ = --count_ == 0 ? std::uint16_t{0} : static_cast<std::uint16_t>(place(1));
        }
        una_ = end;
    }
    una_ = ack;
    rack.acked(una_);
    recover = base::max(recover, una_ - 1); // keeps up, so that it never falls half the number space behind
}

void Scoreboard::sack(Seq start, Seq end, Rack& rack, Delivery& d)
{
    for (unsigned i = first_beyond(start); i < count_ && start_of(i) < end; ++i) {
        if (at(i).fate() == Fate::sacked) {
            continue;
        }
        unsigned splits = (start_of(i) < start ? 1U : 0U) + (at(i).end > end ? 1U : 0U);
        if (count_ + splits > runs_.size() - spare_runs && splits != 0) {
            continue;
        }
        if (start_of(i) < start) {
            split(i, start);
            ++i;
        }
        if (at(i).end > end) {
            split(i, end);
        }
        auto octets = static_cast<std::uint32_t>(at(i).end - start_of(i));
        deliver(at(i), at(i).end, octets, rack, d);
        d.sacked += octets;
        change(i, Fate::sacked);
        merge_with_previous(i + 1);
        if (merge_with_previous(i)) {
            --i;
        }
    }
}

std::uint32_t Scoreboard::detect(const Rack& rack, std::uint32_t now_us, std::uint32_t reo_wnd, std::uint32_t& next_us)
{
    std::uint32_t before = lost_;
    next_us = 0;
    for (unsigned i = 0; i < count_; ++i) {
        if (at(i).fate() != Fate::flying) {
            continue;
        }
        std::int32_t in = rack.lost_in_us(now_us, reo_wnd, at(i).time_us(), at(i).end);
        bool guessed = in == Rack::not_judged && base::planted(base::Plant::lost_without_evidence);
        if (in <= 0 || guessed) {
            newest_lost_us_ = at(i).time_us();
            change(i, Fate::lost);
        } else if (in != Rack::not_judged) {
            next_us = std::max(next_us, static_cast<std::uint32_t>(in));
        }
    }
    return lost_ - before;
}

std::uint32_t Scoreboard::mark_lost(Seq from, Seq to)
{
    std::uint32_t before = lost_;
    for (unsigned i = 0; i < count_ && start_of(i) < to; ++i) {
        if (at(i).end <= from || at(i).fate() != Fate::flying) {
            continue;
        }
        if (start_of(i) < from && count_ < runs_.size()) {
            split(i, from);
            continue;
        }
        if (at(i).end > to && count_ < runs_.size()) {
            split(i, to);
        }
        change(i, Fate::lost);
    }
    return lost_ - before;
}

void Scoreboard::mark_all_lost()
{
    for (unsigned i = 0; i < count_; ++i) {
        change(i, Fate::lost);
    }
}

bool Scoreboard::mark_larger_lost(std::uint32_t octets)
{
    bool some = false;
    for (unsigned i = 0; i < count_; ++i) {
        if (at(i).fate() != Fate::sacked && static_cast<std::uint32_t>(at(i).end - start_of(i)) > octets) {
            change(i, Fate::lost);
            some = true;
        }
    }
    return some;
}

void Scoreboard::unmark_lost()
{
    for (unsigned i = 0; i < count_; ++i) {
        if (at(i).fate() == Fate::lost) {
            change(i, Fate::flying);
        }
    }
}

void Scoreboard::enter_fast(Seq nxt)
{
    phase = Recovery::fast;
    recover = nxt;
    force_one = true;
}

void Scoreboard::enter_timeout(std::uint32_t rtt_us, std::uint32_t now_us, std::uint32_t reo_wnd, std::uint32_t mss)
{
    // RFC 2018 8: after a timeout the receiver may have reneged; the second one in a row trusts no SACK any more, and
    // neither does one whose first octet is SACKed.
    bool reneged = count_ != 0 && at(0).fate() == Fate::sacked;
    bool trusts = phase != Recovery::timeout && !reneged;
    if (!use_sack) {
        mark_all_lost();
    } else { // RFC 8985 6.3: the first segment, and what was sent long enough ago
        for (unsigned i = 0; i < count_; ++i) {
            bool known = at(i).fate() == Fate::lost || (at(i).fate() == Fate::sacked && trusts);
            auto left = static_cast<std::int32_t>(at(i).time_us() + rtt_us + reo_wnd - now_us);
            if (!known) {
                change(i, left <= 0 ? Fate::lost : Fate::flying);
            }
        }
        mark_lost(una_, base::min(una_ + mss, start_of(std::min<unsigned>(count_, 1))));
    }
    resend_quietly();
}

void Scoreboard::resend_quietly()
{
    phase = Recovery::timeout;
    recover = nxt();
    duplicates = 0;
    force_one = true;
}

void Scoreboard::leave()
{
    phase = Recovery::none;
    duplicates = 0;
    force_one = false;
}

void Scoreboard::settle(std::uint32_t acked, std::uint32_t mss)
{
    if (phase == Recovery::none) {
        duplicates = 0;
        return;
    }
    if (una_ >= recover) {
        leave();
        return;
    }
    if (phase == Recovery::fast && !use_sack) {
        // RFC 6582 3.2 step 3: a partial ACK shows the next hole; what it covers had been counted as arrived.
        unsigned covered = (acked + mss - 1) / mss;
        duplicates = covered > 1 ? duplicates - std::min(duplicates, covered - 1) : duplicates;
        mark_lost(una_, base::min(una_ + mss, recover));
        force_one = true;
    }
}

void Scoreboard::reset(Seq una)
{
    phase = Recovery::none;
    recover = una_ = una;
    duplicates = 0;
    force_one = false;
    sacked_ = lost_ = resent_ = 0;
    head_ = count_ = sacked_runs_ = 0;
}

} // namespace protocols::tcp
