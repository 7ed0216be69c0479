// The start of libnetd-preload.so. No thread of its own, nothing but a table and settings until the first socket.
#include "client/preload/process.hpp"

namespace {

__attribute__((constructor)) void begin()
{
    preload::start();
}

} // namespace
