// A host for tests: a stepped CPU set in virtual time with a stack, one Ethernet interface and a loopback; and sockets
// whose rings lie in the test's memory. Two hosts can be wired together.
#pragma once

#include <catch2/catch.hpp>
#include <netinet/in.h>

#include <algorithm>

#include "protocols/port_table.hpp"
#include "protocols/socket/so_dispatch.hpp"
#include "protocols/stack.hpp"
#include "protocols/stack_counters.hpp"
#include "tests/family.hpp"
#include "tests/protocols/frame_netif.hpp"

namespace test {

// In the family that runs (tests/family.hpp), but for what is written as IPv6.
inline base::IpAddr ip(std::string_view text)
{
    return text.find(':') != std::string_view::npos ? base::parse_ip(text).value() : address(text);
}
inline base::Endpoint at(const char* text, std::uint16_t port)
{
    return {ip(text), port};
}

struct HostOptions {
    unsigned cpus = 1;
    const char* address = "10.0.0.1"; // null = none
    unsigned char mac_last = 1;
    std::uint64_t seed = 1;
    std::uint32_t mtu = 1500;
    const char* gateway = nullptr;
    const char* address6 = nullptr; // with it, IPv6 runs on the link
    bool slaac = false;
    bool dhcp = false;
    bool gro = false;
    std::uint32_t tso_max_bytes = 0;
    std::uint32_t large_per_cpu = 256;
    unsigned duplicate_probes = 0; // 0: addresses may be used at once
    std::uint16_t ephemeral_low = 32768;
    std::uint16_t ephemeral_high = 60999;
};

class Host {
public:
    Host(lwkt::VirtualClock& clock, const HostOptions& o)
        : set(clock, set_options(o.cpus)), stack(set, stack_options(o))
    {
        netmsg::NetifInfo info;
        info.name = "eth0";
        info.mtu = o.mtu;
        info.gro = o.gro;
        info.tso_max_bytes = o.tso_max_bytes;
        info.mac = base::MacAddr{{2, 0, 0, 0, 0, o.mac_last}};
        auto frames = std::make_unique<FrameNetif>(info);
        link = frames.get();
        std::string error;
        std::vector<protocols::InterfaceAddress> addresses;
        if (o.address != nullptr) {
            addresses.push_back({base::parse_ip(o.address).value(), 24});
        }
        if (o.address6 != nullptr || over_v6()) {
            addresses.push_back({o.address6 != nullptr ? ip(o.address6) : ip(o.address), 64});
        }
        eth = stack.add_interface(std::move(frames), addresses, error, o.slaac);
        REQUIRE(eth != nullptr);
        if (o.dhcp) {
            stack.start_dhcp(*eth);
        }
        netmsg::NetifInfo lo;
        lo.name = "lo";
        lo.mtu = 65535;
        lo.ethernet = false;
        lo.loopback = true;
        auto loop = std::make_unique<FrameNetif>(lo);
        loopback = loop.get();
        REQUIRE(stack.add_interface(std::move(loop), {{base::IpAddr::v4(0x7f000001), 8}, {ip("::1"), 128}}, error) !=
                nullptr);
        if (o.gateway != nullptr) {
            REQUIRE(stack.add_route({base::IpAddr::any_v4(), 0}, base::parse_ip(o.gateway).value(), error));
        }
    }

    protocols::Domain& domain(base::CpuId cpu = 0) { return stack.domain(cpu); }
    // Sum of a counter over the CPUs.
    std::uint64_t counted(std::atomic<std::uint64_t> protocols::StackCounters::*field)
    {
        std::uint64_t sum = 0;
        for (base::CpuId i = 0; i < stack.cpus(); ++i) {
            sum += (domain(i).counters.*field).load();
        }
        return sum;
    }
    std::size_t packets_in_use()
    {
        std::size_t sum = 0;
        for (base::CpuId i = 0; i < stack.cpus(); ++i) {
            sum += stack.pool().in_use(i);
        }
        return sum;
    }
    void on(base::CpuId cpu, const std::function<void(protocols::Domain&)>& f)
    {
        set.call(cpu, [&](lwkt::Cpu&) { f(stack.domain(cpu)); });
    }

    lwkt::CpuSet set;
    protocols::Stack stack;
    FrameNetif* link = nullptr;
    FrameNetif* loopback = nullptr;
    protocols::Interface* eth = nullptr;

private:
    static lwkt::CpuSetOptions set_options(unsigned cpus)
    {
        lwkt::CpuSetOptions o;
        o.pin.assign(cpus, -1);
        return o;
    }
    static protocols::StackOptions stack_options(const HostOptions& h)
    {
        protocols::StackOptions o;
        o.seed = h.seed;
        o.connections_per_cpu = 256;
        o.syn_cache_per_cpu = 64;
        o.duplicate_probes = h.duplicate_probes;
        o.ephemeral_low = h.ephemeral_low;
        o.ephemeral_high = h.ephemeral_high;
        o.packets.large_per_cpu = h.large_per_cpu;
        return o;
    }
};

// Virtual time over any number of hosts.
class World {
public:
    lwkt::VirtualClock clock;
    std::vector<Host*> hosts;

