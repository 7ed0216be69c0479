// See rack.hpp.
#include "protocols/tcp/rack.hpp"

namespace protocols::tcp {

namespace {
constexpr std::uint8_t reo_wnd_persist_recoveries = 16; // RFC 8985 6.2 step 4
constexpr std::uint8_t reo_wnd_mult_max = 255;
} // namespace

void Rack::reset(Seq una)
{
    *this = {};
    fack = end_seq = una;
}

void Rack::began(std::uint32_t time_us, Seq start)
{
    xmit_us = time_us & ~15U; // as the runs have it
    end_seq = start;
}

void Rack::delivered(const RackAck& ack, std::uint32_t time_us, Seq end, bool resent)
{
    std::uint32_t rtt = std::max(ack.now_us - time_us, 1U);
    // 6.2 step 3: the hole below what was delivered earlier is filled, and not by us
    if (end > fack) {
        fack = end;
    } else if (end < fack && !resent) {
        reordering_seen = true;
    }
    if (resent) { // 6.2 step 2: the ACK may be for the original
        bool of_original = ack.has_echo && static_cast<std::int32_t>(time_us - ack.echo_end_us) >= 0;
        bool untold = !ack.has_echo && ack.min_rtt_us == 0; // as Linux: of any age it may be the original's
        if (of_original || untold || rtt < ack.min_rtt_us) {
            return;
        }
    }
    if (rtt_us == 0 || rack_sent_after(time_us, end, xmit_us, end_seq)) {
        xmit_us = time_us;
        end_seq = end;
    }
    rtt_us = rtt;
}

void Rack::saw_dsack(Seq una, Seq nxt)
{
    acked(una);
    if (in_dsack_round) {
        return;
    }
    in_dsack_round = true;
    dsack_round = nxt;
    reo_wnd_mult = std::min<std::uint8_t>(reo_wnd_mult, reo_wnd_mult_max - 1) + 1;
    reo_wnd_persist = reo_wnd_persist_recoveries;
}

void Rack::recovery_ended()
{
    if (reo_wnd_persist != 0) {
        --reo_wnd_persist;
    }
    if (reo_wnd_persist == 0) {
        reo_wnd_mult = 1;
    }
}

std::uint32_t Rack::reo_wnd_us(
    bool in_recovery, bool many_sacked, std::uint32_t min_rtt_us, std::uint32_t srtt_us) const
{
    // 6.2 step 4: without a sign of reordering, what the classic threshold would call lost is lost at once
    if (!reordering_seen && (in_recovery || many_sacked)) {
        return 0;
    }
    auto window = static_cast<std::uint64_t>(reo_wnd_mult) * min_rtt_us / 4;
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(window, srtt_us));
}

} // namespace protocols::tcp
