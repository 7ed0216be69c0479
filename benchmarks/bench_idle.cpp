// bench-idle: what an idle connection costs in memory, and how many are held in a given memory. Whole stacks in
// virtual time on one thread: the connections run over the loopback wire, so each has both its ends in this process;
// every figure is per end (a socket of netd and its slot in shared memory, without the application's list of sockets).
// Each connection carries one request and its answer before it falls idle; they come in waves, so that few are awake at
// once. The sum is the growth of the resident set, shared memory included; beside it an account by component. One JSON
// object a line on stdout; 1 % of the connections then carry a request again, answers checked. Without a limit given:
// as many as fit in a time and in a part of the memory that is free.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "client/sockaddr.hpp"
#include "client/socket_calls.hpp"
#include "drivers/loopback.hpp"
#include "embed/host.hpp"
#include "gateway/client_record.hpp"
#include "protocols/tcp/tcp_domain.hpp"

namespace {

constexpr std::uint32_t sockets_each = sockbuf::max_sockets; // slots of a family
constexpr std::uint32_t connections_each = sockets_each - 1024;
constexpr std::uint32_t per_address = 20000; // connections to one address: ephemeral ports
constexpr std::size_t message_bytes = 64;
// Connections made before the next pause, in which they fall asleep; their rings stay warm.
constexpr std::uint64_t wave = 32;
constexpr double free_memory_part = 0.6;
constexpr double hold_part = 0.8; // of the time; what remains is for the active ones
// Per slot, private: what it holds, generation, owner.
constexpr std::size_t arrays_bytes = 8 + 4 + 2;

struct Plan {
    std::uint64_t connections = ~std::uint64_t{0};
    std::uint64_t memory = 0; // bytes; 0 = a part of what is free
    double seconds = 240;
    std::size_t cpus = 1;
    std::uint64_t ring_memory = std::uint64_t{1} << 36; // address space for rings, a family
};

[[noreturn]] void give_up(const char* what, ssize_t error)
{
    std::fprintf(stderr, "bench-idle: %s: %s\n", what, std::strerror(static_cast<int>(-error)));
    std::exit(1);
}
ssize_t must(ssize_t result, const char* what)
{
    if (result < 0) {
        give_up(what, result);
    }
    return result;
}

std::uint64_t resident_bytes()
{
    unsigned long size = 0;
    unsigned long resident = 0;
    std::FILE* f = std::fopen("/proc/self/statm", "r");
    if (f == nullptr || std::fscanf(f, "%lu %lu", &size, &resident) != 2) {
        give_up("/proc/self/statm", -EIO);
    }
    std::fclose(f);
    return std::uint64_t{resident} * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

std::uint64_t available_bytes()
{
    std::ifstream file("/proc/meminfo");
    for (std::string name, rest; file >> name && std::getline(file, rest);) {
        if (name == "MemAvailable:") {
            return std::strtoull(rest.c_str(), nullptr, 10) << 10;
        }
    }
    give_up("/proc/meminfo", -EIO);
}

// A family of applications in this process.
struct Family {
    gateway::Client* client = nullptr;
    std::unique_ptr<embed::SimulationHost> host;
    client::Session session;
    std::uint32_t lane_turn = 0;
    std::vector<client::Sock> sockets;
    client::Sock listener;
};

struct World {
    explicit World(const Plan& plan) : set(world.clock(), set_options(plan)), stack(set, stack_options(plan))
    {
        std::string error;
        if (stack.add_interface(std::make_unique<drivers::Loopback>(), {{base::IpAddr::v4(0x7f000001), 8}}, error) ==
            nullptr) {
            give_up(error.c_str(), 0);
        }
        gateway::GatewayOptions o;
        o.segment.sockets = sockets_each;
        o.segment.ring_memory = plan.ring_memory;
        o.clients_max = 100'000;
        gateway = std::make_unique<gateway::Gateway>(stack, o);
        gateway->set_wake([this](std::uint32_t id, std::uint32_t waiter) { families[id - 1]->host->wake(waiter); });
        world.add(set);
    }
    ~World()
    {
        for (auto& f : families) {
            f->host->leave();
        }
        gateway.reset();
        world.remove(set);
    }
    static lwkt::CpuSetOptions set_options(const Plan& plan)
    {
        lwkt::CpuSetOptions o;
        o.pin.assign(plan.cpus, -1);
        return o;
    }
    static protocols::StackOptions stack_options(const Plan& plan)
    {
        protocols::StackOptions o;
        o.seed = 1;
        o.connections_per_cpu = 0xffffffff;
        o.packets.packets_per_cpu = 1024;
        o.packets.large_per_cpu = 16;
        (void)plan;
        return o;
    }
    // Null with `error` set when no more fit.
    Family* attach(std::string& error)
    {
        gateway::Client* client = gateway->attach(1, error);
        if (client == nullptr) {
            return nullptr;
        }
        Family& f = *families.emplace_back(std::make_unique<Family>());
        f.client = client;
        f.host = std::make_unique<embed::SimulationHost>(*gateway, set, world);
        f.host->join(*f.client);
        f.session.view = gateway->segment(*f.client).view();
        f.session.sleep_words = nobody_sleeps;
        f.session.host = f.host.get();
        f.session.lane_turn = &f.lane_turn;
        return &f;
    }

    embed::Simulation world{1};
    lwkt::CpuSet set;
    protocols::Stack stack;
    std::unique_ptr<gateway::Gateway> gateway;
    std::vector<std::unique_ptr<Family>> families;
    std::atomic<std::uint32_t> nobody_sleeps[16 * sockbuf::max_cpus] = {};
};

struct Address {
    Address(std::uint32_t host, std::uint16_t port)
    {
        size = sizeof storage;
        base::IpAddr a = base::IpAddr::v4(host);
        client::write_sockaddr(AF_INET, a.bytes(), port, get(), &size);
    }
    sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
    sockaddr_storage storage{};
    socklen_t size = 0;
};

// One message with its own contents: `way` 0 the request, 1 the answer.
struct Message {
    Message() = default;
    Message(std::uint64_t number, int way)
    {
        std::memcpy(bytes, &number, sizeof number);
        bytes[63] = static_cast<char>(way);
    }
    std::uint64_t number() const
    {
        std::uint64_t n = 0;
        std::memcpy(&n, bytes, sizeof n);
        return n;
    }
    bool operator==(const Message&) const = default;

    char bytes[message_bytes] = {};
};

bool say(Family& from, client::Sock k, const Message& m)
{
    return client::sock_send(from.session, k, m.bytes, sizeof m.bytes, 0, nullptr, 0) == sizeof m.bytes;
}
bool hear(Family& by, client::Sock k, Message& m)
{
    return client::sock_recv(by.session, k, m.bytes, sizeof m.bytes, MSG_WAITALL, nullptr, nullptr) == sizeof m.bytes;
}
bool hear(Family& by, client::Sock k, const Message& expected)
{
    Message m;
    return hear(by, k, m) && m == expected;
}

client::Sock open(Family& f, int flags = 0)
{
    client::Sock k;
    must(client::sock_socket(f.session, AF_INET, SOCK_STREAM | flags, 0, k), "socket");
    return k;
}

struct Held {
    std::uint64_t connections = 0;
    std::uint64_t resident = 0; // growth, bytes
    std::string stopped;        // by what
};

// Whether there is room and time for another wave; else says what there is not.
class Limits {
public:
    explicit Limits(const Plan& plan)
        : plan_(plan), end_(Clock::now() + std::chrono::duration<double>(plan.seconds * hold_part))
    {
        memory_ = plan.memory != 0
                      ? plan.memory
                      : static_cast<std::uint64_t>(static_cast<double>(available_bytes()) * free_memory_part);
    }
    bool more(Held& h) const
    {
        h.resident = grown(h);
        h.stopped = h.connections >= plan_.connections ? "the number that was asked for"
                    : h.resident >= memory_            ? "memory: " + std::to_string(memory_ >> 20) + " MiB"
                    : Clock::now() >= end_ ? "time: " + std::to_string(static_cast<int>(plan_.seconds)) + " s in all"
                                           : "";
        return h.stopped.empty();
    }
    // Without what the applications, which are in this process, keep of their sockets.
    std::uint64_t grown(const Held& h) const
    {
        return resident_bytes() - before_ - 2 * h.connections * sizeof(client::Sock);
    }

private:
    using Clock = std::chrono::steady_clock;
    const Plan& plan_;
    std::chrono::time_point<Clock, std::chrono::duration<double>> end_;
    std::uint64_t memory_ = 0;
    std::uint64_t before_ = resident_bytes();
};

// `n` connections at once, as a server meets them, numbers of their own on their requests: one at a time each of a
// dozen waits would end in a look at all families. What they say tells which end belongs to which.
void open_wave(Family& a, Family& b, std::uint16_t port, std::uint32_t n, std::uint64_t number)
{
    std::size_t first = a.sockets.size();
    for (std::uint32_t i = 0; i < n; ++i) {
        client::Sock c = open(a, SOCK_NONBLOCK);
        Address to(0x7f000001 + static_cast<std::uint32_t>(first + i) / per_address, port);
        if (int e = client::sock_connect(a.session, c, to.get(), to.size); e != -EINPROGRESS) {
            must(e, "connect");
        }
        client::sock_set_status_flags(a.session, c, client::sock_status_flags(a.session, c) & ~O_NONBLOCK);
        a.sockets.push_back(c);
    }
    b.sockets.resize(first + n);
    std::vector<client::Sock> accepted(n);
    for (client::Sock& s : accepted) {
        must(client::sock_accept(b.session, b.listener, nullptr, nullptr, 0, s), "accept");
    }
    bool good = true;
    for (std::uint32_t i = 0; i < n; ++i) {
        good = good && say(a, a.sockets[first + i], {number + i, 0});
    }
    for (client::Sock s : accepted) {
        Message m;
        good = good && hear(b, s, m) && m.number() - number < n && m == Message(m.number(), 0);
        if (good) {
            b.sockets[first + (m.number() - number)] = s;
            good = say(b, s, {m.number(), 1});
        }
    }
    for (std::uint32_t i = 0; i < n; ++i) {
        good = good && hear(a, a.sockets[first + i], Message(number + i, 1));
    }
    if (!good) {
        give_up("first request", -EIO);
    }
}

// A pair of families, as many connections between them as their slots hold.
void fill(World& w, Family& a, Family& b, std::uint16_t port, const Limits& limits, Held& h)
{
    b.listener = open(b);
    Address any(0, port);
    must(client::sock_bind(b.session, b.listener, any.get(), any.size), "bind");
    must(client::sock_listen(b.session, b.listener, 128), "listen");
    while (a.sockets.size() < connections_each) {
        w.world.run_for(base::seconds(5)); // the last ones fall asleep
        if (!limits.more(h)) {
            return;
        }
        auto n = static_cast<std::uint32_t>(std::min(wave, connections_each - a.sockets.size()));
        open_wave(a, b, port, n, h.connections);
        h.connections += n;
    }
}

Held hold(World& w, const Plan& plan)
{
    Held h;
    Limits limits(plan);
    for (std::uint16_t port = 1024; limits.more(h) && port != 0; ++port) {
        std::string error;
        Family* a = w.attach(error);
        Family* b = a == nullptr ? nullptr : w.attach(error);
        if (b == nullptr) {
            h.stopped = "no room for another family: " + error;
            break;
        }
        fill(w, *a, *b, port, limits, h);
    }
    w.world.run_for(base::seconds(60));
    h.resident = limits.grown(h);
    return h;
}

std::uint64_t check_active(World& w)
{
    std::uint64_t good = 0;
    for (std::size_t f = 0; f + 1 < w.families.size(); f += 2) {
        Family& a = *w.families[f];
        Family& b = *w.families[f + 1];
        for (std::size_t i = 0; i < a.sockets.size(); i += 100) {
            std::uint64_t number = i ^ 0x5555;
            if (!say(a, a.sockets[i], {number, 0}) || !hear(b, b.sockets[i], Message(number, 0)) ||
                !say(b, b.sockets[i], {number, 1}) || !hear(a, a.sockets[i], Message(number, 1))) {
                give_up("request of the active ones", -EIO);
            }
            ++good;
        }
    }
    return good;
}

void report(World& w, const Plan& plan, const Held& h)
{
    auto ends = static_cast<double>(2 * h.connections);
    double each = static_cast<double>(h.resident) / ends;
    std::uint64_t rings = w.gateway->ring_bytes_in_use();
    std::uint64_t asleep = 0;
    for (std::size_t i = 0; i < w.set.size(); ++i) {
        asleep += w.stack.domain(static_cast<base::CpuId>(i)).tcp->idle_slab.in_use();
    }
    std::printf("{\"name\": \"bytes.idle_connection\", \"value\": %.0f, \"unit\": \"bytes\", \"why\": \"resident "
                "growth per end of %" PRIu64 " idle connections, each after one request, in waves of %" PRIu64 "; slot "
                "%zu, asleep %zu (%" PRIu64 " of the ends), arrays %zu, table 8 to 16; awake: record %zu, tcb %zu, "
                "rings in use %" PRIu64 "\"}\n",
        each, h.connections, wave, sizeof(sockbuf::SocketSlot), sizeof(protocols::IdleConnection), asleep, arrays_bytes,
        sizeof(gateway::SocketRecord), sizeof(protocols::Tcb), rings);
    std::fflush(stdout);
    std::uint64_t good = check_active(w);
    std::printf("{\"name\": \"conns.max\", \"value\": %" PRIu64
                ", \"unit\": \"connections\", \"why\": \"both ends held "
                "in %.2f GiB of growth, %zu families, then stopped by %s; then %" PRIu64
                " of them active, every answer right; %zu "
                "protocol CPUs in virtual time; by the bytes above 24 GiB hold %.2f million ends\"}\n",
        h.connections, static_cast<double>(h.resident) / (1U << 30), w.families.size(), h.stopped.c_str(), good,
        plan.cpus, 24.0 * (1U << 30) / each / 1e6);
}

} // namespace

int main(int argc, char** argv)
{
    Plan plan;
    for (int i = 1; i < argc; ++i) {
        std::string arg = argv[i];
        auto number = [&] { return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : 0; };
        if (arg == "--quick") {
            plan.connections = 10'000;
        } else if (arg == "--connections") {
            plan.connections = number();
        } else if (arg == "--memory") {
            plan.memory = number() << 20;
        } else if (arg == "--seconds") {
            plan.seconds = static_cast<double>(number());
        } else if (arg == "--cpus") {
            plan.cpus = number();
        } else if (arg == "--ring-memory") {
            plan.ring_memory = number() << 20;
        } else {
            std::fprintf(stderr,
                "usage: bench-idle [--quick] [--connections N] [--memory MiB] [--seconds S] [--cpus N] "
                "[--ring-memory MiB]\n");
            return 64;
        }
    }
    World w(plan);
    Held h = hold(w, plan);
    report(w, plan, h);
    std::fflush(stdout);
    _exit(0); // the connections go with the process: tearing them down is not measured
}
