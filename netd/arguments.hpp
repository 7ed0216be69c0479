// netd's command line. Main thread, before anything runs.
#pragma once

#include <iosfwd>
#include <string>

namespace netd {

struct Arguments {
    std::string config;
    std::string socket;
    std::string cpus;
    std::string log_level;
    bool check_config = false;
};

// -1 with `args` complete, or the exit code after help, version or a complaint was written.
int parse_arguments(int argc, const char* const* argv, Arguments& args, std::ostream& out, std::ostream& err);

} // namespace netd
