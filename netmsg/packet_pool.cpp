// Two pools of objects: a packet with its buffer behind it, and large buffers. Runs on the protocol threads of the set;
// each object's memory belongs to the CPU that allocated it and goes home from wherever it is released.
#include "netmsg/packet_pool.hpp"

#include <algorithm>
#include <new>

namespace netmsg {
namespace {

constexpr std::size_t header_bytes = (sizeof(Packet) + 63) / 64 * 64; // the buffer starts on a cache line

} // namespace

struct PacketPool::Impl {
    Impl(lwkt::CpuSet& set, const PacketPoolOptions& options)
        : packets(set, header_bytes + packet_buffer_bytes, options.packets_per_cpu),
          large(set, sizeof(LargeBuffer), options.large_per_cpu)
    {
    }
    lwkt::PoolCore packets;
    lwkt::PoolCore large;
};

PacketPool::PacketPool(lwkt::CpuSet& set, const PacketPoolOptions& options)
    : impl_(std::make_unique<Impl>(set, options))
{
}

PacketPool::~PacketPool() = default;

Packet* PacketPool::allocate()
{
    void* memory = impl_->packets.allocate();
    if (memory == nullptr) {
        return nullptr;
    }
    auto* p = ::new (memory) Packet;
    p->home = base::current_cpu;
    p->cls = lwkt::Class::net;
    p->pool = this;
    p->buffer = static_cast<std::byte*>(memory) + header_bytes;
    p->data = p->buffer + packet_headroom;
    return p;
}

bool PacketPool::add_large(Packet& p)
{
    INVARIANT(p.large == nullptr);
    void* memory = impl_->large.allocate();
    if (memory == nullptr) {
        return false;
    }
    auto* b = ::new (memory) LargeBuffer;
    b->home = base::current_cpu;
    p.large = b;
    return true;
}

bool PacketPool::append(Packet& to, const Packet& from, std::uint32_t offset, std::uint32_t n)
{
    if (to.piece_count == 0) {
        std::uint32_t linear = std::min(n, to.tailroom());
        from.copy_out(offset, to.put(linear), linear);
        offset += linear;
        n -= linear;
    }
    if (n == 0) {
        return true;
    }
    if (n > large_buffer_bytes - to.piece_bytes || (to.large == nullptr && !add_large(to))) {
        return false;
    }
    if (to.piece_count == 0) {
        to.add_piece(to.large->bytes, 0);
    }
    from.copy_out(offset, to.large->bytes + to.piece_bytes, n);
    to.pieces[0].iov_len += n;
    to.piece_bytes += n;
    return true;
}

Packet* PacketPool::clone(const Packet& p)
{
    Packet* copy = allocate();
    if (copy == nullptr) {
        return nullptr;
    }
    copy_metadata(*copy, p);
    if (!append(*copy, p, 0, p.total())) {
        release(*copy);
        return nullptr;
    }
    if (p.l3 != nullptr && p.l3 >= p.data && p.l3 < p.data + p.size && copy->size >= p.size) {
        copy->l3 = copy->data + (p.l3 - p.data);
    }
    return copy;
}

void PacketPool::release(Packet& p)
{
    INVARIANT(p.pool == this);
    if (p.large != nullptr) {
        release_large(*p.large);
    }
    impl_->packets.release(p);
}

void PacketPool::release_large(LargeBuffer& b)
{
    impl_->large.release(b);
}

std::size_t PacketPool::in_use(base::CpuId cpu) const
{
    return impl_->packets.in_use(cpu);
}

std::size_t PacketPool::large_in_use(base::CpuId cpu) const
{
    return impl_->large.in_use(cpu);
}

std::uint64_t PacketPool::exhausted(base::CpuId cpu) const
{
    return impl_->packets.exhausted(cpu) + impl_->large.exhausted(cpu);
}

void copy_metadata(Packet& to, const Packet& from)
{
    to.csum = from.csum;
    to.gso = from.gso;
    to.hops = from.hops;
    to.gso_size = from.gso_size;
    to.csum_start = from.csum_start;
    to.csum_offset = from.csum_offset;
    to.netif = from.netif;
    to.stamp = from.stamp;
    to.flow_hash = from.flow_hash;
    to.broadcast = from.broadcast;
}

bool owns_bytes(const Packet& p)
{
    for (unsigned i = 0; i < p.piece_count; ++i) {
        auto* at = static_cast<const std::byte*>(p.pieces[i].iov_base);
        if (p.large == nullptr || at < p.large->bytes || at >= p.large->bytes + large_buffer_bytes) {
            return false;
        }
    }
    return true;
}

} // namespace netmsg
