#include "client/preload/preload_report.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>

#include "client/preload/process.hpp"
#include "client/preload/real.hpp"

namespace preload {

void report(const char* format, ...)
{
    int before = errno;
    char line[400] = "netrun: ";
    constexpr int prefix = 8;
    va_list list;
    va_start(list, format);
    int n = std::vsnprintf(line + prefix, sizeof line - prefix - 1, format, list);
    va_end(list);
    int size = prefix + std::clamp(n, 0, static_cast<int>(sizeof line) - prefix - 2);
    line[size] = '\n';
    [[maybe_unused]] ssize_t written = real.write(STDERR_FILENO, line, static_cast<std::size_t>(size) + 1);
    errno = before;
}

void report_decision(int fd, int type, const char* call, const base::Endpoint& at, const char* reason)
{
    if (!settings().why) {
        return;
    }
    const char* protocol = (type & 0xf) == SOCK_STREAM ? "tcp" : "udp";
    std::string where = base::to_string(at);
    if (reason == nullptr) {
        report("fd %d %s %s %s -> netd", fd, protocol, call, where.c_str());
    } else {
        report("fd %d %s %s %s -> kernel: %s", fd, protocol, call, where.c_str(), reason);
    }
}

} // namespace preload
