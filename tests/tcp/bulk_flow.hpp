// A stream that writes and reads as much as goes, and the path that congestion control is tried on.
#pragma once

#include <vector>

#include "protocols/tcp/tcp_cc.hpp"
#include "tests/tcp/pair.hpp"

namespace tcp_test {

// 100 Mbit/s, segments cut before the link.
inline PairOptions bottleneck(
    const char* congestion, std::uint32_t queue_bytes, base::Micros one_way = base::millis(10))
{
    PairOptions o;
    o.split = true;
    o.ring_shift = 21;
    o.congestion = static_cast<std::uint8_t>(protocols::tcp::congestion_by_name(congestion));
    o.weather.delay = one_way;
    o.weather.rate_bits_per_s = 100'000'000;
    o.weather.queue_bytes_max = queue_bytes;
    return o;
}

struct Flow {
    App& from;
    App& to;
    std::uint64_t got = 0;
    void pump()
    {
        static std::vector<unsigned char> bytes(65536);
        while (from.write(bytes.data(), bytes.size()) != 0) {
        }
        while (std::uint64_t n = to.take(bytes.data(), bytes.size())) {
            got += n;
        }
    }
};

} // namespace tcp_test
