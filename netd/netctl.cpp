// netctl: what netd holds and what it counted. Asks over netd's socket and prints a table or JSON.
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <map>
#include <sstream>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "netd/exit_codes.hpp"
#include "netd/print.hpp"
#include "netd/seqpacket.hpp"
#include "sockbuf/admission.hpp"
#include "sockbuf/socket_path.hpp"

namespace {

using nlohmann::json;

constexpr timeval patience{10, 0}; // a netd that does not answer for so long is stuck

struct Failure {
    int exit_code;
    std::string text;
};

std::vector<json> ask(const std::string& socket, sockbuf::ControlKind kind)
{
    netd::UniqueFd fd;
    if (int error = netd::connect_to(socket, fd); error != 0) {
        bool absent = error == ENOENT || error == ECONNREFUSED;
        bool refused = error == EACCES || error == EPERM;
        throw Failure{refused ? netd::exit_permission : netd::exit_unavailable,
            absent ? fmt::format("netd is not running on {}", socket)
                   : fmt::format("cannot reach netd on {}: {}", socket, std::strerror(error))};
    }
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockbuf::AdmissionRequest request{sockbuf::abi_magic, sockbuf::abi_version,
        static_cast<std::uint32_t>(sockbuf::Hello::control), static_cast<std::int32_t>(kind)};
    std::string text;
    bool ended = false;
    netd::send_packet(fd.get(), {reinterpret_cast<const char*>(&request), sizeof request});
    while (!ended) {
        static char packet[65536];
        bool whole = true;
        long n = netd::receive_packet(fd.get(), packet, sizeof packet, 0, whole);
        if (n == 0 || n == -ECONNRESET || n == -EPIPE) { // closed, perhaps with our request unread
            break;
        }
        if (n < 0) {
            throw Failure{netd::exit_unavailable,
                fmt::format("netd on {} does not answer: {}", socket, std::strerror(static_cast<int>(-n)))};
        }
        std::string_view piece(packet, static_cast<std::size_t>(n));
        ended = piece == sockbuf::control_end;
        text.append(ended ? "" : piece);
    }
    if (!ended && text.empty()) {
        throw Failure{netd::exit_permission, fmt::format("netd on {} turned us away; its log says why", socket)};
    }
    if (!ended) {
        throw Failure{netd::exit_unavailable, fmt::format("netd on {} ended in the middle of its answer", socket)};
    }
    std::vector<json> lines;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
        if (!line.empty()) {
            lines.push_back(json::parse(line));
        }
    }
    return lines;
}

void print_table(const std::vector<std::vector<std::string>>& rows, const std::vector<bool>& right)
{
    std::vector<std::size_t> width(right.size(), 0);
    for (const auto& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) {
            width[i] = std::max(width[i], row[i].size());
        }
    }
    for (const auto& row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            line += right[i] ? fmt::format("{:>{}}  ", row[i], width[i]) : fmt::format("{:<{}}  ", row[i], width[i]);
        }
        line.erase(line.find_last_not_of(' ') + 1);
        netd::print(stdout, fmt::format("{}\n", line));
    }
}

std::string text_of(const json& value)
{
    return value.is_string() ? value.get<std::string>() : value.dump();
}

void show_sockets(std::vector<json> lines, bool as_json)
{
    if (as_json) {
        netd::print(stdout, fmt::format("{}\n", json{{"sockets", lines}}.dump(2)));
        return;
    }
    static constexpr const char* keys[] = {
        "type", "state", "recv_q", "send_q", "local", "peer", "cpu", "client", "holders"};
    std::vector<std::vector<std::string>> rows{
        {"Type", "State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port", "CPU", "Client", "Holders"}};
    for (const json& line : lines) {
        auto& row = rows.emplace_back();
        for (const char* key : keys) {
            row.push_back(text_of(line.at(key)));
        }
    }
    print_table(rows, {false, false, true, true, false, false, true, true, true});
}

