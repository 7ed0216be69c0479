// See script_wire.hpp.
#include "tests/tcp/script_wire.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <sstream>

#include "base/endian.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/ipv6.hpp"
#include "tests/family.hpp"

namespace tcp_test {

namespace wire = protocols::wire;
using base::IpAddr;

ScriptNetif::ScriptNetif(std::uint32_t mtu, std::uint32_t tso_max_bytes, std::uint32_t gso_max_bytes, bool gro)
    : Netif(netmsg::NetifInfo{})
{
    info_.name = "script";
    info_.mtu = mtu;
    info_.ethernet = false;
    info_.tso_max_bytes = tso_max_bytes;
    info_.gso_max_bytes = gso_max_bytes;
    info_.gro = gro;
}

bool ScriptNetif::attach(
    lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string&)
{
    pool_ = &pool;
    input_ = input;
    context_ = context;
    counters_ = std::make_unique<netmsg::NetifCounters[]>(set.size());
    return true;
}

void ScriptNetif::transmit(netmsg::Packet& p)
{
    Captured c;
    c.at = lwkt::Cpu::current()->now();
    c.bytes.resize(p.total());
    p.copy_out(0, c.bytes.data(), p.total());
    sent.push_back(std::move(c));
    p.free();
}

void ScriptNetif::inject(const std::vector<unsigned char>& bytes)
{
    netmsg::Packet* p = pool_->allocate();
    std::size_t linear = std::min<std::size_t>(bytes.size(), p->tailroom());
    std::memcpy(p->put(static_cast<std::uint32_t>(linear)), bytes.data(), linear);
    if (linear < bytes.size()) { // longer than a frame, as from fragments
        if (!pool_->add_large(*p)) {
            p->free();
            return;
        }
        std::memcpy(p->large->bytes, bytes.data() + linear, bytes.size() - linear);
        p->add_piece(p->large->bytes, bytes.size() - linear);
    }
    p->netif = this;
    p->stamp = lwkt::Cpu::current()->now();
    input_(context_, *p);
}

namespace {

constexpr std::pair<char, std::uint16_t> flag_letters[] = {{'S', wire::tcp_syn}, {'F', wire::tcp_fin},
    {'R', wire::tcp_rst}, {'P', wire::tcp_psh}, {'U', wire::tcp_urg}, {'E', wire::tcp_ece}, {'W', wire::tcp_cwr},
    {'A', wire::tcp_ae}, {'.', wire::tcp_ack}};

std::string flags_text(std::uint16_t flags)
{
    std::string s;
    for (auto [letter, bit] : flag_letters) {
        if ((flags & bit) != 0) {
            s += letter;
        }
    }
    return s.empty() ? "-" : s;
}

std::string hex(const unsigned char* p, std::size_t size)
{
    std::string s;
    char text[3];
    for (std::size_t i = 0; i < size; ++i) {
        std::snprintf(text, sizeof text, "%02x", p[i]);
        s += text;
    }
    return s;
}

void emit_cookie(const std::string& text, std::vector<unsigned char>& out)
{
    out.insert(out.end(), {34, static_cast<unsigned char>(2 + text.size() / 2)});
    for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
        out.push_back(static_cast<unsigned char>(std::stoul(text.substr(i, 2), nullptr, 16)));
    }
}

std::string options_text(const unsigned char* p, unsigned size, const Numbering& n)
{
    std::string s;
    unsigned at = 0;
    char text[64];
    while (at < size && p[at] != 0) {
        if (!s.empty()) {
            s += ',';
        }
        if (p[at] == 1) {
            s += "nop";
            ++at;
            continue;
        }
        switch (p[at]) {
        case 2:
            s += "mss " + std::to_string(base::load_be16(p + at + 2));
            break;
        case 3:
            s += "wscale " + std::to_string(p[at + 2]);
            break;
        case 4:
            s += "sackOK";
            break;
        case 5:
            s += "sack";
            for (unsigned b = at + 2; b < at + p[at + 1]; b += 8) {
                std::snprintf(text, sizeof text, " %u:%u", base::load_be32(p + b) - n.theirs,
                    base::load_be32(p + b + 4) - n.theirs);
                s += text;
            }
            break;
        case 8:
            std::snprintf(
                text, sizeof text, "TS %u %u", base::load_be32(p + at + 2) - n.our_clock, base::load_be32(p + at + 6));
            s += text;
            break;
        case 34: {
            std::string cookie = hex(p + at + 2, p[at + 1] - 2U);
            s += cookie.empty() ? "FO" : cookie == n.cookie ? "FO cookie" : "FO " + cookie;
            break;
        }
        case wire::tcp_kind_accecn0:
        case wire::tcp_kind_accecn1:
            s += p[at] == wire::tcp_kind_accecn0 ? "accecn0" : "accecn1";
            for (unsigned f = at + 2; f + 3 <= at + p[at + 1]; f += 3) {
                s += ' ' + std::to_string(p[f] << 16 | base::load_be16(p + f + 1));
            }
            break;
        default:
            s += "?";
        }
        at += p[at + 1];
    }
    return s;
}

// "mss 1460,sackOK,TS 100 0,nop,wscale 7,sack 1:2 3:4" as bytes. The echo in TS is relative to our first value.
bool emit_options(const std::string& text, const Numbering& n, std::vector<unsigned char>& out)
{
    auto u32 = [&out](std::uint32_t v) {
        out.resize(out.size() + 4);
        base::store_be32(out.data() + out.size() - 4, v);
    };
    std::stringstream list(text);
    std::string item;
    while (std::getline(list, item, ',')) {
        std::stringstream words(item);
        std::string name;
        std::uint32_t v = 0;
        std::uint32_t w = 0;
        words >> name;
        if (name == "nop") {
            out.push_back(1);
        } else if (name == "eol") {
            out.push_back(0);
        } else if (name == "mss") {
            words >> v;
            out.insert(out.end(), {2, 4, static_cast<unsigned char>(v >> 8), static_cast<unsigned char>(v)});
        } else if (name == "wscale") {
            words >> v;
            out.insert(out.end(), {3, 3, static_cast<unsigned char>(v)});
        } else if (name == "sackOK") {
            out.insert(out.end(), {4, 2});
        } else if (name == "TS") {
            words >> v >> w;
            out.insert(out.end(), {8, 10});
            u32(v);
            u32(w + n.our_clock);
        } else if (name == "sack") {
            std::size_t at = out.size();
            out.insert(out.end(), {5, 2});
            char colon = 0;
            while (words >> v >> colon >> w) {
                u32(v + n.ours);
                u32(w + n.ours);
                out[at + 1] = static_cast<unsigned char>(out[at + 1] + 8);
            }
        } else if (name == "FO") { // alone: a request
            words >> name;
            emit_cookie(name == "FO" ? "" : name == "cookie" ? n.cookie : name, out);
        } else if (name == "accecn0" || name == "accecn1") { // octets by mark, in the order of the kind
            std::size_t at = out.size();
            out.insert(out.end(), {name == "accecn0" ? wire::tcp_kind_accecn0 : wire::tcp_kind_accecn1, 2});
            while (words >> v) {
                out.insert(out.end(), {static_cast<unsigned char>(v >> 16), static_cast<unsigned char>(v >> 8),
                                          static_cast<unsigned char>(v)});
                out[at + 1] = static_cast<unsigned char>(out[at + 1] + 3);
            }
        } else if (name == "raw") {
            while (words >> v) {
                out.push_back(static_cast<unsigned char>(v));
            }
        } else {
            return false;
        }
        words.clear();
        if (words >> name) { // a word too many
            return false;
        }
    }
    while (out.size() % 4 != 0) {
        out.push_back(0);
    }
    return out.size() <= 40;
}

} // namespace

