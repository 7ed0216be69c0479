// INVARIANT: an invariant that holds or the process stops, in release too. For programmer errors only: a bad packet, a
// hostile client or exhausted memory is an operating error and is counted or refused instead.
#pragma once

namespace base {

[[noreturn, gnu::cold, gnu::noinline]] void check_failed(const char* expression, const char* file, int line);

} // namespace base

#define INVARIANT(expression)                                                                                          \
    do {                                                                                                               \
        if (!(expression)) [[unlikely]] {                                                                              \
            ::base::check_failed(#expression, __FILE__, __LINE__);                                                     \
        }                                                                                                              \
    } while (false)
