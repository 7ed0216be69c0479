// See goodput_relay.hpp.
#include "benchmarks/goodput/goodput_relay.hpp"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bench {

void goodput_failed(const std::string& why)
{
    std::fprintf(stderr, "bench-goodput: %s\n", why.c_str());
    std::exit(1);
}

InNamespace::InNamespace(const std::string& path) : before_(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC))
{
    int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (before_ < 0 || fd < 0 || setns(fd, CLONE_NEWNET) != 0) {
        goodput_failed(path + ": " + std::strerror(errno));
    }
    close(fd);
}

InNamespace::~InNamespace()
{
    if (setns(before_, CLONE_NEWNET) != 0) {
        goodput_failed(std::string("the way back: ") + std::strerror(errno));
    }
    close(before_);
}

GoodputRelay::GoodputRelay(const GoodputCell& cell, const std::string& near, const std::string& far)
    : relay_(goodput_link(cell), {near, "gp0"}, {far, "gp0"})
{
    std::string error;
    if (!relay_.start(error)) {
        goodput_failed(error);
    }
}

std::string GoodputRelay::counters() const
{
    drivers::SimLinkCounters c = relay_.counters(0);
    return "\"lost\": " + std::to_string(c.lost) + ", \"queue_full\": " + std::to_string(c.queue_full);
}

} // namespace bench
