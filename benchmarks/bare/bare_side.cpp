#include "benchmarks/bare/bare_side.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "base/endian.hpp"
#include "base/internet_checksum.hpp"

namespace bench {

namespace {

enum Flags : std::uint8_t { fin = 1, syn = 2, ack_flag = 16 };

constexpr std::size_t ip_header = 20;
constexpr std::size_t segment_max = 1460;
constexpr unsigned segments_at_once = 44; // then the wire is emptied, which keeps them in the near caches
constexpr unsigned window_shift = 4;
constexpr std::uint32_t own_address = 0x7f000001;
constexpr std::uint32_t mine = 1; // any holder of a lock but nobody

// Uncontended always; a CAS to take, an exchange to leave, as sockbuf/side_lock.hpp.
class Held {
public:
    explicit Held(std::atomic<std::uint32_t>& word) : word_(word)
    {
        std::uint32_t free = 0;
        while (!word_.compare_exchange_strong(free, mine)) {
            free = 0;
        }
    }
    ~Held() { word_.exchange(0, std::memory_order_release); }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;

private:
    std::atomic<std::uint32_t>& word_;
};

base::Checksum pseudo_header(std::uint32_t source, std::uint32_t destination, std::size_t length)
{
    base::Checksum sum;
    sum.add32(source);
    sum.add32(destination);
    sum.add16(IPPROTO_TCP);
    sum.add16(static_cast<std::uint16_t>(length));
    return sum;
}

// The sequence number of byte `offset`: the SYN has 0.
std::uint32_t sequence_of(std::uint64_t offset)
{
    return static_cast<std::uint32_t>(offset) + 1;
}

} // namespace

BareSide::BareSide(const Plan& plan)
    // Bulk has a window of 512 KiB, as the others; messages one ring that holds one, side by side with its neighbours.
    : ring_bytes_(plan.bytes > 4096 ? 512 * 1024 : std::bit_ceil(2 * plan.bytes)),
      buckets_(std::bit_ceil(std::size_t{8} * plan.concurrency + 64))
{
}

// ---- Calls

BareSide::Socket BareSide::open(int)
{
    return {*this, new_end()};
}

BareSide::Socket BareSide::open_server(int type, unsigned worker)
{
    if (type != SOCK_STREAM) {
        give_up("datagrams", -EPROTONOSUPPORT);
    }
    Socket s = open(type);
    s.end()->listening = true;
    listeners_[static_cast<std::uint16_t>(first_port + worker)] = s.end();
    return s;
}

int BareSide::connect(Socket& s, unsigned destination, unsigned worker)
{
    BareEnd& e = *s.end();
    do {
        next_port_ = next_port_ == 65535 ? 16384 : static_cast<std::uint16_t>(next_port_ + 1);
        e.flow = {own_address, first_address + destination % addresses, next_port_,
            static_cast<std::uint16_t>(first_port + worker)};
    } while (find(e.flow) != nullptr);
    e.connecting = true;
    insert(e);
    emit(e, syn, 0, 0);
    return -EINPROGRESS;
}

int BareSide::accept(Socket& listener, Socket& out)
{
    auto& waiting = listener.end()->accepted;
    if (waiting.empty()) {
        return -EAGAIN;
    }
    out = {*this, *waiting.front()};
    waiting.pop_front();
    return 0;
}

ssize_t BareSide::send(BareEnd& e, const void* data, std::size_t size)
{
    Held lock(e.snd_lock);
    std::uint64_t at = e.snd_produced.load(std::memory_order_relaxed);
    std::size_t n = std::min<std::size_t>(size, ring_bytes_ - (at - e.snd_acked));
    if (n == 0) {
        return -EAGAIN;
    }
    e.snd.copy_in(at, data, n);
    e.snd_produced.store(at + n, std::memory_order_seq_cst);
    touch(e);
    return static_cast<ssize_t>(n);
}

ssize_t BareSide::recv(BareEnd& e, void* into, std::size_t size)
{
    Held lock(e.rcv_lock);
    std::uint64_t at = e.rcv_consumed.load(std::memory_order_relaxed);
    std::size_t n = std::min<std::size_t>(size, e.rcv_produced - at);
    if (n == 0) {
        return e.fin_received ? 0 : -EAGAIN;
    }
    e.rcv.copy_out(at, into, n);
    e.rcv_consumed.store(at + n, std::memory_order_seq_cst);
    if (at + n + ring_bytes_ - e.rcv_told >= ring_bytes_ / 4 && ring_bytes_ > segment_max) {
        e.segments_unacked = 2; // a window update is due
        touch(e);
    }
    return static_cast<ssize_t>(n);
}

void BareSide::close(BareEnd& e)
{
    e.user = nullptr;
    e.closed = true;
    if (e.listening) {
        std::erase_if(listeners_, [&e](const auto& entry) { return entry.second == &e; });
    } else {
        touch(e); // its FIN follows what was written
    }
}

// ---- The way of a segment

void BareSide::work()
{
    while (!dirty_.empty() || !wire_.empty()) {
        now_dirty_.swap(dirty_);
        for (BareEnd* e : now_dirty_) {
            e->dirty = false;
            output(*e);
        }
        now_dirty_.clear();
        arriving_.swap(wire_);
        for (BarePacket* p : arriving_) {
            input(*p);
            free_packets_.push_back(p);
        }
        arriving_.clear();
    }
}

void BareSide::output(BareEnd& e)
{
    if (!e.open) {
        return;
    }
    std::uint64_t end = e.snd_produced.load(std::memory_order_acquire);
    std::uint64_t allowed = std::min(end, e.snd_limit);
    for (unsigned n = 0; e.snd_sent < allowed; ++n) {
        if (n == segments_at_once) {
            touch(e);
            return;
        }
        std::size_t bytes = std::min<std::size_t>(segment_max, allowed - e.snd_sent);
        std::uint64_t at = e.snd_sent;
        e.snd_sent += bytes;
        e.fin_sent = e.closed && e.snd_sent == end;
        emit(e, e.fin_sent ? fin | ack_flag : ack_flag, at, bytes);
    }
    if (e.closed && !e.fin_sent && e.snd_sent == end) {
        e.fin_sent = true;
        emit(e, fin | ack_flag, end, 0);
    }
    if (e.segments_unacked >= 2) {
        emit(e, ack_flag, e.snd_sent, 0);
    }
    if (e.fin_acked && e.fin_received && e.closed) {
        free_end(e);
    }
}

void BareSide::emit(BareEnd& e, std::uint8_t flags, std::uint64_t offset, std::size_t bytes)
{
    if (free_packets_.empty()) {
        free_packets_.push_back(packet_memory_.emplace_back(std::make_unique<BarePacket>()).get());
    }
    BarePacket& p = *free_packets_.back();
    free_packets_.pop_back();
    p.size = BarePacket::headers + bytes;
    std::byte* ip = p.bytes.data();
    base::store_be32(ip, 0x45000000U | static_cast<std::uint32_t>(p.size));
    base::store_be32(ip + 4, 0x4000); // do not fragment
    base::store_be32(ip + 8, 64U << 24 | IPPROTO_TCP << 16);
    base::store_be32(ip + 12, e.flow.local);
    base::store_be32(ip + 16, e.flow.remote);
    base::Checksum ip_sum;
    ip_sum.add(ip, ip_header);
    base::store_be16(ip + 10, ip_sum.finish());

    std::byte* tcp = ip + ip_header;
    std::uint64_t edge = e.rcv_consumed.load(std::memory_order_relaxed) + ring_bytes_;
    base::store_be16(tcp, e.flow.local_port);
    base::store_be16(tcp + 2, e.flow.remote_port);
    base::store_be32(tcp + 4, (flags & syn) != 0 ? 0 : sequence_of(offset));
    base::store_be32(tcp + 8, sequence_of(e.rcv_produced) + (e.fin_received ? 1 : 0));
    base::store_be16(tcp + 12, static_cast<std::uint16_t>(0x5000 | flags));
    base::store_be16(tcp + 14, static_cast<std::uint16_t>((edge - e.rcv_produced) >> window_shift));
    base::store_be32(tcp + 16, 0);
    base::Checksum sum = pseudo_header(e.flow.local, e.flow.remote, p.size - ip_header);
    sum.add(tcp, BarePacket::headers - ip_header);
    iovec pieces[sockbuf::RingView::pieces_max];
    std::byte* to = ip + BarePacket::headers;
    for (unsigned i = 0, n = bytes != 0 ? e.snd.pieces(offset, bytes, pieces) : 0; i < n; ++i) {
        sum.copy(to, pieces[i].iov_base, pieces[i].iov_len);
        to += pieces[i].iov_len;
    }
    base::store_be16(tcp + 16, sum.finish());
    e.segments_unacked = 0;
    e.rcv_told = edge;
    ++packets_;
    wire_.push_back(&p);
}

void BareSide::input(const BarePacket& p)
{
    const std::byte* ip = p.bytes.data();
    const std::byte* tcp = ip + ip_header;
    base::Checksum ip_sum;
    ip_sum.add(ip, ip_header);
    std::size_t size = base::load_be16(ip + 2);
    BareFlow flow{base::load_be32(ip + 16), base::load_be32(ip + 12), base::load_be16(tcp + 2), base::load_be16(tcp)};
    auto flags = static_cast<std::uint8_t>(base::load_be16(tcp + 12));
    BareEnd* found = find(flow);
    if (found == nullptr && flags == syn) {
        found = take_syn(flow);
    }
    if (!ip_sum.correct() || size != p.size || found == nullptr) {
        give_up("a packet that nobody sent", -EBADMSG);
    }
    BareEnd& e = *found;
    std::size_t bytes = size - BarePacket::headers;
    bool in_order = (flags & syn) != 0 || base::load_be32(tcp + 4) == sequence_of(e.rcv_produced);
    base::Checksum sum = pseudo_header(flow.remote, flow.local, size - ip_header);
    sum.add(tcp, BarePacket::headers - ip_header);
    iovec pieces[sockbuf::RingView::pieces_max];
    const std::byte* text = ip + BarePacket::headers;
    for (unsigned i = 0, n = bytes != 0 ? e.rcv.pieces(e.rcv_produced, bytes, pieces) : 0; i < n; ++i) {
        sum.copy(pieces[i].iov_base, text, pieces[i].iov_len);
        text += pieces[i].iov_len;
    }
    if (!sum.correct() || !in_order) {
        give_up("a segment that nobody sent", -EBADMSG);
    }
    e.rcv_produced += bytes;
    take_ack(e, base::load_be32(tcp + 8), base::load_be16(tcp + 14), flags);
    e.fin_received |= (flags & fin) != 0;
    e.segments_unacked += (flags & fin) != 0 && e.closed ? 2 : bytes != 0 ? 1 : 0;
    if (bytes != 0 || (flags & (fin | syn)) != 0) {
        happened(e);
    }
    if (e.segments_unacked >= 2 || e.snd_sent < e.snd_produced.load(std::memory_order_relaxed) || e.closed) {
        touch(e);
    }
}

// Of a segment in order: what it acknowledges, opens, and lets us send.
void BareSide::take_ack(BareEnd& e, std::uint32_t ack, std::uint16_t window, std::uint8_t flags)
{
    if ((flags & ack_flag) == 0) {
        return;
    }
    if (!e.open) {
        e.open = true;
        e.connecting = false;
        if ((flags & syn) == 0) { // the third of the handshake: the connection waits for its accept
            BareEnd& listener = *listeners_.at(e.flow.local_port);
            listener.accepted.push_back(&e);
            happened(listener);
        }
    }
    std::uint32_t covers = ack - sequence_of(e.snd_acked);
    std::uint64_t text = std::min<std::uint64_t>(covers, e.snd_sent - e.snd_acked);
    bool was_full = e.snd_produced.load(std::memory_order_relaxed) - e.snd_acked == ring_bytes_;
    e.snd_acked += text;
    e.fin_acked = e.fin_acked || (e.fin_sent && covers > text);
    e.snd_limit = e.snd_acked + (std::uint64_t{window} << window_shift);
    if (was_full && text != 0) {
        happened(e); // a writer may wait for space
    }
}

BareEnd* BareSide::take_syn(const BareFlow& flow)
{
    if (!listeners_.contains(flow.local_port)) {
        return nullptr;
    }
    BareEnd& e = new_end();
    e.flow = flow;
    insert(e);
    emit(e, syn | ack_flag, 0, 0);
    return &e;
}

// ---- Ends

BareEnd& BareSide::new_end()
{
    if (free_ends_.empty()) {
        BareEnd& fresh = *ends_.emplace_back(std::make_unique<BareEnd>());
        fresh.memory.resize(2 * ring_bytes_);
        free_ends_.push_back(&fresh);
    }
    BareEnd& e = *free_ends_.back();
    free_ends_.pop_back();
    auto shift = static_cast<unsigned>(std::countr_zero(ring_bytes_));
    e.snd = {e.memory.data(), shift};
    e.rcv = {e.memory.data() + ring_bytes_, shift};
    for (auto* offset : {&e.snd_produced, &e.rcv_consumed}) {
        offset->store(0, std::memory_order_relaxed);
    }
    e.snd_sent = e.snd_acked = e.snd_limit = e.rcv_produced = e.rcv_told = 0;
    e.user = nullptr;
    e.segments_unacked = 0;
    e.listening = e.connecting = e.open = e.fin_received = e.fin_sent = e.fin_acked = e.closed = false;
    return e;
}

void BareSide::free_end(BareEnd& e)
{
    BareEnd** link = &buckets_[bucket_of(e.flow)];
    while (*link != &e) {
        link = &(*link)->next_in_bucket;
    }
    *link = e.next_in_bucket;
    free_ends_.push_back(&e);
}

std::size_t BareSide::bucket_of(const BareFlow& flow) const
{
    std::uint64_t mixed = (std::uint64_t{flow.local} << 32 | flow.remote) * 0x9e3779b97f4a7c15U;
    mixed = (mixed ^ (std::uint64_t{flow.local_port} << 16 | flow.remote_port)) * 0xc2b2ae3d27d4eb4fU;
    return (mixed >> 32) & (buckets_.size() - 1);
}

BareEnd* BareSide::find(const BareFlow& flow) const
{
    BareEnd* e = buckets_[bucket_of(flow)];
    while (e != nullptr && e->flow != flow) {
        e = e->next_in_bucket;
    }
    return e;
}

void BareSide::insert(BareEnd& e)
{
    BareEnd*& bucket = buckets_[bucket_of(e.flow)];
    e.next_in_bucket = bucket;
    bucket = &e;
}

void BareSide::touch(BareEnd& e)
{
    if (!std::exchange(e.dirty, true)) {
        dirty_.push_back(&e);
    }
}

void BareSide::happened(BareEnd& e)
{
    if (!std::exchange(e.ready, true)) {
        ready_.push_back(&e);
    }
}

std::uint32_t BareSide::events_of(const BareEnd& e)
{
    bool readable =
        !e.accepted.empty() || e.fin_received || e.rcv_produced != e.rcv_consumed.load(std::memory_order_relaxed);
    bool writable = e.open && e.snd_produced.load(std::memory_order_relaxed) - e.snd_acked < e.snd.size();
    return (readable ? EPOLLIN : 0U) | (writable ? EPOLLOUT : 0U);
}

} // namespace bench