void show_addresses(const std::vector<json>& lines, bool as_json)
{
    if (as_json) {
        netd::print(stdout, fmt::format("{}\n", json{{"addresses", lines}}.dump(2)));
        return;
    }
    std::vector<std::vector<std::string>> rows{{"Interface", "Index", "Address", "State"}};
    for (const json& line : lines) {
        rows.push_back({text_of(line.at("interface")), text_of(line.at("index")), text_of(line.at("address")),
            text_of(line.at("state"))});
    }
    print_table(rows, {false, true, false, false});
}

struct Value {
    std::uint64_t total = 0;
    std::map<std::size_t, std::uint64_t> cpus;
};

void show_counters(const std::vector<json>& lines, bool as_json)
{
    std::vector<std::string> order;
    std::map<std::string, Value> values;
    std::size_t cpus = 0;
    for (const json& line : lines) {
        auto name = line.at("name").get<std::string>();
        auto [it, added] = values.try_emplace(name);
        if (added) {
            order.push_back(name);
        }
        auto n = line.at("value").get<std::uint64_t>();
        it->second.total = line.contains("highest") ? std::max(it->second.total, n) : it->second.total + n;
        if (line.contains("cpu")) {
            std::size_t cpu = line.at("cpu").get<std::size_t>();
            it->second.cpus[cpu] = n;
            cpus = std::max(cpus, cpu + 1);
        }
    }
    if (as_json) {
        json all = json::object();
        for (auto& [name, v] : values) {
            all[name] = {{"total", v.total}, {"cpus", json::array()}};
            for (auto& [cpu, n] : v.cpus) {
                all[name]["cpus"].push_back(n);
            }
        }
        netd::print(stdout, fmt::format("{}\n", json{{"counters", all}}.dump(2)));
        return;
    }
    std::vector<std::vector<std::string>> rows{{"Counter", "Total"}};
    std::vector<bool> right{false, true};
    for (std::size_t cpu = 0; cpu < cpus; ++cpu) {
        rows[0].push_back(fmt::format("CPU {}", cpu));
        right.push_back(true);
    }
    for (const std::string& name : order) {
        const Value& v = values[name];
        auto& row = rows.emplace_back(std::vector<std::string>{name, std::to_string(v.total)});
        for (auto& [cpu, n] : v.cpus) {
            row.push_back(std::to_string(n));
        }
    }
    print_table(rows, right);
}

} // namespace

int main(int argc, char** argv)
{
    CLI::App app{"Shows the sockets, counters and addresses of a running netd."};
    std::string socket = sockbuf::client_socket_path();
    bool as_json = false;
    app.add_option("--socket", socket, "netd's socket")->capture_default_str();
    app.set_version_flag("--version", NETD_VERSION);
    auto* ss = app.add_subcommand("ss", "the sockets netd holds, as ss -tan would show them");
    auto* stat = app.add_subcommand("stat", "counters of CPUs, interfaces and protocols");
    auto* addr = app.add_subcommand("addr", "the addresses of the interfaces, and the routers they have heard of");
    for (CLI::App* command : {ss, stat, addr}) {
        command->add_flag("--json", as_json, "JSON instead of a table");
    }
    app.add_flag("--json", as_json, "JSON instead of a table");
    app.require_subcommand(1);
    try {
        app.parse(argc, argv);
        if (ss->parsed()) {
            show_sockets(ask(socket, sockbuf::ControlKind::ss), as_json);
        } else if (addr->parsed()) {
            show_addresses(ask(socket, sockbuf::ControlKind::addr), as_json);
        } else {
            show_counters(ask(socket, sockbuf::ControlKind::stat), as_json);
        }
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? netd::exit_ok : netd::exit_usage;
    } catch (const Failure& f) {
        netd::print(stderr, fmt::format("netctl: {}\n", f.text));
        return f.exit_code;
    } catch (const json::exception& e) {
        netd::print(stderr, fmt::format("netctl: netd on {} answers in another language: {}\n", socket, e.what()));
        return netd::exit_software;
    }
    return netd::all_written("netctl");
}
