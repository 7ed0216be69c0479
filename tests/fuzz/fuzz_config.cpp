// What an administrator writes: the configuration file, lists of CPUs, addresses, the command line. Every input is each
// of them. What is refused is refused with one line that names the place; what is accepted keeps its promises.
#include <algorithm>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "base/check.hpp"
#include "lwkt/topology.hpp"
#include "netd/arguments.hpp"
#include "netd/config.hpp"
#include "netd/exit_codes.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

void check_interface(const netd::InterfaceConfig& i)
{
    INVARIANT(i.mtu >= (i.has_ipv6() ? 1280U : 576U) && i.mtu <= 65535);
    INVARIANT(i.queues <= 64 || i.driver == netd::DriverKind::loopback);
    for (const auto& a : i.addresses) {
        INVARIANT(a.length <= (a.addr.is_v4() ? 32 : 128));
        INVARIANT(!a.addr.is_multicast() && !a.addr.is_any());
    }
}

void check_config(const std::string& text)
{
    std::string error;
    auto c = netd::parse_config(text, "FILE", error);
    if (!c) {
        INVARIANT(error.starts_with("FILE:"));
        return;
    }
    INVARIANT(error.empty());
    INVARIANT(netd::is_log_level(c->log_level));
    INVARIANT(c->limits.clients != 0 && c->limits.sockets_per_client % 64 == 0);
    std::for_each(c->interfaces.begin(), c->interfaces.end(), check_interface);
    for (const auto& r : c->routes) {
        INVARIANT(r.destination.length <= (r.destination.addr.is_v4() ? 32 : 128));
        INVARIANT(r.gateway.is_v4() == r.destination.addr.is_v4());
    }
}

void check_address(const std::string& text)
{
    if (auto a = base::parse_ip(text)) {
        auto again = base::parse_ip(base::to_string(*a));
        INVARIANT(again && *again == *a);
    }
}

void check_cpus(const std::string& text)
{
    std::string error;
    std::vector<int> cpus = lwkt::parse_cpu_list(text, error);
    INVARIANT(cpus.empty() != error.empty());
}

// A line is an argument.
void check_command_line(const std::string& text)
{
    std::vector<std::string> words{"netd"};
    std::stringstream lines(text);
    for (std::string word; words.size() < 16 && std::getline(lines, word);) {
        words.push_back(word);
    }
    std::vector<const char*> argv;
    for (const auto& w : words) {
        argv.push_back(w.c_str());
    }
    netd::Arguments args;
    std::ostringstream out;
    std::ostringstream err;
    int code = netd::parse_arguments(static_cast<int>(argv.size()), argv.data(), args, out, err);
    INVARIANT(code == -1 || code == netd::exit_ok || code == netd::exit_usage);
    INVARIANT((code == netd::exit_usage) == !err.str().empty());
    INVARIANT(code != -1 || args.log_level.empty() || netd::is_log_level(args.log_level));
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    std::string text(reinterpret_cast<const char*>(data), size);
    check_config(text);
    check_address(text);
    check_cpus(text);
    check_command_line(text);
    return 0;
}
