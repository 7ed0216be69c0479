// Delivery rate (draft-cheng-iccrg-delivery-rate-estimation, now section 4.1 of draft-ietf-ccwg-bbr): how much was
// delivered between an acknowledgment and the last one before its text was sent. What the draft notes with every packet
// is noted here with every burst, in a ring that covers some round trips: a run of the scoreboard, which knows only its
// time, finds its note by that. Pure; octets, and microseconds modulo 2^32 as in RACK. Owner: that of its Tcb.
#pragma once

#include <array>
#include <cstdint>

namespace protocols::tcp {

struct RateSample {
    bool known = false;            // the note of what was delivered was still there
    bool app_limited = false;      // the application had nothing more to send then
    std::uint32_t delivered = 0;   // octets since the note
    std::uint32_t interval_us = 0; // in which they were delivered; 0 = too short to tell
    std::uint32_t prior_delivered = 0;
    std::uint32_t tx_in_flight = 0; // when the text was sent, itself included
    std::uint32_t lost = 0;         // octets since then

    std::uint64_t rate() const // octets per second
    {
        return interval_us == 0 ? 0 : std::uint64_t{delivered} * 1'000'000 / interval_us;
    }
};

class DeliveryRate {
public:
    static constexpr unsigned notes_max = 64;
    static constexpr std::uint32_t notes_per_round_trip = 24;

    // Text was sent, new or again: `in_flight` octets are under way with it, `before` were without.
    void sent(std::uint32_t now_us, std::uint32_t before, std::uint32_t in_flight, std::uint32_t srtt_us);
    // `octets` were delivered (acknowledged or SACKed for the first time), the latest of them sent at `sent_us`.
    RateSample delivered(std::uint32_t now_us, std::uint32_t octets, std::uint32_t sent_us, std::uint32_t min_rtt_us);
    // `octets`, the latest of them sent at `sent_us`, were lost: what was under way and what was lost since.
    RateSample lost(std::uint32_t octets, std::uint32_t sent_us);
    // Nothing waits to be sent though the windows would let it out: what is in flight tells less than the path can.
    void app_limited(std::uint32_t in_flight)
    {
        app_limited_ = true;
        app_limited_until_ = delivered_ + in_flight;
    }

    std::uint32_t total() const { return delivered_; }
    bool is_app_limited() const { return app_limited_; }

private:
    struct Note {
        std::uint32_t sent_us;
        std::uint32_t delivered;
        std::uint32_t delivered_us;
        std::uint32_t first_sent_us;
        std::uint32_t in_flight;
        std::uint32_t lost;
        bool app_limited;
    };
    Note& at(unsigned i) { return notes_[(first_ + i) % notes_max]; }
    const Note* find(std::uint32_t sent_us);

    std::uint32_t delivered_ = 0;
    std::uint32_t delivered_us_ = 0; // when it last grew
    std::uint32_t first_sent_us_ = 0;
    std::uint32_t lost_ = 0;
    std::uint32_t app_limited_until_ = 0;
    bool app_limited_ = false;
    std::uint8_t first_ = 0;
    std::uint8_t count_ = 0;
    std::array<Note, notes_max> notes_{}; // in order of time
};

} // namespace protocols::tcp
