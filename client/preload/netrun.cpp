// netrun: runs an unmodified program on netd. Checks what could make it miss netd, sets the environment that the
// preload library reads, and becomes the program.
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "client/preload/decide.hpp"
#include "client/preload/program_check.hpp"
#include "sockbuf/admission.hpp"
#include "sockbuf/socket_path.hpp"

namespace {

constexpr const char* library_name = "libnetd-preload.so";

struct Arguments {
    std::string socket;
    std::string share;
    unsigned spin_us = 0;
    bool why = false;
    bool strict = false;
    std::vector<std::string> kernel;
    std::vector<std::string> command;
};

[[noreturn]] void fail(int code, const std::string& message)
{
    std::fprintf(stderr, "netrun: %s\n", message.c_str());
    std::exit(code);
}

// ld.so(8): LD_PRELOAD is cut at spaces and colons, and what the loader does not find it leaves out.
std::string nameable(std::string library)
{
    if (library.find_first_of(" :") != std::string::npos) {
        fail(EX_SOFTWARE, library + ": LD_PRELOAD cannot name a path with a space or a colon; netd must be elsewhere");
    }
    return library;
}

// Beside this program (build tree), or where it was installed.
std::string find_library()
{
    std::error_code error;
    std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
    for (const std::filesystem::path& path :
        {self.parent_path() / library_name, std::filesystem::path(NETD_LIBDIR) / library_name}) {
        if (std::filesystem::exists(path, error)) {
            return nameable(path.string());
        }
    }
    fail(EX_SOFTWARE, std::string(library_name) + " is neither beside netrun nor in " NETD_LIBDIR);
}

// The program may change its folder before the call that looks for netd. What is short enough only from here stays.
std::string from_everywhere(const std::string& socket)
{
    std::error_code error;
    std::string path = std::filesystem::absolute(socket, error).string();
    return error || path.size() >= sizeof sockaddr_un{}.sun_path ? socket : path;
}

void check_netd(const std::string& path)
{
    sockaddr_un addr{};
    addr.sun_family = AF_UNIX;
    if (path.size() >= sizeof addr.sun_path) {
        fail(EX_USAGE, path + ": too long for a socket's name");
    }
    path.copy(addr.sun_path, path.size());
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, reinterpret_cast<sockaddr*>(&addr), sizeof addr) != 0) {
        bool absent = errno == ENOENT || errno == ECONNREFUSED;
        bool refused = errno == EACCES || errno == EPERM;
        fail(refused ? EX_NOPERM : EX_UNAVAILABLE,
            absent ? "netd is not running: nobody listens at " + path + " (--socket or $NETD_SOCKET names another)"
                   : "cannot reach netd at " + path + ": " + std::strerror(errno));
    }
    close(fd);
}

void set_environment(const Arguments& a, const std::string& library)
{
    // Behind what is preloaded already: allocators and the like keep their place.
    const char* before = std::getenv("LD_PRELOAD");
    bool some = before != nullptr && *before != '\0';
    setenv("LD_PRELOAD", some ? (std::string(before) + ":" + library).c_str() : library.c_str(), 1);
    setenv("NETD_SOCKET", from_everywhere(a.socket).c_str(), 1);
    if (!a.share.empty()) {
        setenv("NETD_SHARE", a.share.c_str(), 1);
    }
    if (a.spin_us != 0) {
        setenv("NETD_SPIN_US", std::to_string(a.spin_us).c_str(), 1);
    }
    if (a.why) {
        setenv("NETD_WHY", "1", 1);
    }
    if (a.strict) {
        setenv("NETD_STRICT", "1", 1);
    }
    std::string rules;
    for (const std::string& rule : a.kernel) {
        rules += (rules.empty() ? "" : ",") + rule;
    }
    if (!rules.empty()) {
        setenv("NETD_KERNEL", rules.c_str(), 1);
    }
}

int parse(int argc, char** argv, Arguments& a)
{
    CLI::App app{"Runs an unmodified program on netd's TCP/IP stack.", "netrun"};
    app.prefix_command();
    app.add_option(
        "--socket", a.socket, "netd's socket (default: $NETD_SOCKET, $XDG_RUNTIME_DIR/netd.sock, /run/netd.sock)");
    app.add_option("--share", a.share, "be one family with this user's other programs that name the same share");
    app.add_option("--spin", a.spin_us, "microseconds that a call looks before it sleeps (default: as it pays)")
        ->check(CLI::Range(0, 1'000'000));
    app.add_flag("--why", a.why, "one line on stderr for each socket: netd's or the kernel's, and why");
    app.add_flag("--strict", a.strict, "a socket that would be the kernel's fails instead (not UNIX, not netlink)");
    app.add_option("--kernel", a.kernel, "PREFIX[:PORT] that stays the kernel's; may be repeated")
        ->take_all()
        ->allow_extra_args(false);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? EX_OK : EX_USAGE;
    }
    a.command = app.remaining();
    if (!a.command.empty() && a.command.front() == "--") {
        a.command.erase(a.command.begin());
    } else if (!a.command.empty() && a.command.front().front() == '-') {
        fail(EX_USAGE, a.command.front() + ": no such option (a program of that name stands behind --)");
    }
    return -1;
}

} // namespace

int main(int argc, char** argv)
{
    Arguments a;
    if (int code = parse(argc, argv, a); code >= 0) {
        return code;
    }
    if (a.command.empty()) {
        fail(EX_USAGE, "which program? netrun [OPTIONS] CMD [ARGS...]");
    }
    if (a.share.size() > sockbuf::share_name_max) {
        fail(EX_USAGE,
            "--share " + a.share + ": longer than " + std::to_string(sockbuf::share_name_max) + " characters");
    }
    std::vector<preload::KernelRule> rules;
    for (const std::string& rule : a.kernel) {
        if (!preload::parse_kernel_rules(rule, rules)) {
            fail(EX_USAGE, "--kernel " + rule + ": not PREFIX[:PORT]");
        }
    }
    if (a.socket.empty()) {
        a.socket = sockbuf::client_socket_path();
    }
    netrun::ProgramCheck program = netrun::check_program(a.command.front(), std::getenv("PATH"));
    if (program.exit_code != 0) {
        fail(program.exit_code, program.message);
    }
    std::string library = find_library();
    check_netd(a.socket);
    set_environment(a, library);
    std::vector<char*> arguments;
    for (std::string& argument : a.command) {
        arguments.push_back(argument.data());
    }
    arguments.push_back(nullptr);
    execvp(program.path.c_str(), arguments.data());
    fail(126, program.path + ": " + std::strerror(errno));
}
