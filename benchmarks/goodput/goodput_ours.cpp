// Our flows of a cell: two embedded stacks, joined by the link in virtual time, or in real time behind TAPs.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "benchmarks/goodput/goodput_relay.hpp"
#include "embed/netd.hpp"
#include "protocols/tcp/tcp_domain.hpp"

namespace bench {
namespace {

constexpr std::size_t piece = 1U << 16;
constexpr std::uint64_t ring_memory = std::uint64_t{1} << 30; // address space

void must(std::int64_t result, const char* what)
{
    if (result < 0 && result != -EINPROGRESS) {
        goodput_failed(std::string(what) + ": " + std::strerror(static_cast<int>(-result)));
    }
}

embed::StackConfig config_of(const GoodputCell& cell, embed::Simulation* simulation, std::uint64_t seed)
{
    embed::StackConfig c;
    c.simulation = simulation;
    c.seed = seed;
    c.spin_max = base::Micros{0};
    c.gateway.segment.sockets = 512;
    c.gateway.segment.ring_memory = ring_memory;
    c.gateway.send_ring_shift = c.gateway.receive_ring_shift = buffer_shift(cell);
    c.gateway.idle_after = base::Micros{0};
    c.protocols.duplicate_probes = 0;
    c.protocols.packets = {3 * held_frames_max, 512};
    int which = protocols::tcp::congestion_by_name(cell.congestion);
    if (which < 0) {
        goodput_failed("no congestion control " + cell.congestion);
    }
    c.protocols.congestion = static_cast<std::uint8_t>(which);
    return c;
}

embed::Socket open_one(embed::Stack& stack)
{
    embed::Socket s;
    must(embed::Socket::open(stack, SOCK_STREAM | SOCK_NONBLOCK, s), "socket");
    return s;
}

// Writes whatever the buffers take.
class Senders {
public:
    Senders(embed::Stack& stack, const GoodputCell& cell) : stack_(stack)
    {
        must(events_.open(stack), "events");
        for (std::uint32_t i = 0; i < cell.flows; ++i) {
            sockets_.push_back(open_one(stack));
        }
    }
    ~Senders() { events_.close(); }
    Senders(const Senders&) = delete;
    Senders& operator=(const Senders&) = delete;
    void connect(const base::Endpoint& to)
    {
        for (embed::Socket& s : sockets_) {
            must(s.connect(to), "connect");
            events_.add(s, EPOLLOUT | EPOLLET, &s);
        }
    }
    void pump(base::Instant deadline)
    {
        static constexpr std::array<char, piece> text{};
        std::array<embed::Event, 64> got;
        int n = events_.wait(got, deadline);
        for (int i = 0; i < n; ++i) {
            auto& s = *static_cast<embed::Socket*>(got[static_cast<std::size_t>(i)].user);
            if ((got[static_cast<std::size_t>(i)].events & (EPOLLERR | EPOLLHUP)) != 0) {
                goodput_failed("a connection of ours broke");
            }
            while (s.send({text.data(), text.size()}, MSG_NOSIGNAL) > 0) {
            }
        }
    }
    std::uint32_t mss()
    {
        int value = 0;
        must(sockets_.front().option(IPPROTO_TCP, TCP_MAXSEG, value), "TCP_MAXSEG");
        return static_cast<std::uint32_t>(value);
    }
    std::string counters() const
    {
        const protocols::TcpCounters& c = stack_.protocols().domain(0).tcp->counters;
        auto member = [](const char* name, std::uint64_t value) {
            return std::string("\"") + name + "\": " + std::to_string(value);
        };
        return member("retransmits", c.retransmits) + ", " + member("timeouts", c.timeouts) + ", " +
               member("recoveries", c.fast_recoveries) + ", " + member("probes", c.probes) + ", " +
               member("probe_repairs", c.probe_repairs) + ", " + member("dsacks", c.dsacks) + ", " +
               member("undone", c.undos_dsack + c.undos_eifel + c.undos_frto);
    }

private:
    embed::Stack& stack_;
    embed::Events events_;
    std::vector<embed::Socket> sockets_;
};

// Reads whatever comes.
class Receivers {
public:
    Receivers(embed::Stack& stack, const GoodputCell& cell) : listener_(open_one(stack))
    {
        sockets_.reserve(cell.flows + 1);
        must(events_.open(stack), "events");
        must(listener_.bind({base::IpAddr::v4(0), goodput_port}), "bind");
        must(listener_.listen(1024), "listen");
        events_.add(listener_, EPOLLIN, nullptr);
    }
    ~Receivers() { events_.close(); }
    Receivers(const Receivers&) = delete;
    Receivers& operator=(const Receivers&) = delete;
    void pump(base::Instant deadline)
    {
        std::array<embed::Event, 64> got;
        int n = events_.wait(got, deadline);
        for (int i = 0; i < n; ++i) {
            if (auto* s = static_cast<embed::Socket*>(got[static_cast<std::size_t>(i)].user)) {
                take(*s);
            } else {
                accept();
            }
        }
    }
    std::uint64_t bytes() const { return bytes_; }

private:
    void accept()
    {
        embed::Socket s;
        while (listener_.accept(s, nullptr, SOCK_NONBLOCK) == 0) {
            INVARIANT(sockets_.size() < sockets_.capacity());
            sockets_.push_back(std::move(s));
            events_.add(sockets_.back(), EPOLLIN | EPOLLET, &sockets_.back());
        }
    }
    void take(embed::Socket& s)
    {
        for (ssize_t n = 0; (n = s.recv(into_)) > 0;) {
            bytes_ += static_cast<std::uint64_t>(n);
        }
    }

