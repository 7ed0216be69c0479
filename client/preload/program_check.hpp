// Can this program be preloaded? Finds it as execvp would, follows #! lines, and looks at its headers, so that netrun
// says what is wrong instead of starting a program that would quietly use the kernel.
#pragma once

#include <string>

namespace netrun {

struct ProgramCheck {
    int exit_code = 0;   // 0 = good; 127 not found, 126 not executable, 65 not preloadable, 77 more privileges than us
    std::string path;    // what to exec
    std::string message; // when exit_code is not 0
};

// `path_variable`: $PATH.
ProgramCheck check_program(const std::string& name, const char* path_variable);

} // namespace netrun
