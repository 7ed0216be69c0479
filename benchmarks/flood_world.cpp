// See flood_world.hpp.
#include "benchmarks/flood_world.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <thread>

#include "base/check.hpp"
#include "benchmarks/flood_netif.hpp"
#include "embed/netd.hpp"
#include "lwkt/topology.hpp"
#include "protocols/tcp/tcp_domain.hpp"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t message_bytes = 64;
constexpr std::size_t exchange_connections = 16;
constexpr std::uint32_t other_sockets = 3968; // slots for whatever is not an idle connection
constexpr std::chrono::milliseconds control_pause{1};
constexpr std::chrono::milliseconds warm_up{100};
constexpr base::Micros timer_period{1000};
struct Option {
    int level, name, value;
};
constexpr Option keepalive[] = {{IPPROTO_TCP, TCP_KEEPIDLE, 1}, {IPPROTO_TCP, TCP_KEEPINTVL, 1},
    {IPPROTO_TCP, TCP_KEEPCNT, 2}, {SOL_SOCKET, SO_KEEPALIVE, 1}};
constexpr unsigned connects_max = 64; // until a CPU has the connection that its flood belongs to

base::Endpoint loopback(std::uint16_t port)
{
    return {base::IpAddr::v4(0x7f000001), port};
}

// Before anything floods: what does not work then cannot be measured.
void must(int result, const char* what)
{
    if (result != 0) {
        std::fprintf(stderr, "bench-flood: %s: %s\n", what, std::strerror(-result));
        std::exit(1);
    }
}

embed::Socket open(embed::Stack& stack, int type)
{
    embed::Socket s;
    INVARIANT(embed::Socket::open(stack, type, s) == 0);
    return s;
}

bool read_whole(embed::Socket& s)
{
    char buffer[message_bytes];
    std::size_t got = 0;
    while (got < message_bytes) {
        ssize_t n = s.recv({buffer + got, message_bytes - got});
        if (n <= 0) {
            return false;
        }
        got += static_cast<std::size_t>(n);
    }
    return true;
}

// Re-arms itself on the wheel of its domain and notes how late it was by the real clock.
struct Metronome : lwkt::Timer {
    explicit Metronome(protocols::Domain& of) : Timer(&Metronome::beat), domain(of) { late_us.reserve(1 << 16); }
    static void beat(lwkt::Timer& t)
    {
        auto& self = static_cast<Metronome&>(t);
        base::Instant now = self.clock.now();
        if (self.noting && self.late_us.size() < self.late_us.capacity()) {
            self.late_us.push_back(static_cast<double>((now - self.deadline()).count()));
        }
        self.domain.wheel.arm(self, now + timer_period);
    }

    protocols::Domain& domain;   // c
    lwkt::RealClock clock;       // c
    std::vector<double> late_us; // o
    bool noting = false;         // o
};

// In class clock: how long the thread itself, not the machine, kept its timers waiting. CPU time stands still while
// somebody else has the CPU.
struct GapWatch final : lwkt::Poller {
    static constexpr std::size_t gaps_max = 1 << 22;
    GapWatch() { gaps_us.reserve(gaps_max); }
    std::uint32_t poll(std::uint32_t) override
    {
        timespec t{};
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        double at = static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
        if (noting && gaps_us.size() < gaps_us.capacity()) {
            gaps_us.push_back(static_cast<float>(at - before_us));
        }
        before_us = at;
        return 0;
    }
    bool pending() const override { return false; }

    double before_us = 0;       // o
    std::vector<float> gaps_us; // o
    bool noting = false;        // o
};

} // namespace

void Samples::sort()
{
    std::sort(us.begin(), us.end());
}

double Samples::quantile(double q) const
{
    if (us.empty()) {
        return 0;
    }
    auto at = static_cast<std::size_t>(std::ceil(q * static_cast<double>(us.size())));
    return us[std::min(us.size() - 1, at == 0 ? 0 : at - 1)];
}

