// The sender's picture of [una, nxt): a bounded list of runs that cover it without gaps, each with the time of its
// last transmission and its fate: in flight, SACKed or lost. Pure; what an ACK delivered is told to RACK, which decides
// what is lost; without SACK the NewReno of RFC 6582 does (duplicates stand for octets that arrived).
//
// New text sent within a thirty-second of the shortest round trip, and with no retransmission in between, is one run
// with the time of its last: order is exact, RACK's reordering window errs by an eighth (more when the list fills).
// Runs that must grow beyond that are blurred: judged by their last time, no evidence against others. A list that
// fills may be moved to longer memory, and back. When it is full, SACKs that would need one more run are not noted
// (their octets count as in flight until acknowledged). Owner: that of its Tcb.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "protocols/tcp/rack.hpp"

namespace protocols::tcp {

inline constexpr unsigned sent_runs_max = 104;

enum class Recovery : std::uint8_t { none, fast, timeout };
enum class Fate : std::uint8_t { flying, sacked, lost };

struct SentRun {
    Seq end; // its start is the end of the one before, or una
    std::uint32_t word = 0;

    std::uint32_t time_us() const { return word & ~15U; }
    Fate fate() const { return static_cast<Fate>(word & 3U); }
    bool resent() const { return (word & 4U) != 0; }
    bool flies_once() const { return (word & 7U) == 0; } // Fate::flying, and not sent again
    bool blurred() const { return (word & 8U) != 0; }
    void blur() { word |= 8U; }
    void set(std::uint32_t time_us, Fate f, bool resent)
    {
        word = (time_us & ~15U) | static_cast<std::uint32_t>(f) | (resent ? 4U : 0U);
    }
    void set_fate(Fate f) { word = (word & ~3U) | static_cast<std::uint32_t>(f); }
};

// Collects what one ACK delivered.
struct Delivery {
    RackAck ack;
    std::uint32_t octets = 0;         // newly acknowledged or SACKed
    std::uint32_t sacked = 0;         // of these, SACKed
    bool original = false;            // text below `recover` that was never retransmitted was among it
    bool resent = false;              // retransmitted text was
    std::uint32_t newest_sent_us = 0; // time of the latest transmission among it
};

struct Scoreboard {
    Scoreboard() {}
    Scoreboard(const Scoreboard&) = delete;
    Scoreboard& operator=(const Scoreboard&) = delete;

    // To longer memory, which is the caller's; and back once the runs fit.
    void extend(std::span<SentRun> memory) { move_to(memory); }
    void come_back() { move_to(own_); }
    bool fills() const { return count_ + runs_of_an_ack > runs_.size() - spare_runs; }

    Recovery phase = Recovery::none;
    bool use_sack = false;
    bool force_one = false;  // the next retransmission goes out whatever is in flight
    unsigned duplicates = 0; // duplicate ACKs (without SACK each stands for one segment that arrived)
    Seq recover;             // recovery ends when this is acknowledged

    std::uint32_t flight() const { return static_cast<std::uint32_t>(nxt() - una_); }
    std::uint32_t sacked_bytes() const { return sacked_; }
    std::uint32_t lost_bytes() const { return lost_; }
    std::uint32_t resent_bytes() const { return resent_; } // retransmissions in flight
    // Octets in the network (RFC 6675 4).
    std::uint32_t pipe(std::uint32_t mss) const;
    // RFC 6675 4 IsLost, as DupThresh segments: so many octets, or so many ranges, are SACKed.
    bool many_sacked(std::uint32_t mss) const;
    // Nothing but text in flight, once sent: an ACK is only an ACK.
    bool plain() const { return phase == Recovery::none && (sacked_ | lost_ | resent_) == 0; }
    std::uint32_t newest_lost_us() const { return newest_lost_us_; } // when what was found lost last had been sent
    unsigned runs() const { return count_; }
    Seq start_of(unsigned i) const { return i == 0 ? una_ : at(i - 1).end; }
    const SentRun& at(unsigned i) const { return runs_[place(i)]; }