bool parse_segment(const std::string& text, ScriptSegment& out, std::string& error)
{
    std::string head = text;
    if (auto open = text.find('<'); open != std::string::npos) {
        auto shut = text.find('>', open);
        if (shut == std::string::npos) {
            error = "no '>'";
            return false;
        }
        if (text.find_first_not_of(' ', shut + 1) != std::string::npos) {
            error = "after the options stands '" + text.substr(shut + 1) + "'";
            return false;
        }
        out.options = text.substr(open + 1, shut - open - 1);
        head = text.substr(0, open);
    }
    std::stringstream words(head);
    std::string range;
    words >> out.flags >> range;
    if (out.flags.find_first_not_of("SFRPUEWA.-") != std::string::npos) {
        error = "no such flags: " + out.flags;
        return false;
    }
    std::uint32_t end = 0;
    if (std::sscanf(range.c_str(), "%u:%u(%u)", &out.seq, &end, &out.len) != 3 || end - out.seq != out.len) {
        error = "a range is SEQ:END(LEN), not '" + range + "'";
        return false;
    }
    std::string word;
    while (words >> word) {
        std::uint32_t v = 0;
        if (!(words >> v)) {
            error = word + " needs a number";
            return false;
        }
        if (word == "ack") {
            out.ack = v;
        } else if (word == "win") {
            out.win = v;
        } else if (word == "tos") {
            out.tos = static_cast<std::uint8_t>(v);
        } else if (word == "urg") {
            out.urg = static_cast<std::uint16_t>(v);
        } else {
            error = "unknown word " + word;
            return false;
        }
    }
    return true;
}