struct FloodWorld::Impl {
    Impl(const std::vector<int>& cpus, bool read, std::size_t idle);
    ~Impl();

    void start_thread(std::size_t cpu, std::function<void()> body);
    void connect_flood();
    void exchange(std::vector<embed::Socket>& clients);
    void answer(std::vector<embed::Socket>& servers);
    void call_control();
    void read_datagrams();
    void make_connections(std::size_t count, std::vector<embed::Socket>& clients, std::vector<embed::Socket>& servers);
    void note(bool on);
    std::uint64_t probes();
    std::uint64_t idle_lost();

    std::vector<int> cpus;
    embed::Stack stack;
    FloodNetif* flood = nullptr;
    std::vector<std::unique_ptr<Metronome>> metronomes;
    std::vector<std::unique_ptr<GapWatch>> watches;
    embed::Socket unread, read_from, listener, flood_listener;
    std::vector<embed::Socket> flood_clients, idle_clients, idle_servers, rr_clients, rr_servers;
    std::vector<std::thread> threads;
    std::atomic<bool> stop{false};
    std::atomic<bool> noting{false};
    std::atomic<std::uint64_t> exchanged{0};
    std::atomic<std::uint64_t> read{0};
    std::atomic<std::uint64_t> broken{0};  // established connections that ended
    std::atomic<std::uint64_t> refused{0}; // control calls while noting
    std::vector<double> control_us;        // of the control thread while noting; else the measuring one's
};

namespace {

embed::StackConfig flood_config(const std::vector<int>& cpus, std::size_t idle)
{
    embed::StackConfig c;
    c.pin = cpus;
    c.name = "flood";
    // Each CPU has its part of the slots and of the rings, and they may all be of one: room for that, and for as many
    // rings as there are before the first connections fall asleep.
    std::uint64_t ends = 2 * idle * cpus.size();
    c.gateway.segment.sockets = other_sockets + static_cast<std::uint32_t>((ends + 63) / 64 * 64);
    INVARIANT(c.gateway.segment.sockets <= sockbuf::max_sockets);
    c.gateway.segment.ring_memory += ends << (c.gateway.send_ring_shift + 1);
    return c;
}

} // namespace

FloodWorld::Impl::Impl(const std::vector<int>& of_cpus, bool with_reader, std::size_t idle)
    : cpus(of_cpus), stack(flood_config(of_cpus, idle))
{
    auto netif = std::make_unique<FloodNetif>(stack.protocols().steering());
    flood = netif.get();
    std::string error;
    bool good = stack.add_interface(std::move(netif), {"10.9.0.1/16"}, error) &&
                stack.add_route("0.0.0.0/0", base::to_string(flood_peer), error) && stack.start(error);
    INVARIANT(good);
    stack.cpus().call_all([this](lwkt::Cpu& cpu) {
        protocols::Domain& d = stack.protocols().domain(cpu.id());
        metronomes.push_back(std::make_unique<Metronome>(d));
        d.wheel.arm(*metronomes.back(), cpu.now() + timer_period);
        watches.push_back(std::make_unique<GapWatch>());
        cpu.add_poller(lwkt::Class::clock, *watches.back());
    });
    unread = open(stack, SOCK_DGRAM);
    INVARIANT(unread.bind({flood_local, flood_unread_port}) == 0);
    flood_listener = open(stack, SOCK_STREAM);
    INVARIANT(flood_listener.bind({flood_local, flood_listen_port}) == 0 && flood_listener.listen(128) == 0);
    listener = open(stack, SOCK_STREAM);
    INVARIANT(listener.bind(loopback(7)) == 0 && listener.listen(512) == 0);
    connect_flood();
    make_connections(idle, idle_clients, idle_servers);
    for (embed::Socket& s : idle_clients) {
        for (auto [level, name, value] : keepalive) {
            INVARIANT(s.set_option(level, name, value) == 0);
        }
    }
    make_connections(exchange_connections, rr_clients, rr_servers);
    listener.set_nonblocking(true);
    start_thread(0, [this] { answer(rr_servers); });
    start_thread(1, [this] { exchange(rr_clients); });
    start_thread(0, [this] { call_control(); });
    if (with_reader) {
        read_from = open(stack, SOCK_DGRAM);
        INVARIANT(read_from.bind({flood_local, flood_read_port}) == 0);
        start_thread(1, [this] { read_datagrams(); });
    }
}

