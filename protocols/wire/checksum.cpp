// See checksum.hpp.
#include "protocols/wire/checksum.hpp"

namespace protocols::wire {

namespace {

Checksum without_length(const base::IpAddr& source, const base::IpAddr& destination, std::uint8_t protocol)
{
    Checksum c;
    if (source.is_v4()) {
        c.add32(source.v4());
        c.add32(destination.v4());
    } else {
        c.add(source.on_wire().bytes(), 16);
        c.add(destination.on_wire().bytes(), 16);
    }
    c.add16(protocol);
    return c;
}

} // namespace

Checksum pseudo_header(
    const base::IpAddr& source, const base::IpAddr& destination, std::uint8_t protocol, std::uint32_t length)
{
    Checksum c = without_length(source, destination, protocol);
    c.add32(length);
    return c;
}

std::uint16_t pseudo_header_part6(const base::IpAddr& source, const base::IpAddr& destination, std::uint8_t protocol)
{
    return without_length(source, destination, protocol).folded();
}

std::uint16_t checksum(const void* data, std::size_t size)
{
    Checksum c;
    c.add(data, size);
    return c.finish();
}

std::uint16_t checksum_update16(std::uint16_t field, std::uint16_t from, std::uint16_t to)
{
    std::uint32_t sum = std::uint32_t{static_cast<std::uint16_t>(~field)} + static_cast<std::uint16_t>(~from) + to;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum);
}

std::uint16_t checksum_update32(std::uint16_t field, std::uint32_t from, std::uint32_t to)
{
    field = checksum_update16(field, static_cast<std::uint16_t>(from >> 16), static_cast<std::uint16_t>(to >> 16));
    return checksum_update16(field, static_cast<std::uint16_t>(from), static_cast<std::uint16_t>(to));
}

} // namespace protocols::wire