base::IpAddr script_local()
{
    return test::over_v6() ? base::parse_ip("fd00::1").value() : IpAddr::v4(0xc0a80001);
}

base::IpAddr script_peer()
{
    return test::over_v6() ? base::parse_ip("fd00::2").value() : IpAddr::v4(0xc0a80002);
}

std::uint32_t script_ip_bytes()
{
    return test::over_v6() ? wire::ipv6_header_bytes : 20;
}

namespace {

// From the peer, the whole of `b` long.
void put_ip_header(std::vector<unsigned char>& b, std::uint8_t tos)
{
    if (test::over_v6()) {
        wire::Ipv6Header h;
        h.traffic_class = tos;
        h.payload_bytes = static_cast<std::uint16_t>(b.size() - wire::ipv6_header_bytes);
        h.next_header = 6;
        h.hop_limit = 64;
        h.source = script_peer();
        h.destination = script_local();
        wire::emit_ipv6(b.data(), h);
        return;
    }
    b[0] = 0x45;
    b[1] = tos;
    base::store_be16(&b[2], static_cast<std::uint16_t>(b.size()));
    b[6] = 0x40;
    b[8] = 64;
    b[9] = 6;
    base::store_be32(&b[12], script_peer().v4());
    base::store_be32(&b[16], script_local().v4());
    base::store_be16(&b[10], wire::checksum(b.data(), 20));
}

// Is it a sound header from us to the peer around all of `b`?
bool check_ip_header(const unsigned char* b, std::size_t size)
{
    if (!test::over_v6()) {
        return size >= 40 && b[0] == 0x45 && base::load_be16(b + 2) == size && wire::checksum(b, 20) == 0 &&
               base::load_be32(b + 12) == script_local().v4() && base::load_be32(b + 16) == script_peer().v4();
    }
    wire::Ipv6Fault fault{};
    auto h = wire::parse_ipv6(b, static_cast<std::uint32_t>(size), static_cast<std::uint32_t>(size), fault);
    return size >= 60 && h && h->total_bytes() == size && h->next_header == 6 && h->flow_label != 0 &&
           h->source == script_local() && h->destination == script_peer();
}

} // namespace

std::vector<unsigned char> build_packet(const ScriptSegment& s, const Numbering& n, std::string& error)
{
    std::vector<unsigned char> options;
    if (s.options && !emit_options(*s.options, n, options)) {
        error = "bad options";
        return {};
    }
    std::uint16_t flags = 0;
    for (char c : s.flags) {
        for (auto [letter, bit] : flag_letters) {
            flags = static_cast<std::uint16_t>(flags | (letter == c ? bit : 0));
        }
    }
    std::size_t header = 20 + options.size();
    std::size_t total = script_ip_bytes() + header + s.len;
    std::vector<unsigned char> b(total);
    put_ip_header(b, s.tos.value_or(0));
    unsigned char* t = &b[script_ip_bytes()];
    base::store_be16(t, script_peer_port);
    base::store_be16(t + 2, script_local_port);
    base::store_be32(t + 4, s.seq + n.theirs);
    base::store_be32(t + 8, s.ack ? *s.ack + n.ours : 0);
    base::store_be16(t + 12, static_cast<std::uint16_t>(header / 4 << 12 | flags));
    base::store_be16(t + 14, static_cast<std::uint16_t>(s.win.value_or(65535)));
    base::store_be16(t + 18, s.urg.value_or(0));
    std::copy(options.begin(), options.end(), t + 20);
    for (std::uint32_t i = 0; i < s.len; ++i) {
        t[header + i] = static_cast<unsigned char>(s.seq + i);
    }
    wire::Checksum sum =
        wire::pseudo_header(script_peer(), script_local(), 6, static_cast<std::uint32_t>(header + s.len));
    sum.add(t, header + s.len);
    base::store_be16(t + 16, sum.finish());
    return b;
}

