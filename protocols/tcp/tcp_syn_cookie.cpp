// SYN cookies (RFC 4987 3.6; the layout is D. J. Bernstein's with Linux's idea of options in the timestamp): the ISN is
// a keyed hash of the flow, the peer's ISN and the minute, plus an index into a table of MSS values. Window scale and
// SACK live in the low bits of our timestamp, so they survive only where the peer uses timestamps; that the feedback of
// ECN is the accurate one the ACK itself says (RFC 9768 5.1). Pure but for the domain's key and clock.
#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

namespace {

constexpr std::uint16_t mss_table[8] = {536, 800, 1024, 1300, 1400, 1440, 1460, 8960};
constexpr std::uint32_t index_bits = 3;
constexpr std::uint32_t index_mask = (1U << index_bits) - 1;
constexpr std::uint32_t option_bits = 6; // of the timestamp: scale (4, 15 = none), SACK (1), classic ECN (1)
constexpr std::uint32_t option_mask = (1U << option_bits) - 1;
constexpr std::uint32_t no_scale = 15;

std::uint32_t period(base::Instant now)
{
    return static_cast<std::uint32_t>(now.time_since_epoch().count() / cookie_period.count());
}

std::uint32_t mac(const TcpState& s, const base::FourTuple& flow, Seq irs, std::uint32_t when)
{
    struct {
        base::FourTuple flow;
        std::uint32_t irs;
        std::uint32_t when;
    } input{flow, irs.raw(), when};
    static_assert(sizeof input == 44, "hashed as bytes: no padding");
    return static_cast<std::uint32_t>(base::siphash(s.cookie_key, &input, sizeof input)) & ~index_mask;
}

} // namespace

Cookie make_cookie(TcpState& s, const Segment& syn, const Negotiated& n)
{
    std::uint32_t peer = n.peer_mss != 0 ? n.peer_mss : mss_default;
    std::uint32_t index = 0;
    while (index < index_mask && mss_table[index + 1] <= peer) {
        ++index;
    }
    base::Instant now = s.domain.now();
    Cookie c;
    c.iss = Seq{mac(s, syn.flow, syn.seq, period(now)) | index};
    std::uint32_t options = (n.scale ? std::min<std::uint32_t>(n.snd_scale, wire::tcp_scale_max) : no_scale) |
                            (n.sack ? 16U : 0U) | (n.ecn == EcnMode::classic ? 32U : 0U);
    std::uint32_t ticks = timestamp_now(now, 0);
    std::uint32_t marked = (ticks & ~option_mask) | options;
    if (marked > ticks) { // never ahead of our clock
        marked -= 1U << option_bits;
    }
    c.ts_val = marked + timestamp_offset(s, syn.flow);
    return c;
}

bool open_cookie(TcpState& s, const SocketOptions& listener, const Segment& ack, Negotiated& n)
{
    std::uint32_t iss = ack.ack().raw() - 1;
    std::uint32_t now = period(s.domain.now());
    Seq irs = ack.header.seq - 1;
    bool genuine = false;
    for (std::uint32_t age = 0; age * cookie_period <= cookie_life; ++age) {
        genuine |= mac(s, ack.flow, irs, now - age) == (iss & ~index_mask);
    }
    if (!genuine) {
        count(s.counters.cookies_bad);
        return false;
    }
    n.peer_mss = mss_table[iss & index_mask];
    const wire::TcpOptions& o = ack.header.options;
    Negotiated ours = offer(s.domain, listener);
    if (o.has_timestamp && ours.timestamps) { // perhaps of another one: never more than we would have agreed to
        std::uint32_t options = (o.ts_ecr - timestamp_offset(s, ack.flow)) & option_mask;
        n.timestamps = true;
        n.sack = ours.sack && (options & 16U) != 0;
        n.ecn = accepts_ecn(s.domain, listener) && (options & 32U) != 0 ? EcnMode::classic : EcnMode::none;
        n.scale = ours.scale && (options & 15U) != no_scale;
        n.snd_scale = n.scale ? static_cast<std::uint8_t>(options & 15U) : 0;
        n.rcv_scale = n.scale ? default_rcv_scale : 0;
    }
    if (accepts_accurate_ecn(s.domain) && ack.header.ace() >= ace_not_ect) { // RFC 9768 5.1
        n.ecn = EcnMode::accurate;
    }
    count(s.counters.cookies_valid);
    return true;
}

} // namespace protocols::tcp
