// The hint to the processor that this is a loop that waits.
#pragma once

namespace base {

inline void pause_cpu()
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

} // namespace base