    embed::Events events_;
    embed::Socket listener_;
    std::vector<embed::Socket> sockets_; // does not move once made
    std::array<char, piece> into_{};
    std::uint64_t bytes_ = 0;
};

// Neighbours are known before the weather sets in, as they are on the kernel's side.
void acquaint(embed::Simulation& simulation, embed::Stack& from, const base::Endpoint& to)
{
    embed::Socket s = open_one(from);
    must(s.connect({to.addr, static_cast<std::uint16_t>(to.port + 1)}), "connect"); // nobody listens there
    simulation.run_for(base::seconds(1));
}

base::Micros time_of(const GoodputCell& cell)
{
    return base::Micros{static_cast<std::int64_t>(cell.seconds * 1e6)};
}

} // namespace

GoodputResult goodput_virtual(const GoodputCell& cell)
{
    embed::Simulation simulation(cell.seed);
    embed::Stack near(config_of(cell, &simulation, std::uint64_t{cell.seed} * 2 + 1));
    embed::Stack far(config_of(cell, &simulation, std::uint64_t{cell.seed} * 2 + 2));
    drivers::SimLinkOptions weather = goodput_link(cell);
    drivers::SimLinkOptions calm = weather;
    calm.a.send = calm.b.send = {};
    drivers::SimLink link;
    std::string error;
    if (!embed::join(near, "10.77.0.1/24", far, "10.77.0.2/24", calm, link, error) || !near.start(error) ||
        !far.start(error)) {
        goodput_failed(error);
    }
    base::Endpoint server{base::IpAddr::v4(0x0a4d0002), goodput_port};
    acquaint(simulation, near, server);
    link.set(0, weather.a.send);
    link.set(1, weather.b.send);
    Receivers receivers(far, cell);
    Senders senders(near, cell);
    base::Instant end = simulation.now() + time_of(cell);
    senders.connect(server);
    while (simulation.now() < end && simulation.step(end)) {
        senders.pump(simulation.now());
        receivers.pump(simulation.now());
    }
    drivers::SimLinkCounters c = link.counters(0);
    GoodputResult r;
    r.bytes = receivers.bytes();
    r.mss = senders.mss();
    r.refused = static_cast<std::uint32_t>(c.held_full + link.counters(1).held_full);
    r.counters = senders.counters() + ", \"lost\": " + std::to_string(c.lost) +
                 ", \"queue_full\": " + std::to_string(c.queue_full);
    return r;
}

namespace {

std::unique_ptr<embed::Stack> behind_tap(
    const GoodputCell& cell, const std::string& space, const char* device, unsigned net, std::uint64_t seed)
{
    auto stack = std::make_unique<embed::Stack>(config_of(cell, nullptr, seed));
    drivers::TapOptions o;
    o.name = device;
    o.mac = {{0x02, 0, 0, 0, 0x78, static_cast<unsigned char>(net)}};
    o.bring_up = false;
    std::string error;
    std::string prefix = "10.78." + std::to_string(net) + ".";
    InNamespace here(space);
    if (!stack->add_interface(std::make_unique<drivers::Tap>(o), {prefix + "2/24"}, error) ||
        !stack->add_route("0.0.0.0/0", prefix + "1", error) || !stack->start(error)) {
        goodput_failed(error);
    }
    return stack;
}

} // namespace

GoodputResult goodput_tap(const GoodputCell& cell, const std::string& near, const std::string& far)
{
    GoodputRelay relay(cell, near, far);
    auto client = behind_tap(cell, near, "gn0", 1, std::uint64_t{cell.seed} * 2 + 1);
    auto server = behind_tap(cell, far, "gf0", 2, std::uint64_t{cell.seed} * 2 + 2);
    lwkt::RealClock clock;
    GoodputResult r;
    Receivers receivers(*server, cell);
    Senders senders(*client, cell);
    base::Instant end = clock.now() + time_of(cell);
    std::thread reading([&] {
        while (clock.now() < end) {
            receivers.pump(end);
        }
    });
    senders.connect({base::IpAddr::v4(0x0a4e0202), goodput_port});
    while (clock.now() < end) {
        senders.pump(end);
    }
    reading.join();
    r.bytes = receivers.bytes();
    r.mss = senders.mss();
    r.counters = senders.counters() + ", " + relay.counters();
    r.refused = relay.refused();
    return r;
}

} // namespace bench
