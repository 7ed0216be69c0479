// Planted bugs: the simulator (tests/sim) is itself tested by switching one on in the stack and demanding that it is
// found. In every ordinary build planted() is `false` at compile time and costs nothing; only the copy of the stack
// that is compiled for the simulator with NETD_PLANTS asks the variable. A plant is one condition at the line that it
// spoils.
#pragma once

#include <cstdint>

namespace base {

enum class Plant : std::uint8_t {
    none,
    lost_doorbell,
    lost_mark_doorbell,
    mark_cleared_late,
    spill_overtaken,
    free_to_wrong_home,
    slot_keeps_generation,
    end_before_last_byte,
    space_before_ack,
    ring_freed_early,
    wrong_start_of_ring,
    writer_not_woken,
    accept_not_told,
    wakeup_lost,
    timer_lost_at_rearm,
    persist_not_armed,
    delayed_ack_never_sent,
    window_edge_too_far,
    fin_not_sent_again,
    sent_again_from_wrong_place,
    old_text_not_trimmed,
    hole_skipped,
    fin_counted_as_text,
    checksum_ignored,
    datagram_checksum_ignored,
    wrong_owner,
    credit_leaked,
    half_open_leaked,
    asleep_with_text_unsent,
    fragment_misplaced,
    first_window_too_large,
    mapped_not_taken,
    mark_not_echoed,
    mark_lost_in_reassembly,
    advertisement_kept_here,
    gone_address_used,
    ipv4_change_kept_here,
    ace_off_by_one,
    window_growth_ignored,
    ack_of_two_kept,
    ack_sent_twice,
    sacked_sent_again,
    lost_without_evidence,
    pace_not_kept,
    timeout_not_doubled,
    syn_not_spread,
    probes_not_spread,
    timeout_put_off,
    patience_of_before,
    patience_overrun,
    keepalive_unheard,
    delayed_ack_put_off,
    fin_wait_2_short,
    time_wait_at_once,
};

#ifdef NETD_PLANTS
inline Plant the_plant = Plant::none; // stored before the stack is made
inline bool planted(Plant p)
{
    return the_plant == p;
}
#else
constexpr bool planted(Plant)
{
    return false;
}
#endif

} // namespace base
