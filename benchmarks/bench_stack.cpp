// bench-stack: the stack without a device. Application threads, distinct from the protocol threads, use the public
// sockets of one embedded stack over its loopback wire: connections, request and response, datagrams, bulk. The same
// work on one protocol thread and on two, rounds alternating. One JSON object a line on stdout.
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "embed/netd.hpp"

namespace {

using Seconds = std::chrono::duration<double>;

constexpr unsigned client_threads = 2;    // each with a server thread as its partner
constexpr unsigned connections_each = 32; // rr and udp: outstanding requests of a client thread
constexpr std::size_t message_bytes = 64;
constexpr std::size_t bulk_bytes = 262144;
constexpr unsigned addresses = 200; // 127.0.0.1 and up: TIME-WAITs spread over them

struct Plan {
    Seconds round{1.0};
    int rounds = 5;
};

[[noreturn]] void give_up(const char* what, ssize_t error)
{
    std::fprintf(stderr, "bench-stack: %s: %s\n", what, std::strerror(static_cast<int>(-error)));
    std::exit(1);
}
ssize_t must(ssize_t result, const char* what)
{
    if (result < 0) {
        give_up(what, result);
    }
    return result;
}

base::Endpoint server(unsigned address, unsigned port)
{
    return {base::IpAddr::v4(0x7f000001 + address), static_cast<std::uint16_t>(5000 + port)};
}

embed::Socket open(embed::Stack& stack, int type)
{
    embed::Socket s;
    must(embed::Socket::open(stack, type, s), "socket");
    return s;
}

bool read_whole(embed::Socket& s, char* into, std::size_t size)
{
    std::size_t got = 0;
    while (got < size) {
        ssize_t n = s.recv({into + got, size - got});
        if (n <= 0) {
            return false;
        }
        got += static_cast<std::size_t>(n);
    }
    return true;
}

// A round: how many operations the client threads got done per second. `ready` is called once the servers serve; the
// clock runs from then on.
struct Round {
    embed::Stack& stack;
    Seconds time;
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> done{0};
};

double timed(Round& r, std::vector<std::thread>& clients)
{
    auto start = std::chrono::steady_clock::now();
    std::uint64_t before = r.done.load();
    std::this_thread::sleep_for(r.time);
    std::uint64_t n = r.done.load() - before;
    Seconds took = std::chrono::steady_clock::now() - start;
    r.stop = true;
    for (std::thread& t : clients) {
        t.join();
    }
    return static_cast<double>(n) / took.count();
}

// ---- connect, one request and response, close -----------------------------------------------------------------------

double connections(embed::Stack& stack, Seconds time)
{
    Round r{stack, time};
    std::vector<embed::Socket> listeners;
    std::vector<std::thread> servers;
    std::vector<std::thread> clients;
    for (unsigned i = 0; i < client_threads; ++i) {
        embed::Socket& l = listeners.emplace_back(open(stack, SOCK_STREAM));
        must(l.bind({base::IpAddr::any_v4(), server(0, i).port}), "bind");
        must(l.listen(512), "listen");
    }
    for (unsigned i = 0; i < client_threads; ++i) {
        servers.emplace_back([&, i] {
            char buffer[message_bytes];
            embed::Socket s;
            while (listeners[i].accept(s) == 0) {
                if (read_whole(s, buffer, sizeof buffer)) {
                    s.send({buffer, sizeof buffer}, MSG_NOSIGNAL);
                }
                s.close(); // first, so that the TIME-WAIT is the server's and ephemeral ports come back
            }
        });
        clients.emplace_back([&, i] {
            char buffer[message_bytes] = {};
            for (unsigned n = 0; !r.stop; ++n) {
                embed::Socket c = open(stack, SOCK_STREAM);
                must(c.connect(server(n % addresses, i)), "connect");
                must(c.send({buffer, sizeof buffer}), "send");
                if (!read_whole(c, buffer, sizeof buffer) || c.recv(buffer) != 0) {
                    give_up("connection", -EIO);
                }
                r.done.fetch_add(1, std::memory_order_relaxed);
            }
        });
    }
    double rate = timed(r, clients);
    for (embed::Socket& l : listeners) {
        l.shutdown(SHUT_RDWR);
    }
    for (std::thread& t : servers) {
        t.join();
    }
    return rate;
}

// ---- request and response on open connections -----------------------------------------------------------------------

double requests(embed::Stack& stack, Seconds time)
{
    Round r{stack, time};
    std::vector<embed::Socket> theirs[client_threads];
    std::vector<embed::Socket> ours[client_threads];
    embed::Socket listener = open(stack, SOCK_STREAM);
    must(listener.bind(server(0, 0)), "bind");
    must(listener.listen(512), "listen");
    for (unsigned i = 0; i < client_threads * connections_each; ++i) {
        embed::Socket& c = ours[i % client_threads].emplace_back(open(stack, SOCK_STREAM));
        must(c.connect(server(0, 0)), "connect");
        embed::Socket s;
        must(listener.accept(s), "accept");
        theirs[i % client_threads].push_back(std::move(s));
    }
    std::vector<std::thread> servers;
    std::vector<std::thread> clients;
    for (unsigned i = 0; i < client_threads; ++i) {
        servers.emplace_back([&, i] {
            char buffer[message_bytes];
            for (bool open_still = true; open_still;) {
                for (embed::Socket& s : theirs[i]) {
                    open_still = read_whole(s, buffer, sizeof buffer);
                    if (!open_still) {
                        break;
                    }
                    s.send({buffer, sizeof buffer}, MSG_NOSIGNAL);
                }
            }
        });
        clients.emplace_back([&, i] {
            char buffer[message_bytes] = {};
            while (!r.stop) {
                for (embed::Socket& c : ours[i]) {
                    must(c.send({buffer, sizeof buffer}), "send");
                }
                for (embed::Socket& c : ours[i]) {
                    if (!read_whole(c, buffer, sizeof buffer)) {
                        give_up("response", -EIO);
                    }
                }
                r.done.fetch_add(connections_each, std::memory_order_relaxed);
            }
            for (embed::Socket& c : ours[i]) {
                c.close();
            }
        });
    }
    double rate = timed(r, clients);
    for (std::thread& t : servers) {
        t.join();
    }
    return rate;
}

// ---- the same with datagrams ----------------------------------------------------------------------------------------

double datagrams(embed::Stack& stack, Seconds time)
{
    Round r{stack, time};
    std::vector<embed::Socket> sockets;
    for (unsigned i = 0; i < client_threads; ++i) {
        must(sockets.emplace_back(open(stack, SOCK_DGRAM)).bind(server(0, i)), "bind");
    }
    auto set_timeout = [](embed::Socket& s) {
        timeval patience{0, 100'000}; // a datagram may be dropped
        client::sock_setsockopt(s.session(), s.id(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    };
    std::vector<std::thread> servers;
    std::vector<std::thread> clients;
    for (unsigned i = 0; i < client_threads; ++i) {
        servers.emplace_back([&, i] {
            set_timeout(sockets[i]);
            char buffer[message_bytes];
            base::Endpoint from;
            while (!r.stop) {
                if (sockets[i].recv_from(buffer, from) == sizeof buffer) {
                    sockets[i].send_to({buffer, sizeof buffer}, from);
                }
            }
        });
        clients.emplace_back([&, i] {
            std::vector<embed::Socket> mine;
            for (unsigned n = 0; n < connections_each; ++n) {
                set_timeout(mine.emplace_back(open(stack, SOCK_DGRAM)));
                must(mine.back().connect(server(0, i)), "connect");
            }
            char buffer[message_bytes] = {};
            while (!r.stop) {
                for (embed::Socket& c : mine) {
                    must(c.send({buffer, sizeof buffer}), "send");
                }
                std::uint64_t answered = 0;
                for (embed::Socket& c : mine) {
                    answered += c.recv(buffer) == sizeof buffer ? 1 : 0;
                }
                r.done.fetch_add(answered, std::memory_order_relaxed);
            }
        });
    }
    double rate = timed(r, clients);
    for (std::thread& t : servers) {
        t.join();
    }
    return rate;
}

// ---- one stream -----------------------------------------------------------------------------------------------------

double bulk(embed::Stack& stack, Seconds time)
{
    Round r{stack, time};
    embed::Socket listener = open(stack, SOCK_STREAM);
    must(listener.bind(server(0, 0)), "bind");
    must(listener.listen(8), "listen");
    embed::Socket c = open(stack, SOCK_STREAM);
    must(c.connect(server(0, 0)), "connect");
    embed::Socket s;
    must(listener.accept(s), "accept");
    std::vector<std::thread> threads;
    threads.emplace_back([&] {
        std::string piece(bulk_bytes, 'x');
        while (!r.stop) {
            must(c.send(piece), "send");
        }
        c.close();
    });
    threads.emplace_back([&] {
        std::vector<char> piece(bulk_bytes);
        ssize_t n;
        while ((n = must(s.recv(piece), "recv")) != 0) {
            r.done.fetch_add(static_cast<std::uint64_t>(n), std::memory_order_relaxed);
        }
    });
    return timed(r, threads) * 8 / 1e9;
}

// ---- rounds and rows ------------------------------------------------------------------------------------------------

using Workload = double (*)(embed::Stack&, Seconds);

double run_on(std::size_t cpus, Workload work, Seconds time)
{
    embed::StackConfig config;
    config.pin.assign(cpus, -1);
    config.gateway.segment.sockets = 8192;
    embed::Stack stack(config);
    std::string error;
    if (!stack.start(error)) {
        std::fprintf(stderr, "bench-stack: %s\n", error.c_str());
        std::exit(1);
    }
    return work(stack, time);
}

void row(const char* name, std::vector<double> values, const char* unit, const char* why)
{
    std::sort(values.begin(), values.end());
    std::printf("{\"name\": \"%s\", \"value\": %.4g, \"unit\": \"%s\", \"low\": %.4g, \"high\": %.4g, \"runs\": %zu, "
                "\"why\": \"%s\"}\n",
        name, values[values.size() / 2], unit, values.front(), values.back(), values.size(), why);
    std::fflush(stdout);
}

void compare(const Plan& plan, Workload work, const char* ratio_name, const char* rate_name)
{
    std::vector<double> one;
    std::vector<double> ratio;
    for (int i = 0; i < plan.rounds; ++i) {
        double up = run_on(1, work, plan.round);
        double smp = run_on(2, work, plan.round);
        one.push_back(up);
        ratio.push_back(up > 0 ? smp / up : 0);
        std::fprintf(stderr, "%s round %d: 1 CPU %.0f/s, 2 CPUs %.0f/s\n", ratio_name, i + 1, up, smp);
    }
    row(ratio_name, ratio, "ratio",
        "2 protocol threads : 1, alternating; 2 client and 2 server threads, loopback wire");
    if (rate_name != nullptr) {
        row(rate_name, one, "1/s", "1 protocol thread, 2 client and 2 server threads, loopback wire");
    }
}

} // namespace

int main(int argc, char** argv)
{
    Plan plan;
    for (int i = 1; i < argc; ++i) {
        if (std::string(argv[i]) != "--quick") {
            std::fprintf(stderr, "usage: bench-stack [--quick]\n");
            return 64;
        }
        plan = {Seconds{0.2}, 5};
    }
    compare(plan, connections, "ratio.smp_conn", "stack.conn_per_s");
    compare(plan, requests, "ratio.smp_rr", "stack.rr_per_s");
    compare(plan, datagrams, "ratio.smp_udp", nullptr);
    std::vector<double> gbps;
    for (int i = 0; i < plan.rounds; ++i) {
        gbps.push_back(run_on(1, bulk, plan.round));
    }
    row("stack.bulk_gbps", gbps, "Gbit/s", "1 protocol thread, 1 connection, loopback wire");
    return 0;
}
