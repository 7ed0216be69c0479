// HyStart++ (RFC 9406): slow start ends when round trips grow, before the queue overflows. Pure; fed with each ACK of
// the first slow start. Owner: that of its Tcb.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/seq.hpp"

namespace protocols::tcp {

using base::Seq;

struct HyStart {
    enum class Verdict : std::uint8_t { grow, grow_less, leave }; // by all that was acknowledged; a quarter; no more

    // RFC 9406 4.3
    static constexpr std::uint32_t min_rtt_thresh_us = 4000;
    static constexpr std::uint32_t max_rtt_thresh_us = 16000;
    static constexpr std::uint32_t min_rtt_divisor = 8;
    static constexpr unsigned rtt_samples = 8;
    static constexpr unsigned css_growth_divisor = 4;
    static constexpr unsigned css_rounds_max = 5;
    static constexpr std::uint32_t none = ~std::uint32_t{0};

    Seq window_end; // the round ends when this is acknowledged
    std::uint32_t last_min_us = none;
    std::uint32_t current_min_us = none;
    std::uint32_t css_baseline_us = none;
    std::uint8_t samples = 0;
    std::uint8_t css_rounds = 0;
    bool in_css = false;
    bool in_round = false;

    // `rtt_us` 0: this ACK measured nothing.
    Verdict on_ack(Seq ack, Seq nxt, std::uint32_t rtt_us)
    {
        if (!in_round) { // 4.2: a round is a window's worth of text
            in_round = true;
            window_end = nxt;
        } else if (ack >= window_end) {
            last_min_us = current_min_us;
            current_min_us = none;
            samples = 0;
            window_end = nxt;
            if (in_css && ++css_rounds >= css_rounds_max) {
                return Verdict::leave;
            }
        }
        if (rtt_us != 0) {
            current_min_us = std::min(current_min_us, rtt_us);
            samples = static_cast<std::uint8_t>(std::min(samples + 1, 255));
        }
        if (samples >= rtt_samples && current_min_us != none) {
            judge();
        }
        return in_css ? Verdict::grow_less : Verdict::grow;
    }

private:
    void judge()
    {
        if (in_css) { // back to slow start: it was a spurious rise
            if (current_min_us < css_baseline_us) {
                in_css = false;
                css_baseline_us = none;
            }
            return;
        }
        if (last_min_us == none) {
            return;
        }
        std::uint32_t threshold = std::clamp(last_min_us / min_rtt_divisor, min_rtt_thresh_us, max_rtt_thresh_us);
        if (current_min_us >= last_min_us + threshold) {
            in_css = true;
            css_baseline_us = current_min_us;
            css_rounds = 0;
        }
    }
};

} // namespace protocols::tcp
