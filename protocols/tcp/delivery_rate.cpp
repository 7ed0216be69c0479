// See delivery_rate.hpp.
#include "protocols/tcp/delivery_rate.hpp"

#include <algorithm>

namespace protocols::tcp {

namespace {

constexpr std::uint32_t run_time(std::uint32_t us) // as the scoreboard keeps it
{
    return us & ~15U;
}

constexpr std::int32_t since(std::uint32_t later, std::uint32_t earlier)
{
    return static_cast<std::int32_t>(later - earlier);
}

} // namespace

void DeliveryRate::sent(std::uint32_t now_us, std::uint32_t before, std::uint32_t in_flight, std::uint32_t srtt_us)
{
    if (before == 0) { // 4.1.2.2: the pipe was empty, time begins
        first_sent_us_ = delivered_us_ = now_us;
    } else if (count_ != 0 && now_us - at(count_ - 1U).sent_us <= srtt_us / notes_per_round_trip) {
        at(count_ - 1U).in_flight = in_flight; // one burst
        return;
    }
    if (count_ == notes_max) { // the oldest goes; what it was about gives no sample
        first_ = static_cast<std::uint8_t>((first_ + 1) % notes_max);
        --count_;
    }
    at(count_++) = {run_time(now_us), delivered_, delivered_us_, first_sent_us_, in_flight, lost_, app_limited_};
}

const DeliveryRate::Note* DeliveryRate::find(std::uint32_t sent_us)
{
    for (unsigned i = count_; i > 0; --i) {
        if (since(sent_us, at(i - 1).sent_us) >= 0) {
            return &at(i - 1);
        }
    }
    return nullptr;
}

RateSample DeliveryRate::delivered(
    std::uint32_t now_us, std::uint32_t octets, std::uint32_t sent_us, std::uint32_t min_rtt_us)
{
    delivered_ += octets;
    delivered_us_ = now_us;
    if (app_limited_ && since(delivered_, app_limited_until_) > 0) {
        app_limited_ = false; // what was sent while nothing waited has been delivered
    }
    RateSample s;
    const Note* note = find(sent_us);
    if (note == nullptr) {
        return s;
    }
    first_sent_us_ = sent_us;
    s.known = true;
    s.app_limited = note->app_limited;
    s.delivered = delivered_ - note->delivered;
    s.prior_delivered = note->delivered;
    s.tx_in_flight = note->in_flight;
    s.lost = lost_ - note->lost;
    // 4.1.2.3: neither may acknowledgments that come in a heap make it look faster than it was sent, nor the reverse
    std::int32_t send_us = since(note->sent_us, note->first_sent_us);
    std::int32_t ack_us = since(now_us, note->delivered_us);
    auto interval_us = static_cast<std::uint32_t>(std::max({send_us, ack_us, 0}));
    s.interval_us = interval_us < min_rtt_us ? 0 : interval_us; // a retransmission's that was not, or a compressed one
    return s;
}

RateSample DeliveryRate::lost(std::uint32_t octets, std::uint32_t sent_us)
{
    lost_ += octets;
    RateSample s;
    if (const Note* note = find(sent_us); note != nullptr) {
        s.known = true;
        s.app_limited = note->app_limited;
        s.tx_in_flight = note->in_flight;
        s.lost = lost_ - note->lost;
    }
    return s;
}

} // namespace protocols::tcp