    Host& add(std::unique_ptr<Host>& slot, const HostOptions& o)
    {
        slot = std::make_unique<Host>(clock, o);
        hosts.push_back(slot.get());
        return *slot;
    }
    void settle()
    {
        for (int idle = 0; idle < 2;) { // once more: a message sent in the last round
            bool worked = false;
            for (Host* h : hosts) {
                worked |= h->set.step();
            }
            idle = worked ? 0 : idle + 1;
        }
    }
    void advance(base::Micros by)
    {
        base::Instant end = clock.now() + by;
        settle();
        for (;;) {
            base::Instant next = base::never;
            for (Host* h : hosts) {
                next = std::min(next, h->set.next_deadline());
            }
            if (next > end) {
                break;
            }
            clock.advance_to(std::max(next, clock.now() + base::Micros{1}));
            settle();
        }
        clock.advance_to(end);
        settle();
    }
};

struct Pair {
    explicit Pair(unsigned cpus_a = 1, unsigned cpus_b = 1, std::uint32_t mtu = 1500)
        : a(world.add(a_,
              {.cpus = cpus_a, .address = "10.0.0.1", .mac_last = 1, .seed = 11, .mtu = mtu, .address6 = "fd00::1"})),
          b(world.add(b_,
              {.cpus = cpus_b, .address = "10.0.0.2", .mac_last = 2, .seed = 22, .mtu = mtu, .address6 = "fd00::2"}))
    {
        a.link->peer = b.link;
        b.link->peer = a.link;
    }
    World world;
    std::unique_ptr<Host> a_, b_;
    Host& a;
    Host& b;
};

// A socket, its slot, its rings and its user in the test's memory.
class TestSocket final : public protocols::SocketUser {
public:
    TestSocket(World& world, Host& host, sockbuf::SlotKind kind, base::CpuId cpu = 0, unsigned shift = 18,
        int family = test::family())
        : world_(world), host_(host), shift_(shift)
    {
        so.domain = &host.stack.domain(cpu);
        so.user = this;
        so.slot = &slot;
        so.lanes = lanes;
        so.kind = kind;
        protocols::so_set_family(so, static_cast<std::uint8_t>(family));
        slot.owner.rcv_end.store(sockbuf::no_offset);
        slot.app.snd_end.store(sockbuf::no_offset);
        slot.share.holders.store(1);
    }

    // One operation from start to reply.
    base::Error call(netmsg::SocketOp op, const base::Endpoint& address = {}, int value = 0)
    {
        post(op, address, value);
        world_.settle();
        REQUIRE(replied());
        return result();
    }
    void post(netmsg::SocketOp op, const base::Endpoint& address = {}, int value = 0)
    {
        message.op = op;
        message.socket = &so;
        message.address = address;
        message.value = value;
        message.reply_port = &port_;
        port_.done = false;
        host_.on(so.domain->id(), [&](protocols::Domain& d) { protocols::so_post(d, message); });
    }
    bool replied() const { return port_.done; }
    base::Error result() const { return static_cast<base::Error>(message.result); }

    base::Error bind(const base::Endpoint& to) { return call(netmsg::SocketOp::bind, to); }
    base::Error connect(const base::Endpoint& to) { return call(netmsg::SocketOp::connect, to); }
    base::Error close() { return call(netmsg::SocketOp::disconnect); }
    base::Error set(int level, int name, const void* value, std::uint32_t size)
    {
        message.level = level;
        message.name = name;
        message.size = size;
        std::memcpy(message.option, value, size);
        return call(netmsg::SocketOp::set_option);
    }
    base::Error set(int level, int name, int value) { return set(level, name, &value, sizeof value); }
    int get(int level, int name)
    {
        message.level = level;
        message.name = name;
        message.size = sizeof(int);
        REQUIRE(call(netmsg::SocketOp::get_option) == base::Error::none);
        int value = 0;
        std::memcpy(&value, message.option, sizeof value);
        return value;
    }

