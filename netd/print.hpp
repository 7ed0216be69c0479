// Text for a person or a script. Who cannot be written to is no exception; what mattered is asked for at the end.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "netd/exit_codes.hpp"

namespace netd {

inline void print(FILE* to, const std::string& text)
{
    std::fwrite(text.data(), 1, text.size(), to);
}

// The exit code of a program whose work was to write to stdout; says on stderr what is wrong.
inline int all_written(const char* program)
{
    bool failed = std::ferror(stdout) != 0; // of an earlier write, whose errno is gone
    if (std::fflush(stdout) == 0 && !failed) {
        return exit_ok;
    }
    print(stderr, std::string(program) + ": cannot write to standard output" +
                      (failed ? "" : std::string(": ") + std::strerror(errno)) + "\n");
    return exit_io;
}

} // namespace netd
