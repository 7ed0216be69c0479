// See stack_counters.hpp.
#include "protocols/stack_counters.hpp"

namespace protocols {

namespace {

constexpr StackCounterName names[] = {
#define PROTOCOLS_COUNTER_NAME(field, name) {name, &StackCounters::field},
    PROTOCOLS_STACK_COUNTERS(PROTOCOLS_COUNTER_NAME)
#undef PROTOCOLS_COUNTER_NAME
};

} // namespace

std::span<const StackCounterName> stack_counter_names()
{
    return names;
}

} // namespace protocols
