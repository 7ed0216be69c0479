#include "netd/start_check.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "lwkt/topology.hpp"
#include "netd/exit_codes.hpp"
#include "netd/interfaces.hpp"
#include "netd/seqpacket.hpp"
#include "sockbuf/abi.hpp"

namespace netd {

namespace {

// The programs need CPUs too: of two hyperthreads, or of two CPUs that follow each other, netd takes one (decision
// 0034).
std::vector<int> every_second_cpu()
{
    std::vector<int> chosen;
    std::vector<int> usable = lwkt::usable_cpus();
    for (std::size_t i = 0; i < usable.size() && chosen.size() < sockbuf::max_cpus; i += 2) {
        chosen.push_back(usable[i]);
    }
    return chosen;
}

std::vector<int> choose_cpus(const Config& config)
{
    if (config.cpus.empty()) {
        return every_second_cpu();
    }
    std::string error;
    std::vector<int> chosen = lwkt::parse_cpu_list(config.cpus, error);
    if (config.cpus == "all") {
        chosen.resize(std::min<std::size_t>(chosen.size(), sockbuf::max_cpus));
    }
    if (chosen.empty() || chosen.size() > sockbuf::max_cpus) {
        throw StartFailure{fmt::format("--cpus: {}", chosen.empty() ? error : "more than 64 CPUs"), exit_usage};
    }
    return chosen;
}

void check_queues(const Config& config, std::size_t cpus)
{
    for (const InterfaceConfig& i : config.interfaces) {
        if (i.queues != 0 && i.queues != cpus) {
            throw StartFailure{fmt::format("interface {}: {} queue{} for {} CPU{}; every CPU has one (queues = 0)",
                                   i.name, i.queues, i.queues == 1 ? "" : "s", cpus, cpus == 1 ? "" : "s"),
                exit_config};
        }
    }
}

} // namespace

std::vector<int> check_start(const Config& config)
{
    std::vector<int> cpus = choose_cpus(config);
    if (std::string error = check_socket_path(config.socket); !error.empty()) {
        throw StartFailure{error, exit_usage};
    }
    if (std::string error = check_limits(config.limits, cpus.size()); !error.empty()) {
        throw StartFailure{error, exit_config};
    }
    check_queues(config, cpus.size());
    if (std::size_t announced = announced_prefixes(config).size(); announced > sockbuf::max_prefixes) {
        throw StartFailure{
            fmt::format("{} addresses, networks and routes; netd can announce {}", announced, sockbuf::max_prefixes),
            exit_config};
    }
    return cpus;
}

} // namespace netd