FloodWorld::Impl::~Impl()
{
    stop = true;
    flood->offer(0, 0);
    for (std::thread& t : threads) {
        t.join();
    }
    stack.cpus().call_all([this](lwkt::Cpu& cpu) {
        metronomes[cpu.id()].reset();
        cpu.remove_poller(lwkt::Class::clock, *watches[cpu.id()]);
    });
}

void FloodWorld::Impl::start_thread(std::size_t cpu, std::function<void()> body)
{
    threads.emplace_back([this, cpu, run = std::move(body)] {
        prctl(PR_SET_TIMERSLACK, 1UL); // or the pause of the control thread would be a third of its call
        int pin = cpus[cpu % cpus.size()];
        INVARIANT(pin < 0 || lwkt::bind_this_thread(pin));
        run();
    });
}

// On every CPU a connection for the flood to belong to. A socket keeps to the CPU of the thread that opens it.
void FloodWorld::Impl::connect_flood()
{
    for (std::size_t i = 0; i < cpus.size(); ++i) {
        std::thread([this, i] {
            INVARIANT(cpus[i] < 0 || lwkt::bind_this_thread(cpus[i]));
            for (unsigned tries = 0; !flood->connected(static_cast<base::CpuId>(i)); ++tries) {
                INVARIANT(tries < connects_max);
                flood_clients.push_back(open(stack, SOCK_STREAM));
                must(flood_clients.back().connect({flood_peer, flood_peer_port}), "connect to the flood's peer");
            }
        }).join();
    }
}

void FloodWorld::Impl::make_connections(
    std::size_t count, std::vector<embed::Socket>& clients, std::vector<embed::Socket>& servers)
{
    for (std::size_t i = 0; i < count; ++i) {
        clients.push_back(open(stack, SOCK_STREAM));
        must(clients.back().connect(loopback(7)), "connect");
        must(listener.accept(servers.emplace_back()), "accept");
    }
}

// A connection that breaks under the flood leaves the list at both ends; the others go on.
void FloodWorld::Impl::answer(std::vector<embed::Socket>& servers)
{
    static constexpr char message[message_bytes] = {};
    while (!servers.empty()) {
        std::erase_if(servers, [](embed::Socket& s) {
            return !read_whole(s) || s.send({message, message_bytes}, MSG_NOSIGNAL) != message_bytes;
        });
    }
}

void FloodWorld::Impl::exchange(std::vector<embed::Socket>& clients)
{
    static constexpr char message[message_bytes] = {};
    while (!stop && !clients.empty()) {
        broken += std::erase_if(clients, [](embed::Socket& c) {
            return c.send({message, message_bytes}, MSG_NOSIGNAL) != message_bytes;
        });
        broken += std::erase_if(clients, [](embed::Socket& c) { return !read_whole(c); });
        exchanged.fetch_add(clients.size(), std::memory_order_relaxed);
    }
    for (embed::Socket& c : clients) {
        c.shutdown(SHUT_WR);
    }
}

// In turn: a question about a connection, which its owner answers, and a connection that is opened and closed. Refused
// is a result too: a flood may leave no room for new connections.
void FloodWorld::Impl::call_control()
{
    for (bool connect = false; !stop; connect = !connect) {
        auto start = Clock::now();
        int result = 0;
        if (connect) {
            embed::Socket c = open(stack, SOCK_STREAM);
            result = c.connect(loopback(7));
            c.close();
        } else {
            int value = 0;
            result = idle_clients[0].option(IPPROTO_TCP, TCP_MAXSEG, value);
        }
        if (noting.load(std::memory_order_acquire)) {
            control_us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
            refused += result == 0 ? 0 : 1;
        }
        if (connect) { // also those whose client has given up meanwhile
            embed::Socket accepted;
            while (listener.accept(accepted) == 0) {
            }
        }
        std::this_thread::sleep_for(control_pause);
    }
}