namespace {

struct Decoded {
    wire::TcpHeader h;
    std::uint32_t len = 0;
    std::string options;
    bool sound = false; // lengths, addresses, checksums
};

Decoded decode(const Captured& c, const Numbering& n)
{
    Decoded d;
    const unsigned char* b = c.bytes.data();
    std::size_t size = c.bytes.size();
    if (!check_ip_header(b, size)) {
        return d;
    }
    b += script_ip_bytes();
    size -= script_ip_bytes();
    if (!wire::tcp_parse(b, size, d.h)) {
        return d;
    }
    wire::Checksum sum = wire::pseudo_header(script_local(), script_peer(), 6, static_cast<std::uint32_t>(size));
    sum.add(b, size);
    d.len = static_cast<std::uint32_t>(size - d.h.header_bytes);
    d.options = options_text(b + 20, d.h.header_bytes - 20U, n);
    d.sound = sum.correct() && d.h.source_port == script_local_port && d.h.destination_port == script_peer_port;
    return d;
}

void learn(const Captured& c, Numbering& n)
{
    Decoded d = decode(c, n);
    if (d.sound && d.h.has(wire::tcp_syn) && !n.ours_known) {
        n.ours = d.h.seq.raw();
        n.ours_known = true;
    }
    const wire::TcpOptions& o = d.h.options;
    if (d.sound && d.h.has(wire::tcp_syn) && d.h.has(wire::tcp_ack) && o.cookie_bytes != 0) {
        n.cookie = hex(o.cookie, o.cookie_bytes);
    }
    if (d.sound && d.h.options.has_timestamp && !n.clock_known) {
        n.our_clock = d.h.options.ts_val;
        n.clock_known = true;
    }
}

} // namespace

namespace {

// RFC 8200 3: the traffic class lies across two octets.
unsigned tos_of(const Captured& c)
{
    return test::over_v6() ? (c.bytes[0] & 0xfU) << 4 | c.bytes[1] >> 4 : c.bytes[1];
}

} // namespace

std::string describe_packet(const Captured& c, const Numbering& n)
{
    Decoded d = decode(c, n);
    if (d.h.header_bytes == 0) {
        return "a malformed packet of " + std::to_string(c.bytes.size()) + " bytes";
    }
    char text[160];
    std::uint32_t seq = d.h.has(wire::tcp_rst) && d.h.seq.raw() == 0 ? 0 : d.h.seq.raw() - n.ours;
    std::snprintf(text, sizeof text, "%s %u:%u(%u)", flags_text(d.h.flags).c_str(), seq, seq + d.len, d.len);
    std::string s = text;
    if (d.h.has(wire::tcp_ack)) {
        s += " ack " + std::to_string(d.h.ack.raw() - n.theirs);
    }
    s += " win " + std::to_string(d.h.window) + " <" + d.options + ">" + (d.sound ? "" : " (bad checksum or address)");
    return s + " tos " + std::to_string(tos_of(c));
}

std::string compare_packet(const Captured& got, const ScriptSegment& want, Numbering& n)
{
    learn(got, n);
    Decoded d = decode(got, n);
    std::uint32_t seq = d.h.has(wire::tcp_rst) && d.h.seq.raw() == 0 ? 0 : d.h.seq.raw() - n.ours;
    bool same = d.sound && (!want.tos || tos_of(got) == *want.tos) && flags_text(d.h.flags) == want.flags &&
                seq == want.seq && d.len == want.len && d.h.has(wire::tcp_ack) == want.ack.has_value() &&
                (!want.ack || d.h.ack.raw() - n.theirs == *want.ack) && (!want.win || d.h.window == *want.win) &&
                (!want.urg || d.h.urgent == *want.urg) && (!want.options || d.options == *want.options);
    return same ? "" : "sent " + describe_packet(got, n);
}

} // namespace tcp_test
