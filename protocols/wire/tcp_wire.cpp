// See tcp_wire.hpp.
#include "protocols/wire/tcp_wire.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/check.hpp"
#include "base/endian.hpp"

namespace protocols::wire {

namespace {

constexpr unsigned char kind_end = 0;
constexpr unsigned char kind_nop = 1;
constexpr unsigned char kind_mss = 2;
constexpr unsigned char kind_scale = 3;
constexpr unsigned char kind_sack_permitted = 4;
constexpr unsigned char kind_sack = 5;
constexpr unsigned char kind_timestamp = 8;
constexpr unsigned char kind_fastopen = 34;
constexpr std::uint32_t timestamp_alone = 0x0101080a; // nop, nop, timestamps: RFC 7323 appendix A

void take_sack(const unsigned char* p, unsigned length, TcpOptions& o)
{
    unsigned blocks = std::min((length - 2) / 8, tcp_sack_blocks_max);
    for (unsigned i = 0; i < blocks; ++i) {
        o.sack[i] = {base::Seq{base::load_be32(p + 2 + i * 8)}, base::Seq{base::load_be32(p + 6 + i * 8)}};
    }
    o.sack_count = static_cast<std::uint8_t>(blocks);
}

// RFC 7413 4.1.1: a length that no cookie has makes it no option.
void take_cookie(const unsigned char* p, unsigned bytes, TcpOptions& o)
{
    bool request = bytes == 0;
    if (request || (bytes >= tcp_cookie_min_bytes && bytes <= tcp_cookie_max_bytes && bytes % 2 == 0)) {
        o.cookie = p + 2;
        o.cookie_bytes = static_cast<std::uint8_t>(bytes);
    }
}

// RFC 9768 3.2.3: as many whole fields as fit, what is left is padding.
void take_accecn(const unsigned char* p, unsigned length, AccEcnOption& o)
{
    o.kind = p[0];
    o.fields = static_cast<std::uint8_t>(std::min((length - 2) / 3, tcp_accecn_fields_max));
    for (unsigned i = 0; i < o.fields; ++i) {
        const unsigned char* field = p + 2 + 3 * i;
        o.value[i] = std::uint32_t{field[0]} << 16 | base::load_be16(field + 1);
    }
}

// One option of known kind and length >= 2; unknown ones and wrong lengths are skipped (RFC 9293 3.1, MUST-6).
void take_option(const unsigned char* p, unsigned length, bool syn, TcpOptions& o)
{
    switch (p[0]) {
    case kind_mss: // RFC 9293 3.7.1 (MUST-65): only valid in a SYN
        if (length == 4 && syn) {
            o.mss = base::load_be16(p + 2);
        }
        break;
    case kind_scale:
        if (length == 3 && syn) {
            o.has_scale = true;
            o.scale = std::min(p[2], tcp_scale_max);
        }
        break;
    case kind_sack_permitted:
        if (length == 2 && syn) {
            o.sack_permitted = true;
        }
        break;
    case kind_sack:
        if (length >= 10 && (length - 2) % 8 == 0) {
            take_sack(p, length, o);
        }
        break;
    case kind_timestamp:
        if (length == 10) {
            o.has_timestamp = true;
            o.ts_val = base::load_be32(p + 2);
            o.ts_ecr = base::load_be32(p + 6);
        }
        break;
    case kind_fastopen:
        if (syn) {
            take_cookie(p, length - 2, o);
        }
        break;
    case tcp_kind_accecn0:
    case tcp_kind_accecn1:
        take_accecn(p, length, o.accecn);
        break;
    default:
        break;
    }
}

void parse_options(const unsigned char* p, unsigned size, bool syn, TcpOptions& o)
{
    if (size == 12 && base::load_be32(p) == timestamp_alone) { // what the loop would find in nearly every segment
        o.has_timestamp = true;
        o.ts_val = base::load_be32(p + 4);
        o.ts_ecr = base::load_be32(p + 8);
        return;
    }
    unsigned at = 0;
    while (at < size && p[at] != kind_end) {
        if (p[at] == kind_nop) {
            ++at;
            continue;
        }
        if (size - at < 2) {
            return;
        }
        unsigned length = p[at + 1];
        if (length < 2 || length > size - at) {
            return;
        }
        take_option(p + at, length, syn, o);
        at += length;
    }
}

// Writes options and keeps count; the caller knows that they fit.
class OptionWriter {
public:
    explicit OptionWriter(unsigned char* at) : start_(at), at_(at) {}
    void nops(unsigned n)
    {
        while (n-- != 0) {
            *at_++ = kind_nop;
        }
    }
    void head(unsigned char kind, unsigned length)
    {
        *at_++ = kind;
        *at_++ = static_cast<unsigned char>(length);
    }
    void u8(unsigned char v) { *at_++ = v; }
    void u16(std::uint16_t v)
    {
        base::store_be16(at_, v);
        at_ += 2;
    }
    void u32(std::uint32_t v)
    {
        base::store_be32(at_, v);
        at_ += 4;
    }
    void copy(const unsigned char* from, unsigned n)
    {
        std::memcpy(at_, from, n);
        at_ += n;
    }
    std::uint32_t bytes() const { return static_cast<std::uint32_t>(at_ - start_); }

private:
    unsigned char* start_;
    unsigned char* at_;
};

void emit_timestamp(const TcpOptions& o, OptionWriter& w)
{
    w.head(kind_timestamp, 10);
    w.u32(o.ts_val);
    w.u32(o.ts_ecr);
}

void emit_accecn(const AccEcnOption& o, OptionWriter& w)
{
    if (o.kind == 0) {
        return;
    }
    unsigned bytes = 2U + 3U * o.fields;
    w.head(o.kind, bytes);
    for (unsigned i = 0; i < o.fields; ++i) {
        w.u8(static_cast<unsigned char>(o.value[i] >> 16));
        w.u16(static_cast<std::uint16_t>(o.value[i]));
    }
    w.nops(o.bytes() - bytes);
}

void emit_syn_options(const TcpOptions& o, OptionWriter& w)
{
    if (o.mss != 0) {
        w.head(kind_mss, 4);
        w.u16(o.mss);
    }
    if (o.sack_permitted != o.has_timestamp) {
        w.nops(2);
    }
    if (o.sack_permitted) {
        w.head(kind_sack_permitted, 2);
    }
    if (o.has_timestamp) {
        emit_timestamp(o, w);
    }
    if (o.has_scale) {
        w.nops(1);
        w.head(kind_scale, 3);
        w.u8(o.scale);
    }
    if (o.cookie != nullptr) {
        w.head(kind_fastopen, 2U + o.cookie_bytes);
        w.copy(o.cookie, o.cookie_bytes);
        w.nops((4U - (2U + o.cookie_bytes) % 4U) % 4U);
    }
    emit_accecn(o.accecn, w);
}

void emit_options(const TcpOptions& o, OptionWriter& w)
{
    if (o.has_timestamp) {
        w.u32(timestamp_alone);
        w.u32(o.ts_val);
        w.u32(o.ts_ecr);
    }
    emit_accecn(o.accecn, w);
    if (o.sack_count != 0) {
        w.nops(2);
        w.head(kind_sack, 2U + o.sack_count * 8U);
        for (unsigned i = 0; i < o.sack_count; ++i) {
            w.u32(o.sack[i].start.raw());
            w.u32(o.sack[i].end.raw());
        }
    }
}

[[gnu::noinline]] void emit_other_options(const TcpHeader& h, unsigned char* to, std::uint32_t bytes)
{
    OptionWriter w(to);
    if (h.has(tcp_syn)) {
        emit_syn_options(h.options, w);
    } else {
        emit_options(h.options, w);
    }
    INVARIANT(w.bytes() == bytes);
}

} // namespace

bool tcp_parse(const void* data, std::size_t size, TcpHeader& out)
{
    if (size < tcp_header_min_bytes) {
        return false;
    }
    const auto* p = static_cast<const unsigned char*>(data);
    unsigned header_bytes = (p[12] >> 4) * 4U;
    if (header_bytes < tcp_header_min_bytes || header_bytes > size) {
        return false;
    }
    out.source_port = base::load_be16(p);
    out.destination_port = base::load_be16(p + 2);
    out.seq = base::Seq{base::load_be32(p + 4)};
    out.ack = base::Seq{base::load_be32(p + 8)};
    out.header_bytes = static_cast<std::uint8_t>(header_bytes);
    out.flags = base::load_be16(p + 12) & 0x1ff;
    out.window = base::load_be16(p + 14);
    out.urgent = base::load_be16(p + 18);
    std::construct_at(&out.options); // no copy of what is not initialised
    parse_options(p + tcp_header_min_bytes, header_bytes - tcp_header_min_bytes, out.has(tcp_syn), out.options);
    return true;
}

std::uint32_t tcp_emit_bytes(const TcpHeader& h)
{
    const TcpOptions& o = h.options;
    std::uint32_t bytes = tcp_header_min_bytes + o.accecn.bytes();
    if (h.has(tcp_syn)) {
        bytes += (o.mss != 0 ? 4U : 0U) +
                 (o.has_timestamp       ? 12U
                     : o.sack_permitted ? 4U
                                        : 0U) +
                 (o.has_scale ? 4U : 0U) + (o.cookie != nullptr ? (2U + o.cookie_bytes + 3U) / 4U * 4U : 0U);
    } else {
        bytes += (o.has_timestamp ? 12U : 0U) + (o.sack_count != 0 ? 4U + o.sack_count * 8U : 0U);
    }
    return bytes;
}

std::uint32_t tcp_emit(const TcpHeader& h, void* to)
{
    std::uint32_t bytes = tcp_emit_bytes(h);
    tcp_emit(h, to, bytes);
    return bytes;
}

void tcp_emit(const TcpHeader& h, void* to, std::uint32_t bytes)
{
    INVARIANT(bytes <= tcp_header_max_bytes);
    auto* p = static_cast<unsigned char*>(to);
    base::store_be16(p, h.source_port);
    base::store_be16(p + 2, h.destination_port);
    base::store_be32(p + 4, h.seq.raw());
    base::store_be32(p + 8, h.ack.raw());
    base::store_be16(p + 12, static_cast<std::uint16_t>((bytes / 4) << 12 | h.flags));
    base::store_be16(p + 14, h.window);
    base::store_be16(p + 16, 0);
    base::store_be16(p + 18, h.urgent);
    if (bytes == tcp_header_min_bytes + 12 && !h.has(tcp_syn) && h.options.has_timestamp) { // nearly every segment
        base::store_be32(p + tcp_header_min_bytes, timestamp_alone);
        base::store_be32(p + tcp_header_min_bytes + 4, h.options.ts_val);
        base::store_be32(p + tcp_header_min_bytes + 8, h.options.ts_ecr);
        return;
    }
    emit_other_options(h, p + tcp_header_min_bytes, bytes - tcp_header_min_bytes);
}

} // namespace protocols::wire