    // As an application does: a record into the send ring, then a mark.
    void send(const Bytes& payload, const base::Endpoint& to = {})
    {
        sockbuf::DatagramHeader h{};
        h.size = static_cast<std::uint16_t>(payload.size());
        h.port = to.port;
        std::memcpy(h.addr, to.addr.bytes(), 16);
        send_raw(h, payload);
        look();
    }
    void send_raw(const sockbuf::DatagramHeader& h, const Bytes& payload)
    {
        std::uint64_t produced = slot.app.snd_produced.load();
        so.snd_ring.copy_in(produced, &h, sizeof h);
        so.snd_ring.copy_in(produced + sizeof h, payload.data(), payload.size());
        slot.app.snd_produced.store(produced + sockbuf::datagram_stride(static_cast<std::uint32_t>(payload.size())));
    }
    void look()
    {
        host_.on(so.domain->id(), [&](protocols::Domain& d) { protocols::so_look_send(d, so); });
        world_.settle();
    }
    // The next datagram of the first lane that has one.
    bool receive(Bytes& payload, base::Endpoint* from = nullptr)
    {
        for (base::CpuId cpu = 0; cpu < cpus_max; ++cpu) {
            if (receive_on(cpu, payload, from)) {
                return true;
            }
        }
        return false;
    }
    bool receive_on(base::CpuId cpu, Bytes& payload, base::Endpoint* from = nullptr)
    {
        sockbuf::DatagramLane& lane = lanes[cpu];
        std::uint64_t consumed = lane.consumed.load();
        if (lane.produced.load() == consumed) {
            return false;
        }
        sockbuf::RingView ring(lane_memory_[cpu].data(), shift_, lane.start.load());
        sockbuf::DatagramHeader h;
        ring.copy_out(consumed, &h, sizeof h);
        payload.resize(h.size);
        ring.copy_out(consumed + sizeof h, payload.data(), h.size);
        bool v4 = base::IpAddr::v6(h.addr).is_v4();
        lane.consumed.store(consumed + sockbuf::datagram_stride(h.size + (v4 ? 0U : sockbuf::datagram_local_bytes)));
        header = h;
        if (from != nullptr) {
            *from = {base::IpAddr::v6(h.addr), h.port};
        }
        return true;
    }
    std::uint64_t dropped() const
    {
        std::uint64_t sum = 0;
        for (const sockbuf::DatagramLane& lane : lanes) {
            sum += lane.dropped.load();
        }
        return sum;
    }
    // The next entry of the error queue: what it says, to whom the datagram was, what is quoted of it.
    bool receive_error(sockbuf::DatagramError& error, base::Endpoint& to, Bytes& payload)
    {
        sockbuf::DatagramLane& lane = lanes[host_.stack.cpus()];
        std::uint64_t consumed = lane.consumed.load();
        if (lane.produced.load() == consumed) {
            return false;
        }
        sockbuf::RingView ring(lane_memory_[host_.stack.cpus()].data(), shift_, lane.start.load());
        sockbuf::DatagramHeader h;
        ring.copy_out(consumed, &h, sizeof h);
        ring.copy_out(consumed + sizeof h, &error, sizeof error);
        payload.resize(h.size);
        ring.copy_out(consumed + sizeof h + sizeof error, payload.data(), h.size);
        lane.consumed.store(consumed + sockbuf::datagram_stride(h.size + sizeof error));
        to = {base::IpAddr::v6(h.addr), h.port};
        return true;
    }
    int take_error() { return slot.info.so_error.exchange(0); }

    protocols::Socket so;
    static constexpr unsigned cpus_max = 8;
    sockbuf::SocketSlot slot{};
    sockbuf::DatagramLane lanes[cpus_max + 1] = {}; // of the host's CPUs, then the error queue
    netmsg::SocketMsg message;
    std::uint32_t events = 0;
    sockbuf::DatagramHeader header{}; // of the datagram last received
    int detached = 0;
    int moved = 0;
    int lanes_made = 0;
    bool no_lanes = false; // as when the ring memory is used up
    bool no_rings = false; // likewise

    void socket_event(protocols::Socket&, std::uint32_t e) override { events |= e; }
    bool socket_rings(protocols::Socket& s) override
    {
        if (no_rings) {
            return false;
        }
        memory_.resize(std::size_t{2} << shift_);
        s.snd_ring = sockbuf::RingView(memory_.data(), shift_);
        s.rcv_ring = sockbuf::RingView(memory_.data() + (std::size_t{1} << shift_), shift_);
        return true;
    }
    sockbuf::RingView socket_lane(protocols::Socket&, std::uint32_t lane, std::uint32_t) override
    {
        if (no_lanes) {
            return {};
        }
        ++lanes_made;
        lane_memory_[lane].resize(std::size_t{1} << shift_);
        return {lane_memory_[lane].data(), shift_};
    }
    void socket_lane_gone(protocols::Socket&, std::uint32_t lane, const sockbuf::RingView& ring) override
    {
        REQUIRE(ring.base() == lane_memory_[lane].data());
        --lanes_made;
    }
    protocols::Socket* socket_accepted(protocols::Listener&, const base::FourTuple&) override { return nullptr; }
    void socket_ready(protocols::Listener&, protocols::Socket&) override {}
    void socket_moved(protocols::Socket&) override { ++moved; }
    void socket_detached(protocols::Socket&) override { ++detached; }

private:
    struct ReplyPort final : lwkt::Port {
        void deliver(lwkt::Message&) override { done = true; }
        bool done = false;
    };

    World& world_;
    Host& host_;
    unsigned shift_;
    ReplyPort port_;
    std::vector<std::byte> memory_;
    std::vector<std::byte> lane_memory_[cpus_max + 1];
};

} // namespace test