    // New text up to `end` went out.
    void sent(Seq end, std::uint32_t now_us, std::uint32_t min_rtt_us);
    // The first run of lost octets; false if there is none.
    bool first_lost(Seq& start, Seq& end) const;
    // Its first part went out again. False, and nothing went: no room for one more run.
    bool resend(std::uint32_t len, std::uint32_t now_us);
    // Text at the end of the flight went out again as a probe (RFC 8985 7.3).
    void probed(Seq start, std::uint32_t now_us);

    void acked(Seq ack, Rack& rack, Delivery& d);
    void sack(Seq start, Seq end, Rack& rack, Delivery& d);
    // RACK over every run in flight. Octets newly lost; `next_us`: when to look again, 0 = when an ACK comes.
    std::uint32_t detect(const Rack& rack, std::uint32_t now_us, std::uint32_t reo_wnd, std::uint32_t& next_us);
    std::uint32_t mark_lost(Seq from, Seq to);
    void mark_all_lost();
    bool mark_larger_lost(std::uint32_t octets); // runs longer than that, but for SACKed ones; false: there is none
    void unmark_lost();                          // they were only late

    void enter_fast(Seq nxt);
    // RFC 8985 6.3, RFC 2018 8. `rtt_us`: what left later may be on its way still.
    void enter_timeout(std::uint32_t rtt_us, std::uint32_t now_us, std::uint32_t reo_wnd, std::uint32_t mss);
    // What is marked lost goes again without a sign of congestion, until all in flight is acknowledged.
    void resend_quietly();
    // After acked(): ends a recovery whose point is acknowledged; without SACK finds the next hole (RFC 6582 3.2).
    void settle(std::uint32_t acked, std::uint32_t mss);
    void leave();
    void reset(Seq una);

private:
    static constexpr unsigned spare_runs = 8;     // for retransmissions, which SACKs may not take
    static constexpr unsigned runs_of_an_ack = 8; // that four SACK blocks may need

    void move_to(std::span<SentRun> memory);
    unsigned first_beyond(Seq seq) const; // the first run that ends beyond it
    Seq nxt() const { return count_ == 0 ? una_ : at(count_ - 1).end; }
    unsigned place(unsigned i) const
    {
        unsigned p = head_ + i;
        auto size = static_cast<unsigned>(runs_.size());
        return p < size ? p : p - size;
    }
    SentRun& run(unsigned i) { return runs_[place(i)]; }
    void account(const SentRun& r, std::uint32_t octets, bool in)
    {
        if (!r.flies_once()) {
            account_marked(r, octets, in);
        }
    }
    void account_marked(const SentRun& r, std::uint32_t octets, bool in);
    void change(unsigned i, Fate f);
    void split(unsigned i, Seq at);
    void insert(unsigned i, const SentRun& r);
    void remove(unsigned i);
    bool merge_with_previous(unsigned i);
    void join_lost();
    bool move_boundary(unsigned i, Seq end, std::uint32_t now_us);
    void deliver(const SentRun& r, Seq end, std::uint32_t octets, Rack& rack, Delivery& d) const;

    Seq una_;
    std::uint32_t sacked_ = 0;
    std::uint32_t lost_ = 0;
    std::uint32_t resent_ = 0;
    std::uint32_t last_began_us_ = 0; // of the newest run
    std::uint32_t newest_lost_us_ = 0;
    bool last_grows_ = false; // nothing was sent again since
    std::uint16_t head_ = 0;
    std::uint16_t count_ = 0;
    std::uint16_t sacked_runs_ = 0;
    std::span<SentRun> runs_{own_}; // from head_ on, which is 0 again whenever nothing is in flight
    union { // not initialised: count_ tells what is there, and a short connection touches one line of them
        std::array<SentRun, sent_runs_max> own_;
    };
};

} // namespace protocols::tcp
