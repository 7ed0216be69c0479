// Toeplitz hashing (Microsoft, "RSS hashing types" and "Verifying the RSS hash calculation") with one table per input
// byte. Read-only after construction; any thread.
#include "netmsg/steering.hpp"

#include "base/endian.hpp"

namespace netmsg {
namespace {

constexpr unsigned input_bytes_max = 36; // two IPv6 addresses and two ports

std::array<unsigned char, toeplitz_key_bytes> random_key(base::Random& random)
{
    std::array<unsigned char, toeplitz_key_bytes> key;
    for (unsigned char& byte : key) {
        byte = static_cast<unsigned char>(random.next() >> 56);
    }
    return key;
}

// The 32 bits of the key that start at bit `bit`.
std::uint32_t key_window(const std::array<unsigned char, toeplitz_key_bytes>& key, unsigned bit)
{
    std::uint64_t bytes = 0;
    for (unsigned i = 0; i < 5; ++i) {
        bytes = bytes << 8 | key[bit / 8 + i];
    }
    return static_cast<std::uint32_t>(bytes >> (8 - bit % 8));
}

unsigned address_bytes(const base::FourTuple& flow)
{
    return flow.peer.addr.is_v4() && flow.local.addr.is_v4() ? 8 : 32;
}

} // namespace

static_assert(input_bytes_max + 4 <= toeplitz_key_bytes);

Steering::Steering(unsigned cpus, base::Random& random) : Steering(cpus, random_key(random))
{
}

Steering::Steering(unsigned cpus, const std::array<unsigned char, toeplitz_key_bytes>& key) : cpus_(cpus), key_(key)
{
    INVARIANT(cpus > 0 && cpus < base::no_cpu);
    for (unsigned i = 0; i < steering_entries; ++i) {
        table_[i] = static_cast<base::CpuId>(i % cpus);
    }
    build_tables();
}

void Steering::build_tables()
{
    byte_hash_ = std::make_unique<std::uint32_t[]>(input_bytes_max * 256);
    for (unsigned position = 0; position < input_bytes_max; ++position) {
        for (unsigned value = 0; value < 256; ++value) {
            std::uint32_t h = 0;
            for (unsigned bit = 0; bit < 8; ++bit) {
                if ((value & (0x80U >> bit)) != 0) {
                    h ^= key_window(key_, position * 8 + bit);
                }
            }
            byte_hash_[position * 256 + value] = h;
        }
    }
}

std::uint32_t Steering::hash_bytes(const unsigned char* bytes, unsigned n, unsigned position) const
{
    const std::uint32_t* row = byte_hash_.get() + position * 256;
    std::uint32_t h = 0;
    for (unsigned i = 0; i < n; ++i, row += 256) {
        h ^= row[bytes[i]];
    }
    return h;
}

std::uint32_t Steering::hash(const base::FourTuple& flow) const
{
    unsigned char ports[4];
    base::store_be16(ports, flow.peer.port);
    base::store_be16(ports + 2, flow.local.port);
    return hash_pair(flow.local.addr, flow.peer.addr) ^ hash_bytes(ports, 4, address_bytes(flow));
}

std::uint32_t Steering::of_local_port(std::uint16_t port, const base::FourTuple& flow) const
{
    unsigned char bytes[2];
    base::store_be16(bytes, port);
    return hash_bytes(bytes, 2, address_bytes(flow) + 2);
}

std::uint32_t Steering::hash_pair(const base::IpAddr& local, const base::IpAddr& peer) const
{
    if (peer.is_v4() && local.is_v4()) {
        return hash_bytes(peer.bytes() + 12, 4, 0) ^ hash_bytes(local.bytes() + 12, 4, 4);
    }
    return hash_bytes(peer.on_wire().bytes(), 16, 0) ^ hash_bytes(local.on_wire().bytes(), 16, 16);
}

} // namespace netmsg