void FloodWorld::Impl::read_datagrams()
{
    timeval patience{0, 100'000};
    client::sock_setsockopt(read_from.session(), read_from.id(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    char buffer[message_bytes];
    base::Endpoint from;
    while (!stop) {
        if (read_from.recv_from(buffer, from) > 0) {
            read.fetch_add(1, std::memory_order_relaxed);
        }
    }
}

void FloodWorld::Impl::note(bool on)
{
    stack.cpus().call_all(
        [this, on](lwkt::Cpu& cpu) { metronomes[cpu.id()]->noting = watches[cpu.id()]->noting = on; });
    noting.store(on, std::memory_order_release);
}

std::uint64_t FloodWorld::Impl::probes()
{
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < cpus.size(); ++i) {
        sum += stack.protocols().domain(static_cast<base::CpuId>(i)).tcp->counters.keepalive_probes;
    }
    return sum;
}

std::uint64_t FloodWorld::Impl::idle_lost()
{
    std::uint64_t lost = 0;
    for (embed::Socket& s : idle_clients) {
        char byte;
        lost += s.recv({&byte, 1}, MSG_DONTWAIT | MSG_PEEK) == -EAGAIN ? 0 : 1;
    }
    return lost;
}

FloodWorld::FloodWorld(const std::vector<int>& cpus, bool read, std::size_t idle)
    : impl_(std::make_unique<Impl>(cpus, read, idle))
{
}
FloodWorld::~FloodWorld() = default;

FloodSample FloodWorld::measure(unsigned kinds, double packets_per_s, std::chrono::duration<double> time)
{
    Impl& w = *impl_;
    w.flood->offer(kinds, packets_per_s / static_cast<double>(w.cpus.size()));
    std::this_thread::sleep_for(warm_up);
    FloodSample r;
    auto start = Clock::now();
    std::uint64_t taken = w.flood->taken();
    std::uint64_t lost = w.flood->lost();
    std::uint64_t read = w.read;
    std::uint64_t exchanged = w.exchanged;
    std::uint64_t probes = w.probes();
    w.note(true);
    std::this_thread::sleep_for(time);
    w.note(false);
    r.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    r.offered_per_s = packets_per_s;
    r.taken_per_s = static_cast<double>(w.flood->taken() - taken) / r.seconds;
    r.lost_per_s = static_cast<double>(w.flood->lost() - lost) / r.seconds;
    r.read_per_s = static_cast<double>(w.read - read) / r.seconds;
    r.exchanges_per_s = static_cast<double>(w.exchanged - exchanged) / r.seconds;
    r.probes = w.probes() - probes;
    r.idle_lost = w.idle_lost();
    r.broken = w.broken;
    w.flood->offer(0, 0);
    w.stack.cpus().call_all([&](lwkt::Cpu& cpu) {
        std::vector<double>& late = w.metronomes[cpu.id()]->late_us;
        r.timer.us.insert(r.timer.us.end(), late.begin(), late.end());
        late.clear();
        std::vector<float>& gaps = w.watches[cpu.id()]->gaps_us;
        r.gap.us.insert(r.gap.us.end(), gaps.begin(), gaps.end());
        gaps.clear();
    });
    std::this_thread::sleep_for(warm_up); // the last noted call has ended, the queues are empty
    r.control.us.swap(w.control_us);
    r.refused = w.refused.exchange(0);
    r.timer.sort();
    r.gap.sort();
    r.control.sort();
    return r;
}

} // namespace bench
