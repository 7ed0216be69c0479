// Which families a poll looks at (docs/decisions/0026-quiet-families.md). Owner: one CPU. Those that said something
// lately are "lively": a poll looks at each. The others are "quiet": a poll looks at a few, in turn, and at nothing of
// them but the line that says whether there is anything.
//
// Invariants: a family stands in one of the two lists, once. Of n quiet families each is looked at within
// n / looks_min polls, and within n * look_every of time that now() saw pass; pending() looks at all of them, and what
// it finds is what the next poll looks at first.
#pragma once

#include <algorithm>
#include <vector>

#include "base/units.hpp"
#include "gateway/client_record.hpp"

namespace gateway {

// Whether the line names any marks or requests. Said by the family: may be a lie, which costs a look at the family.
inline bool names_any(const sockbuf::MarkLine& line, std::uint32_t summaries)
{
    std::uint64_t any = line.processes.load(std::memory_order_seq_cst);
    for (std::uint32_t i = 0; i < summaries; ++i) {
        any |= line.summary[i].load(std::memory_order_seq_cst);
    }
    return any != 0;
}

class PollSet {
public:
    struct Family {
        Client* client = nullptr;
        const sockbuf::MarkLine* line = nullptr; // the CPU's
        std::uint32_t summaries = 0;             // words of the line that the family's slots need
        bool said = true;                        // anything since lively families were last sorted

        bool names_any() const { return gateway::names_any(*line, summaries); }
    };

    // `all_quiet`: every poll looks at all of them; for CPUs whose visitors come because of a mark and look once.
    explicit PollSet(bool all_quiet) : all_quiet_(all_quiet) {}

    void add(Client& c, base::CpuId cpu)
    {
        lively_.push_back({&c, &c.view().marks(cpu), (c.view().sockets() / 64 + 63) / 64, true});
    }
    void remove(const Client& c)
    {
        auto is = [&c](const Family& f) { return f.client == &c; };
        std::erase_if(lively_, is);
        std::erase_if(quiet_, is);
        at_ = 0;
    }

    // Before the lively ones are polled: moves those of the quiet ones to them that have something to say.
    void listen(base::Instant now)
    {
        if (quiet_.empty()) {
            listened_ = now;
            return;
        }
        auto looks = static_cast<std::size_t>(std::max<std::int64_t>((now - listened_) / look_every, looks_min));
        listened_ = now;
        for (looks = all_quiet_ ? quiet_.size() : std::min(looks, quiet_.size()); looks != 0; --looks) {
            at_ = at_ < quiet_.size() ? at_ : 0;
            if (!quiet_[at_].names_any()) {
                ++at_;
                continue;
            }
            lively_.push_back(quiet_[at_]);
            lively_.back().said = true;
            quiet_[at_] = quiet_.back(); // which is looked at next
            quiet_.pop_back();
        }
        // Each of these lines is in memory, and its page in no cache of translations: there by the next poll.
        for (std::size_t i = at_; i < std::min(at_ + looks_min, quiet_.size()); ++i) {
            __builtin_prefetch(quiet_[i].line);
        }
    }
    std::vector<Family>& lively() { return lively_; }
    // After a poll: now and then, those that said nothing for so many polls, and have nothing to say, become quiet.
    template <typename Said>
    void sort(Said said)
    {
        if (++polls_ < polls_until_quiet) {
            return;
        }
        polls_ = 0;
        std::erase_if(lively_, [&](Family& f) {
            bool quiet = !f.said && !said(*f.client);
            f.said = false;
            if (quiet) {
                quiet_.push_back(f);
            }
            return quiet;
        });
    }

    // Whether any family has something to say, by the look `said` at those that name something.
    template <typename Said>
    bool pending(Said said) const
    {
        for (const Family& f : lively_) {
            if (said(*f.client)) {
                return true;
            }
        }
        for (std::size_t i = 0; i < quiet_.size(); ++i) {
            if (quiet_[i].names_any() && said(*quiet_[i].client)) {
                at_ = i;
                return true;
            }
        }
        return false;
    }

    // Four loads that miss every cache cost what one packet costs; up to four quiet families it is as if there were no
    // such thing.
    static constexpr std::int64_t looks_min = 4;
    static constexpr base::Micros look_every{1};
    // Far longer than a summary bit without marks stays set, and than a pause in a conversation: 0.2 ms of a CPU that
    // has nothing to do, 5 ms of one that is busy.
    static constexpr std::uint32_t polls_until_quiet = 1024;

private:
    bool all_quiet_;             // c
    std::vector<Family> lively_; // o
    std::vector<Family> quiet_;  // o
    mutable std::size_t at_ = 0; // o: the quiet family that is looked at next
    std::uint32_t polls_ = 0;    // o: since the lively ones were sorted
    base::Instant listened_{};   // o
};

} // namespace gateway
