// See scale_world.hpp.
#include "benchmarks/scale_world.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/check.hpp"
#include "embed/netd.hpp"
#include "protocols/stack_counters.hpp"

namespace bench {
namespace {

constexpr std::size_t message_bytes = 64;
constexpr std::uint16_t port = 7000;
constexpr unsigned ring_shift = 13;    // 8 KiB: no workload here has more under way on one socket
constexpr base::Micros settle{50'000}; // acknowledgements and frees of what is over
constexpr unsigned share_shift = 25;   // address space for rings per CPU: 32 MiB
constexpr std::size_t line_bytes = 64;

struct World {
    explicit World(const ScaleRun& run);
    embed::Stack& clients() { return *stacks.front(); }
    embed::Stack& servers() { return *stacks.back(); }
    void step() { INVARIANT(simulation.step()); } // a world in which nothing can happen any more is stuck
    ScaleCounts count();

    embed::Simulation simulation;
    drivers::SimLink link;
    std::vector<std::unique_ptr<embed::Stack>> stacks;
    base::Endpoint server;
};

embed::StackConfig stack_config(const ScaleRun& run, embed::Simulation& simulation, std::uint64_t seed)
{
    embed::StackConfig c;
    c.pin.assign(run.cpus, -1);
    c.simulation = &simulation;
    c.seed = seed;
    c.gateway.segment.sockets = static_cast<std::uint32_t>((8 * run.concurrency + 64 * run.cpus + 63) / 64 * 64);
    c.gateway.segment.ring_memory = std::uint64_t{run.cpus + 1} << share_shift;
    c.gateway.send_ring_shift = c.gateway.receive_ring_shift = ring_shift;
    return c;
}

World::World(const ScaleRun& run) : simulation(run.seed)
{
    std::string error;
    stacks.push_back(std::make_unique<embed::Stack>(stack_config(run, simulation, run.seed * 2)));
    bool good = true;
    if (run.wire == ScaleWire::link) {
        stacks.push_back(std::make_unique<embed::Stack>(stack_config(run, simulation, run.seed * 2 + 1)));
        drivers::SimLinkOptions wire;
        wire.tso = false;
        wire.seed = run.seed;
        good = embed::join(clients(), "10.0.0.1/16", servers(), "10.0.0.2/16", wire, link, error);
    }
    for (auto& stack : stacks) {
        good = good && stack->start(error);
    }
    INVARIANT(good);
    server = {base::IpAddr::v4(run.wire == ScaleWire::link ? 0x0a000002 : 0x7f000001), port};
}

ScaleCounts World::count()
{
    simulation.run_for(settle);
    ScaleCounts sum;
    for (auto& stack : stacks) {
        for (std::size_t i = 0; i < stack->cpus().size(); ++i) {
            auto id = static_cast<base::CpuId>(i);
            const lwkt::CpuCounters& cpu = stack->cpus().cpu(id).counters();
            const protocols::StackCounters& net = stack->protocols().domain(id).counters;
            sum.messages += cpu.messages_out;
            sum.frees += cpu.passive_out;
            sum.batches += cpu.doorbells_sent + cpu.doorbells_suppressed;
            sum.forwarded += net.steer_forwarded + net.udp_forwarded;
        }
    }
    return sum;
}

std::uint64_t received(embed::Stack& stack, base::CpuId id)
{
    std::uint64_t sum = 0;
    for (const auto& interface : stack.protocols().interfaces()) {
        sum += interface->netif->counters(id).in_packets;
    }
    return sum;
}

embed::Socket open(embed::Stack& stack, int type)
{
    embed::Socket s;
    INVARIANT(embed::Socket::open(stack, type | SOCK_NONBLOCK, s) == 0);
    return s;
}

// A whole message, nothing yet, or the end.
enum class Got { message, nothing, end };
Got receive(embed::Socket& s)
{
    char buffer[message_bytes];
    ssize_t n = s.recv(buffer);
    INVARIANT(n == message_bytes || n == 0 || n == -EAGAIN);
    return n == 0 ? Got::end : n == -EAGAIN ? Got::nothing : Got::message;
}
void send(embed::Socket& s)
{
    static constexpr char message[message_bytes] = {};
    INVARIANT(s.send({message, message_bytes}, MSG_NOSIGNAL) == message_bytes);
}

// The world goes on while the call waits for its reply, sometimes until the connection stands.
void connect(World& w, embed::Socket& s)
{
    int rc = s.connect(w.server);
    INVARIANT(rc == 0 || rc == -EINPROGRESS);
}

// ---- connect, request, response, close ------------------------------------------------------------------------------

struct Connecting {
    embed::Socket socket;
    bool sent = false;
    bool answered = false;
};

// True when the connection has gone through and is closed.
bool advance(Connecting& c)
{
    if (!c.sent) {
        std::uint32_t ready = c.socket.readiness(EPOLLOUT | EPOLLERR | EPOLLHUP);
        INVARIANT((ready & (EPOLLERR | EPOLLHUP)) == 0);
        if ((ready & EPOLLOUT) == 0) {
            return false;
        }
        send(c.socket);
        c.sent = true;
    }
    if (!c.answered) {
        Got got = receive(c.socket);
        INVARIANT(got != Got::end);
        c.answered = got == Got::message;
    }
    return c.answered && receive(c.socket) == Got::end;
}

// The server closes first, so TIME-WAIT is its, and the client's ports come back.
void serve(embed::Socket& listener, std::vector<embed::Socket>& accepted)
{
    embed::Socket s;
    while (listener.accept(s, nullptr, SOCK_NONBLOCK) == 0) {
        accepted.push_back(std::move(s));
    }
    for (std::size_t i = 0; i < accepted.size();) {
        if (receive(accepted[i]) == Got::message) {
            send(accepted[i]);
            std::swap(accepted[i], accepted.back());
            accepted.pop_back();
        } else {
            ++i;
        }
    }
}

void connections(World& w, embed::Socket& listener, std::size_t operations, std::size_t concurrency)
{
    std::vector<Connecting> clients;
    std::vector<embed::Socket> accepted;
    std::size_t started = 0;
    for (std::size_t done = 0; done < operations;) {
        while (clients.size() < concurrency && started < operations) {
            clients.push_back({open(w.clients(), SOCK_STREAM)});
            connect(w, clients.back().socket);
            ++started;
        }
        w.step();
        serve(listener, accepted);
        for (std::size_t i = 0; i < clients.size();) {
            if (advance(clients[i])) {
                std::swap(clients[i], clients.back());
                clients.pop_back();
                ++done;
            } else {
                ++i;
            }
        }
    }
}

// ---- requests and responses on sockets that stay --------------------------------------------------------------------

struct Pair {
    embed::Socket client;
    embed::Socket server; // none for datagrams: one socket serves them all
};

std::vector<Pair> connect_pairs(World& w, embed::Socket& listener, std::size_t count)
{
    std::vector<Pair> pairs(count);
    for (Pair& p : pairs) {
        p.client = open(w.clients(), SOCK_STREAM);
        connect(w, p.client);
        while (listener.accept(p.server, nullptr, SOCK_NONBLOCK) != 0) {
            w.step();
        }
        while ((p.client.readiness(EPOLLOUT) & EPOLLOUT) == 0) {
            w.step();
        }
    }
    return pairs;
}

std::vector<Pair> datagram_clients(World& w, std::size_t count)
{
    std::vector<Pair> pairs(count);
    for (Pair& p : pairs) {
        p.client = open(w.clients(), SOCK_DGRAM);
        INVARIANT(p.client.connect(w.server) == 0);
    }
    return pairs;
}

void answer_datagrams(embed::Socket& server)
{
    char buffer[message_bytes];
    base::Endpoint from;
    while (server.recv_from(buffer, from) == message_bytes) {
        INVARIANT(server.send_to({buffer, message_bytes}, from) == message_bytes);
    }
}

// Every client asks at once, all are answered, and again.
void requests(World& w, std::span<Pair> pairs, embed::Socket* datagram_server, std::size_t operations)
{
    for (std::size_t asked = 0; asked < operations; asked += pairs.size()) {
        for (Pair& p : pairs) {
            send(p.client);
        }
        std::vector<bool> answered(pairs.size());
        for (std::size_t left = pairs.size(); left != 0;) {
            w.step();
            if (datagram_server != nullptr) {
                answer_datagrams(*datagram_server);
            }
            for (std::size_t i = 0; i < pairs.size(); ++i) {
                if (datagram_server == nullptr && receive(pairs[i].server) == Got::message) {
                    send(pairs[i].server);
                }
                if (!answered[i] && receive(pairs[i].client) == Got::message) {
                    answered[i] = true;
                    --left;
                }
            }
        }
    }
}

} // namespace

double ScaleCounts::line_transfers() const
{
    constexpr double packet_lines = (sizeof(netmsg::Packet) + line_bytes - 1) / line_bytes;
    constexpr double slots_per_line = line_bytes / sizeof(void*);
    constexpr double there_and_back = 2;
    auto m = static_cast<double>(messages);
    double lines = m + m / slots_per_line + static_cast<double>(batches) +
                   static_cast<double>(forwarded) * packet_lines; // the rest of the descriptor, and the headers
    return there_and_back * lines;
}

ScaleCounts run_scale(const ScaleRun& run)
{
    World w(run);
    bool datagrams = run.work == ScaleWork::udp;
    std::uint64_t before_bind = w.count().messages;
    embed::Socket server = open(w.servers(), datagrams ? SOCK_DGRAM : SOCK_STREAM);
    INVARIANT(server.bind(w.server) == 0);
    INVARIANT(datagrams || server.listen(static_cast<int>(run.concurrency)) == 0);
    std::uint64_t walks = w.count().messages - before_bind;
    std::vector<Pair> pairs;
    std::size_t operations = run.operations;
    if (run.work == ScaleWork::conn) {
        connections(w, server, run.concurrency, run.concurrency); // neighbours are known, pools are filled
    } else {
        pairs = datagrams ? datagram_clients(w, run.concurrency) : connect_pairs(w, server, run.concurrency);
        for (Pair& p : pairs) { // one by one: datagrams that wait for a neighbour's address are few
            requests(w, {&p, 1}, datagrams ? &server : nullptr, 1);
        }
        operations = (operations + pairs.size() - 1) / pairs.size() * pairs.size();
    }
    ScaleCounts before = w.count();
    std::vector<std::uint64_t> packets_before;
    for (std::size_t i = 0; i < run.cpus; ++i) {
        packets_before.push_back(received(w.servers(), static_cast<base::CpuId>(i)));
    }
    if (run.work == ScaleWork::conn) {
        connections(w, server, operations, run.concurrency);
    } else {
        requests(w, pairs, datagrams ? &server : nullptr, operations);
    }
    ScaleCounts r = w.count();
    r.operations = operations;
    r.walks_port = walks;
    r.messages -= before.messages;
    r.frees -= before.frees;
    r.forwarded -= before.forwarded;
    r.batches -= before.batches;
    for (std::size_t i = 0; i < run.cpus; ++i) {
        std::uint64_t n = received(w.servers(), static_cast<base::CpuId>(i)) - packets_before[i];
        r.packets += n;
        r.busiest = std::max(r.busiest, n);
    }
    return r;
}

} // namespace bench
