#include "netd/arguments.hpp"

#include <CLI/CLI.hpp>

#include "netd/config.hpp"
#include "netd/exit_codes.hpp"

namespace netd {

int parse_arguments(int argc, const char* const* argv, Arguments& args, std::ostream& out, std::ostream& err)
{
    CLI::App app{"A TCP/IP stack in user space: owns interfaces and serves programs started with netrun."};
    app.add_option("--config", args.config, "TOML configuration");
    app.add_option("--socket", args.socket,
        "where programs attach (default: $NETD_SOCKET; without root $XDG_RUNTIME_DIR/netd.sock; /run/netd.sock)");
    app.add_option("--cpus", args.cpus, "CPUs of the protocol threads, such as 0-1, or all (default: every second)");
    app.add_option("--log-level", args.log_level, "trace, debug, info, warn, error, critical or off")
        ->check([](const std::string& text) { return is_log_level(text) ? std::string() : "no such level: " + text; });
    app.add_flag("--check-config", args.check_config, "check the configuration and exit");
    app.set_version_flag("--version", "netd " NETD_VERSION);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e, out, err) == 0 ? exit_ok : exit_usage;
    }
    return -1;
}

} // namespace netd
