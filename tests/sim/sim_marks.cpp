#include "tests/sim/sim_marks.hpp"

#include <cstring>
#include <string>

#include "base/endian.hpp"
#include "tests/sim/sim_world.hpp"

namespace sim {

namespace {

namespace wire = protocols::wire;

constexpr unsigned unechoed_max = 16; // what was marked may have been dropped behind the wire, and sent again
constexpr unsigned unanswered_max = 64;
constexpr unsigned windows_max = 3;            // one that a loss or a mark has reduced already is not reduced again
constexpr std::uint16_t ephemeral_low = 32768; // services have ports below

std::int32_t after(std::uint32_t a, std::uint32_t b)
{
    return static_cast<std::int32_t>(a - b);
}

} // namespace

FlowKey Marks::key_of(const Frame& p, bool reverse)
{
    FlowKey key{};
    std::uint32_t last = p.is_tcp() ? std::uint32_t{p.tcp.source_port} << 16 | p.tcp.destination_port : p.id;
    if (reverse) {
        last = last << 16 | last >> 16;
    }
    std::memcpy(key.data(), (reverse ? p.destination : p.source).bytes(), 16);
    std::memcpy(key.data() + 16, (reverse ? p.source : p.destination).bytes(), 16);
    std::memcpy(key.data() + 32, &last, sizeof last);
    return key;
}

void Marks::segment_sent(const Frame& p, bool off)
{
    bool opens = p.tcp.has(wire::tcp_syn);
    if (opens || p.tcp.has(wire::tcp_rst)) {
        flows_.erase(key_of(p, false));
        flows_.erase(key_of(p, true));
    }
    if (off && (p.ecn != 0 || p.tcp.has(wire::tcp_ace))) {
        world_.violation("a stack with ECN switched off sends " + base::to_string(p.source) + " ECN");
    }
    if (!accurate_.sent(p, key_of(p, false), key_of(p, true)) || opens || p.tcp.has(wire::tcp_rst)) {
        return;
    }
    if (auto theirs = flows_.find(key_of(p, true)); theirs != flows_.end() && p.tcp.has(wire::tcp_ack)) {
        Flow& f = theirs->second;
        if (p.tcp.has(wire::tcp_ece)) {
            ++echoes_;
            f.unechoed = 0;
            f.marked = false;
        } else if (f.marked && after(p.tcp.ack.raw(), f.marked_end) >= 0) {
            f.marked = false;
            if (++f.unechoed >= unechoed_max) {
                world_.violation("text to " + base::to_string(p.source) + " is marked, and the mark is not echoed");
            }
        }
    }
    Flow& mine = flows_[key_of(p, false)];
    std::uint32_t end = p.tcp.seq.raw() + p.text();
    bool new_text = p.text() != 0 && (!mine.known || after(end, mine.sent_end) > 0);
    if (p.tcp.has(wire::tcp_cwr)) {
        mine.told = false;
        mine.unanswered = mine.windows = 0;
    } else if (mine.told && new_text && ++mine.unanswered >= unanswered_max && mine.windows >= windows_max &&
               world_.config().loses_nothing) {
        world_.violation("the sender at " + base::to_string(p.source) + " is told of marks and does not answer");
    }
    if (new_text) {
        mine.known = true;
        mine.sent_end = end;
    }
}

void Marks::take_echo(Flow& f, const Frame& p)
{
    if (!p.tcp.has(wire::tcp_ece)) {
        f.told = false;
        f.unanswered = f.windows = 0;
        return;
    }
    if (!f.told || after(p.tcp.ack.raw(), f.window_end) > 0) {
        f.windows += f.told ? 1 : 0;
        f.window_end = f.sent_end;
    }
    f.told = true;
}

void Marks::segment_taken(const Frame& p)
{
    if (!accurate_.taken(p, key_of(p, false), key_of(p, true)) || p.tcp.has(wire::tcp_syn) ||
        p.tcp.has(wire::tcp_rst)) {
        return;
    }
    Flow& theirs = flows_[key_of(p, false)];
    if (p.text() != 0 && p.ecn == ecn_ce) {
        theirs.marked = true;
        theirs.marked_end = p.tcp.seq.raw() + p.text();
    } else if (p.tcp.has(wire::tcp_cwr)) {
        theirs.marked = false; // the echo ends
    }
    if (auto mine = flows_.find(key_of(p, true)); mine != flows_.end() && p.tcp.has(wire::tcp_ack)) {
        take_echo(mine->second, p);
    }
}

void Marks::fragment_taken(const Frame& p)
{
    Datagram whole;
    Datagram& d = p.fragment ? datagrams_[key_of(p, false)] : whole;
    d.marked |= p.ecn == ecn_ce;
    if (p.offset == 0) {
        Name name{0, 0, base::load_be16(p.start + 2) < ephemeral_low ? 1U : 0U};
        std::memcpy(name.data(), p.start + Frame::udp_header, 16);
        if (d.named && d.name != name) {
            unsure_.insert(name);
        }
        d.named = true;
        d.name = name;
    }
    if (d.marked && d.named) {
        marked_datagrams_.insert(d.name);
    }
}

void Marks::sent(const Frame& p, bool off)
{
    if (p.is_tcp()) {
        segment_sent(p, off);
    }
}

void Marks::taken(const Frame& p)
{
    if (p.is_tcp()) {
        segment_taken(p);
    } else if (p.is_datagram()) {
        fragment_taken(p);
    }
}

} // namespace sim
