// netd: a TCP/IP stack with a protocol thread per CPU, served to programs over shared memory. Configuration, the
// process's own set-up, and the exit code.
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include <csignal>
#include <iostream>

#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "base/check.hpp"
#include "lwkt/topology.hpp"
#include "netd/arguments.hpp"
#include "netd/config.hpp"
#include "netd/daemon.hpp"
#include "netd/exit_codes.hpp"
#include "netd/print.hpp"

namespace {

void set_up_log(const std::string& level)
{
    auto log = spdlog::stderr_color_mt("netd");
    log->set_pattern("%H:%M:%S.%e %^%l%$ %v");
    log->set_level(spdlog::level::from_str(level == "warn" ? "warning" : level));
    log->flush_on(spdlog::level::trace);
    spdlog::set_default_logger(log);
}

// Every client costs a handful of descriptors and every sleeping thread of theirs one.
void raise_descriptor_limit()
{
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    spdlog::debug("{} descriptors may be open", limit.rlim_cur);
}

// Blocked before the first thread exists, so that all inherit it; read from the descriptor.
netd::UniqueFd signals_to_descriptor()
{
    signal(SIGPIPE, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    struct sigaction hangup {};
    if (sigaction(SIGHUP, nullptr, &hangup) == 0 && hangup.sa_handler != SIG_IGN) { // blocked, nohup's would come too
        sigaddset(&set, SIGHUP);
    }
    INVARIANT(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
    netd::UniqueFd fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    INVARIANT(fd);
    return fd;
}

// Exit code, or -1 with `config` complete.
int configure(const netd::Arguments& args, netd::Config& config)
{
    std::string error;
    if (!args.config.empty()) {
        auto loaded = netd::load_config(args.config, error);
        if (!loaded) {
            netd::print(stderr, fmt::format("netd: {}\n", error));
            return netd::exit_config;
        }
        config = std::move(*loaded);
    }
    if (!args.cpus.empty()) {
        if (lwkt::parse_cpu_list(args.cpus, error).empty()) {
            netd::print(stderr, fmt::format("netd: --cpus: {}\n", error));
            return netd::exit_usage;
        }
        config.cpus = args.cpus;
    }
    if (!args.socket.empty()) {
        config.socket = args.socket;
    } else if (config.socket.empty()) {
        config.socket = netd::default_socket_path();
    }
    if (!args.log_level.empty()) {
        config.log_level = args.log_level;
    }
    return -1;
}

int serve(const netd::Config& config)
{
    set_up_log(config.log_level);
    raise_descriptor_limit();
    netd::UniqueFd signals = signals_to_descriptor();
    netd::Daemon daemon(config);
    daemon.run(signals.get());
    return netd::exit_ok;
}

int check(const netd::Arguments& args, const netd::Config& config)
{
    netd::check_start(config);
    netd::print(stdout, fmt::format("{}: good\n", args.config.empty() ? "the default configuration" : args.config));
    return netd::all_written("netd");
}

} // namespace

int main(int argc, char** argv)
{
    netd::Arguments args;
    if (int code = netd::parse_arguments(argc, argv, args, std::cout, std::cerr); code >= 0) {
        return code;
    }
    netd::Config config;
    if (int code = configure(args, config); code >= 0) {
        return code;
    }
    try {
        return args.check_config ? check(args, config) : serve(config);
    } catch (const netd::StartFailure& f) {
        netd::print(stderr, fmt::format("netd: {}\n", f.text));
        return f.exit_code;
    }
}
