// Spurious retransmissions: F-RTO (RFC 5682, with the SACK of its section 3), Eifel detection by timestamps (RFC 3522)
// and D-SACK (RFC 3708). Pure: notes what a reduction was based on, and says when that turned out wrong; restoring is
// congestion control's (RFC 4015, RFC 9438 4.9). Owner: that of its Tcb.
#pragma once

#include <cstdint>

#include "base/seq.hpp"

namespace protocols::tcp {

using base::Seq;

enum class Frto : std::uint8_t { off, wait_first, wait_second };
enum class FrtoVerdict : std::uint8_t { nothing, spurious, send_new, conventional };

struct Undo {
    bool armed = false;      // a reduction may be taken back
    bool eifel_open = false; // no ACK has advanced una since the first retransmission (RFC 3522 3.2 step 5)
    bool has_stamp = false;
    Frto frto = Frto::off;
    std::uint32_t stamp = 0;  // our timestamp in the first retransmission
    std::uint32_t octets = 0; // retransmitted, and no D-SACK for them yet
    Seq high;                 // what was retransmitted lies below
    bool expiring = false;    // recovery is over; D-SACKs may still come until
    Seq expires;              // ... this is acknowledged

    void begin(Seq nxt)
    {
        *this = {};
        armed = true;
        high = nxt;
    }
    void end() { *this = {}; }
    void expire_at(Seq nxt)
    {
        expiring = true;
        expires = nxt;
        frto = Frto::off;
    }
    void retransmitted(std::uint32_t len, bool timestamps, std::uint32_t now_stamp)
    {
        if (!armed) {
            return;
        }
        octets += len;
        if (timestamps && !has_stamp) {
            has_stamp = eifel_open = true;
            stamp = now_stamp;
        }
    }
    // RFC 3522 3.2 step 5: the first ACK of something new echoes a timestamp older than the retransmission's.
    bool eifel(std::uint32_t echo)
    {
        bool open = armed && eifel_open;
        eifel_open = false;
        return open && static_cast<std::int32_t>(echo - stamp) < 0;
    }
    // RFC 3708: every retransmission was reported as a duplicate.
    bool dsack(Seq start, Seq end)
    {
        if (!armed || octets == 0 || end > high) {
            return false;
        }
        auto len = static_cast<std::uint32_t>(end - start);
        octets -= len < octets ? len : octets;
        return octets == 0;
    }
    // RFC 5682 2.1 (3 with SACK), after a timeout. `advanced`: una moved and the recovery point is not reached;
    // `original`: text that was never retransmitted, sent before the timeout, was delivered; `duplicate`: a duplicate
    // ACK or fresh SACKs; `can_send_new`: text and window are there.
    FrtoVerdict frto_ack(bool advanced, bool original, bool duplicate, bool can_send_new)
    {
        if (frto == Frto::off) {
            return FrtoVerdict::nothing;
        }
        if (original) { // 3 b
            frto = Frto::off;
            return FrtoVerdict::spurious;
        }
        if (frto == Frto::wait_first && advanced && can_send_new) { // 2 b
            frto = Frto::wait_second;
            return FrtoVerdict::send_new;
        }
        if (frto == Frto::wait_second && !duplicate) {
            return FrtoVerdict::nothing;
        }
        if (frto == Frto::wait_first && !advanced && !duplicate) {
            return FrtoVerdict::nothing;
        }
        frto = Frto::off; // 2 a, 3 a
        return FrtoVerdict::conventional;
    }
};

} // namespace protocols::tcp
