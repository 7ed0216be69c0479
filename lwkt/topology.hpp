// What the machine looks like, from hwloc. Loaded once, read by any thread afterwards.
#pragma once

namespace lwkt {

// Binds the calling thread to an OS CPU; false when that is refused.
bool bind_this_thread(int os_cpu);

} // namespace lwkt
