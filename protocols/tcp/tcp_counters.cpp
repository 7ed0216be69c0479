// See tcp_counters.hpp.
#include "protocols/tcp/tcp_counters.hpp"

namespace protocols {

namespace {

constexpr TcpCounterName names[] = {
#define PROTOCOLS_COUNTER_NAME(field, name) {name, &TcpCounters::field},
    PROTOCOLS_TCP_COUNTERS(PROTOCOLS_COUNTER_NAME)
#undef PROTOCOLS_COUNTER_NAME
};

} // namespace

std::span<const TcpCounterName> tcp_counter_names()
{
    return names;
}

} // namespace protocols
