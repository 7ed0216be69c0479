// UDP between two hosts in virtual time: resolution, delivery across CPUs, errors, limits, and a hostile ring.
#include <map>

#include "base/endian.hpp"
#include "tests/protocols/host.hpp"

using namespace test;
using base::Error;
using protocols::StackCounters;
using sockbuf::SlotKind;

namespace {

Bytes pattern(std::size_t size)
{
    Bytes b(size);
    for (std::size_t i = 0; i < size; ++i) {
        b[i] = static_cast<unsigned char>(i * 7 + i / 251);
    }
    return b;
}

// The CPU of a UDP frame's flow at `h`; of anything else CPU 0.
base::CpuId steered(Host& h, const Bytes& frame)
{
    constexpr std::size_t ip_at = 14;
    const unsigned char* header = frame.data() + ip_at;
    std::uint16_t type = base::load_be16(frame.data() + 12);
    base::FourTuple flow;
    if (type == 0x0800 && frame.size() >= ip_at + 28) {
        flow.peer = {base::IpAddr::v4(base::load_be32(header + 12)), base::load_be16(header + 20)};
        flow.local = {base::IpAddr::v4(base::load_be32(header + 16)), base::load_be16(header + 22)};
    } else if (type == 0x86dd && frame.size() >= ip_at + 48 && header[6] == 17) {
        flow.peer = {base::IpAddr::v6(header + 8), base::load_be16(header + 40)};
        flow.local = {base::IpAddr::v6(header + 24), base::load_be16(header + 42)};
    } else {
        return 0;
    }
    return h.stack.steering().cpu_of(flow);
}

// Payload that just fits an Ethernet frame.
std::size_t one_frame()
{
    return over_v6() ? 1452 : 1472;
}

// Payload that takes 1024 bytes of a receive ring.
std::size_t kilobyte()
{
    return over_v6() ? 1024 - 32 - sockbuf::datagram_local_bytes : 1024 - 32;
}

} // namespace

TEST_CASE("a datagram is echoed, the neighbour being resolved on the way")
{
    Pair p;
    TestSocket server(p.world, p.b, SlotKind::datagram);
    TestSocket client(p.world, p.a, SlotKind::datagram);
    REQUIRE(server.bind(at("0.0.0.0", 7)) == Error::none);
    REQUIRE(client.bind(at("0.0.0.0", 0)) == Error::none);
    client.send(pattern(100), at("10.0.0.2", 7));
    Bytes got;
    base::Endpoint from;
    REQUIRE(server.receive(got, &from));
    CHECK(got == pattern(100));
    CHECK(from == base::Endpoint{ip("10.0.0.1"), client.so.flow.local.port});
    server.send(got, from);
    REQUIRE(client.receive(got, &from));
    CHECK(got == pattern(100));
    CHECK(from == at("10.0.0.2", 7));
    auto asked = over_v6() ? &StackCounters::nd_out_solicitations : &StackCounters::arp_out_requests;
    CHECK(p.a.counted(asked) == 1);
    CHECK(p.b.counted(asked) == 0); // it learned from our request
    CHECK(client.slot.owner.snd_acked.load() == client.slot.app.snd_produced.load());
    CHECK(p.a.packets_in_use() + p.b.packets_in_use() == 0);
}

TEST_CASE("the largest datagram travels in fragments and arrives whole")
{
    Pair p(2, 2);
    TestSocket server(p.world, p.b, SlotKind::datagram, 1);
    TestSocket client(p.world, p.a, SlotKind::datagram, 1);
    REQUIRE(server.bind(at("10.0.0.2", 7)) == Error::none);
    REQUIRE(client.bind(at("10.0.0.1", 0)) == Error::none);
    for (std::size_t size : {std::size_t{0}, one_frame(), one_frame() + 1, std::size_t{65507}}) {
        client.send(pattern(size), at("10.0.0.2", 7));
        if (size == 0) {
            p.world.advance(base::millis(1));
        }
        Bytes got{1};
        REQUIRE(server.receive(got));
        CHECK(got == pattern(size));
    }
    CHECK(p.a.counted(&StackCounters::frag_out_datagrams) == 2);
    CHECK(p.b.counted(&StackCounters::frag_reassembled) == 2);
    CHECK(p.a.packets_in_use() + p.b.packets_in_use() == 0);
}

TEST_CASE("the largest datagram waits whole for its neighbour, whatever the path's MTU")
{
    std::uint32_t mtu = GENERATE(1280U, 1500U, 9000U);
    Pair p(1, 1, mtu);
    p.b.link->filter = [](const Bytes&) { return false; }; // answers are late
    TestSocket server(p.world, p.b, SlotKind::datagram);
    TestSocket client(p.world, p.a, SlotKind::datagram);
    REQUIRE(server.bind(at("10.0.0.2", 7)) == Error::none);
    REQUIRE(client.bind(at("10.0.0.1", 0)) == Error::none);
    client.send(pattern(65507), at("10.0.0.2", 7));
    p.b.link->filter = {};
    p.world.advance(base::seconds(2));
    Bytes got;
    REQUIRE(server.receive(got));
    CHECK(got == pattern(65507));
    CHECK(p.a.counted(&StackCounters::neighbor_queue_dropped) == 0);
    CHECK(p.a.packets_in_use() + p.b.packets_in_use() == 0);
}

TEST_CASE("the largest datagram arrives over a path of 576 octets; one in ever more fragments is not waited for")
{
    if (over_v6()) {
        return; // whose paths take 1280
    }
    Pair p(1, 1, 576);
    TestSocket server(p.world, p.b, SlotKind::datagram);
    TestSocket client(p.world, p.a, SlotKind::datagram);
    REQUIRE(server.bind(at("10.0.0.2", 7)) == Error::none);
    REQUIRE(client.bind(at("10.0.0.1", 0)) == Error::none);
    client.send(pattern(65507), at("10.0.0.2", 7));
    Bytes got;
    REQUIRE(server.receive(got));
    CHECK(got == pattern(65507));
    CHECK(p.b.packets_in_use() == 0);

    Pair narrow(1, 1, 300);
    TestSocket deaf(narrow.world, narrow.b, SlotKind::datagram);
    TestSocket talker(narrow.world, narrow.a, SlotKind::datagram);
    REQUIRE(deaf.bind(at("10.0.0.2", 7)) == Error::none);
    REQUIRE(talker.bind(at("10.0.0.1", 0)) == Error::none);
    talker.send(Bytes(1), at("10.0.0.2", 7)); // neighbours know each other
    REQUIRE(deaf.receive(got));
    talker.send(pattern(65507), at("10.0.0.2", 7));
    CHECK(!deaf.receive(got));
    CHECK(narrow.b.counted(&StackCounters::frag_limit) == 1);
    CHECK(narrow.b.packets_in_use() == 0);
}

TEST_CASE("a datagram is matched and kept on the CPU of its flow, whoever owns the socket")
{
    Pair p(1, 4);
    unsigned next = 0;
    p.b.link->choose_cpu = [&](const Bytes&) { return static_cast<base::CpuId>(next++ % 4); };
    TestSocket server(p.world, p.b, SlotKind::datagram, 2);
    REQUIRE(server.bind(at("0.0.0.0", 7)) == Error::none);
    TestSocket clients[8] = {{p.world, p.a, SlotKind::datagram}, {p.world, p.a, SlotKind::datagram},
        {p.world, p.a, SlotKind::datagram}, {p.world, p.a, SlotKind::datagram}, {p.world, p.a, SlotKind::datagram},
        {p.world, p.a, SlotKind::datagram}, {p.world, p.a, SlotKind::datagram}, {p.world, p.a, SlotKind::datagram}};
    unsigned received = 0;
    for (TestSocket& c : clients) {
        REQUIRE(c.bind(at("0.0.0.0", 0)) == Error::none);
        for (int i = 0; i < 4; ++i) {
            c.send(pattern(64), at("10.0.0.2", 7));
        }
    }
    Bytes got;
    while (server.receive(got)) {
        ++received;
    }
    CHECK(received == 32);
    CHECK(p.b.counted(&StackCounters::udp_in) == 32);
    CHECK(p.b.counted(&StackCounters::steer_forwarded) >= p.b.counted(&StackCounters::steer_received));
    CHECK(p.b.counted(&StackCounters::steer_received) > 0);
    CHECK(p.b.packets_in_use() == 0);
}

TEST_CASE("one unconnected socket receives on every CPU, each flow in order, and nothing crosses CPUs")
{
    Pair p(1, 4);
    // What a device with our steering does: a frame arrives on the CPU of its flow.
    p.b.link->choose_cpu = [&](const Bytes& frame) { return steered(p.b, frame); };
    TestSocket server(p.world, p.b, SlotKind::datagram, 2);
    TestSocket client(p.world, p.a, SlotKind::datagram);
    REQUIRE(client.bind(at("10.0.0.1", 5999)) == Error::none);
    REQUIRE(server.bind(at("0.0.0.0", 7)) == Error::none);
    CHECK(server.lanes_made == 0);
    constexpr std::uint16_t flows = 64;
    constexpr unsigned char each = 10;
    std::vector<std::unique_ptr<TestSocket>> clients;
    for (std::uint16_t i = 0; i < flows; ++i) {
        clients.push_back(std::make_unique<TestSocket>(p.world, p.a, SlotKind::datagram, 0, 14));
        REQUIRE(clients.back()->bind(at("10.0.0.1", static_cast<std::uint16_t>(6000 + i))) == Error::none);
    }
    client.send(Bytes{0}, at("10.0.0.2", 9)); // the neighbours meet, which all CPUs are told
    std::uint64_t forwarded = p.b.counted(&StackCounters::steer_forwarded);
    for (unsigned char n = 0; n < each; ++n) {
        for (auto& c : clients) {
            c->send(Bytes{n}, at("10.0.0.2", 7));
        }
    }
    CHECK(p.b.counted(&StackCounters::steer_forwarded) == forwarded);
    CHECK(p.b.counted(&StackCounters::udp_forwarded) == 0);
    CHECK(server.lanes_made == 4);
    unsigned total = 0;
    for (base::CpuId cpu = 0; cpu < 4; ++cpu) {
        std::uint64_t here = p.b.domain(cpu).counters.udp_in.load();
        CHECK(here > flows * each / 16); // a quarter, give or take
        std::map<std::uint16_t, unsigned char> next;
        Bytes got;
        base::Endpoint from;
        for (std::uint64_t i = 0; i < here; ++i) {
            REQUIRE(server.receive_on(cpu, got, &from));
            REQUIRE(got[0] == next[from.port]++);
            ++total;
        }
        CHECK(!server.receive_on(cpu, got));
    }
    CHECK(total == flows * each);
    REQUIRE(server.close() == Error::none);
    CHECK(server.lanes_made == 0);
}

TEST_CASE("a connected socket makes the one lane that its flow needs; unread datagrams survive connect")
{
    Pair p(1, 4);
    TestSocket tied(p.world, p.b, SlotKind::datagram, 1);
    TestSocket peer(p.world, p.a, SlotKind::datagram);
    REQUIRE(tied.bind(at("10.0.0.2", 7)) == Error::none);
    REQUIRE(peer.bind(at("10.0.0.1", 5001)) == Error::none);
    peer.send(pattern(1), at("10.0.0.2", 7));
    REQUIRE(tied.connect(at("10.0.0.1", 5001)) == Error::none);
    for (int i = 0; i < 20; ++i) {
        peer.send(pattern(2), at("10.0.0.2", 7));
    }
    CHECK(tied.lanes_made == 1);
    Bytes got;
    REQUIRE(tied.receive(got));
    CHECK(got.size() == 1);
    int left = 0;
    while (tied.receive(got)) {
        ++left;
    }
    CHECK(left == 20);
}

TEST_CASE("a lane's reader that lies about its offset loses its own datagrams; without ring memory they are counted")
{
    Pair p;
    TestSocket liar(p.world, p.b, SlotKind::datagram, 0, 12); // 4096 bytes
    TestSocket client(p.world, p.a, SlotKind::datagram);
    REQUIRE(liar.bind(at("0.0.0.0", 7)) == Error::none);
    REQUIRE(client.bind(at("0.0.0.0", 0)) == Error::none);
    auto fill = [&](unsigned n) {
        for (unsigned i = 0; i < n; ++i) {
            client.send(pattern(kilobyte()), at("10.0.0.2", 7));
        }
    };
    fill(4);
    for (std::uint64_t lie : {std::uint64_t{4097}, ~std::uint64_t{0}, std::uint64_t{1} << 63}) {
        liar.lanes[0].consumed.store(lie);
        std::uint64_t before = liar.dropped();
        fill(1);
        CHECK(liar.dropped() == before + 1);
        CHECK(liar.lanes[0].produced.load() == 4096);
    }
    liar.lanes[0].consumed.store(2048); // honest again
    fill(2);
    CHECK(liar.lanes[0].produced.load() == 6144);
    liar.lanes[0].consumed.store(1024); // backwards: nothing is freed, nothing overwritten
    fill(1);
    CHECK(liar.lanes[0].produced.load() == 6144);

    TestSocket poor(p.world, p.b, SlotKind::datagram);
    poor.no_lanes = true;
    REQUIRE(poor.bind(at("0.0.0.0", 8)) == Error::none);
    client.send(pattern(1), at("10.0.0.2", 8));
    CHECK(poor.dropped() == 1);
    CHECK(p.b.counted(&StackCounters::udp_in_no_lane) == 1);
}

TEST_CASE("shutdown(SHUT_RD) reaches every CPU's entry before it says where the end is")
{
    Pair p(1, 4);
    TestSocket server(p.world, p.b, SlotKind::datagram, 1);
    TestSocket client(p.world, p.a, SlotKind::datagram);
    REQUIRE(client.bind(at("10.0.0.1", 5001)) == Error::none);
    REQUIRE(server.bind(at("10.0.0.2", 7)) == Error::none);
    REQUIRE(server.connect(at("10.0.0.1", 5001)) == Error::none);
    client.send(pattern(1), at("10.0.0.2", 7));
    REQUIRE(server.call(netmsg::SocketOp::shutdown, {}, SHUT_RD) == Error::none);
    CHECK(server.slot.owner.rcv_end.load() != sockbuf::no_offset);
    client.send(pattern(2), at("10.0.0.2", 7));
    CHECK(p.b.counted(&StackCounters::udp_in_shut_down) == 1);
    Bytes got;
    CHECK(server.receive(got));
    CHECK(!server.receive(got));
}

TEST_CASE("shutdown of a datagram socket without a peer is refused, and shuts it all the same, as on Linux")
{
    Pair p(1, 4);
    for (bool bound : {true, false}) {
        TestSocket s(p.world, p.b, SlotKind::datagram, 1);
        if (bound) {
            REQUIRE(s.bind(at("10.0.0.2", 0)) == Error::none);
        }
        s.events = 0;
        CHECK(s.call(netmsg::SocketOp::shutdown, {}, SHUT_RD) == Error::not_connected);
        CHECK(s.slot.owner.rcv_end.load() != sockbuf::no_offset);
        CHECK((s.events & protocols::so_readable) != 0);
        CHECK(s.slot.owner.snd_broken.load() == 0);
        CHECK(s.call(netmsg::SocketOp::shutdown, {}, SHUT_WR) == Error::not_connected);
        CHECK(s.slot.owner.snd_broken.load() == 1);
        REQUIRE(s.close() == Error::none);
    }
}

TEST_CASE("connect to port 0 chooses the local address, as on Linux, and leaves a datagram socket without a peer")
{
    Pair p;
    TestSocket s(p.world, p.a, SlotKind::datagram);
    REQUIRE(s.connect(at("10.0.0.2", 0)) == Error::none);
    CHECK(s.so.flow.local.addr == ip("10.0.0.1"));
    CHECK(s.slot.info.local_port != 0);
    CHECK(base::IpAddr::v6(s.slot.info.local_addr) == ip("10.0.0.1"));
    CHECK(s.slot.info.state.load() == static_cast<std::uint32_t>(sockbuf::SlotState::open));
    s.send(pattern(1));
    CHECK(s.take_error() == EDESTADDRREQ);
    TestSocket server(p.world, p.b, SlotKind::datagram);
    REQUIRE(server.bind(at("0.0.0.0", 7)) == Error::none);
    s.send(pattern(1), at("10.0.0.2", 7));
    Bytes got;
    CHECK(server.receive(got));
    REQUIRE(s.connect(at("10.0.0.2", 7)) == Error::none);
    REQUIRE(s.connect(at("10.0.0.2", 0)) == Error::none); // and the peer that was is gone
    CHECK(s.so.flow.peer.port == 0);
}

TEST_CASE("RFC 1122 4.1.3.1: a closed port answers, and a connected socket reads ECONNREFUSED once")
{
    Pair p(2, 2);
    TestSocket client(p.world, p.a, SlotKind::datagram);
    REQUIRE(client.connect(at("10.0.0.2", 9)) == Error::none);
    CHECK(client.so.flow.local.addr == ip("10.0.0.1"));
    client.send(pattern(10));
    p.world.advance(base::millis(10));
    CHECK(p.b.counted(&StackCounters::icmp_out_errors) == 1);
    CHECK(client.take_error() == ECONNREFUSED);
    CHECK(client.take_error() == 0);
    TestSocket loose(p.world, p.a, SlotKind::datagram);
    REQUIRE(loose.bind(at("0.0.0.0", 0)) == Error::none);
    loose.send(pattern(10), at("10.0.0.2", 9));
    p.world.advance(base::millis(10));
    CHECK(loose.take_error() == 0); // not connected: nobody to tell
}

TEST_CASE("a connected socket takes only its peer's datagrams and comes before a wildcard")
{
    Pair p(2, 2);
    TestSocket wild(p.world, p.b, SlotKind::datagram, 0);
    TestSocket tied(p.world, p.b, SlotKind::datagram, 1);
    TestSocket friendly(p.world, p.a, SlotKind::datagram);
    TestSocket other(p.world, p.a, SlotKind::datagram);
    REQUIRE(wild.set(SOL_SOCKET, SO_REUSEADDR, 1) == Error::none);
    REQUIRE(tied.set(SOL_SOCKET, SO_REUSEADDR, 1) == Error::none);
    REQUIRE(friendly.bind(at("10.0.0.1", 5001)) == Error::none);
    REQUIRE(other.bind(at("10.0.0.1", 5002)) == Error::none);
    REQUIRE(wild.bind(at("0.0.0.0", 7)) == Error::none);
    REQUIRE(tied.bind(at("0.0.0.0", 7)) == Error::none);
    REQUIRE(tied.connect(at("10.0.0.1", 5001)) == Error::none);
    friendly.send(pattern(1), at("10.0.0.2", 7));
    other.send(pattern(2), at("10.0.0.2", 7));
    Bytes got;
    REQUIRE(tied.receive(got));
    CHECK(got.size() == 1);
    CHECK(!tied.receive(got));
    REQUIRE(wild.receive(got));
    CHECK(got.size() == 2);
    REQUIRE(tied.call(netmsg::SocketOp::unconnect) == Error::none);
    CHECK(tied.so.flow.local.addr.is_any());
}

TEST_CASE("a full receive ring drops and counts, and takes again once read")
{
    Pair p;
    TestSocket server(p.world, p.b, SlotKind::datagram, 0, 12); // 4096 bytes
    TestSocket client(p.world, p.a, SlotKind::datagram);
    REQUIRE(server.bind(at("0.0.0.0", 7)) == Error::none);
    REQUIRE(client.bind(at("0.0.0.0", 0)) == Error::none);
    for (int i = 0; i < 5; ++i) {
        client.send(pattern(kilobyte()), at("10.0.0.2", 7));
    }
    CHECK(server.dropped() == 1);
    CHECK(p.b.counted(&StackCounters::udp_in_ring_full) == 1);
    Bytes got;
    REQUIRE(server.receive(got));
    client.send(pattern(kilobyte()), at("10.0.0.2", 7));
    int left = 0;
    while (server.receive(got)) {
        ++left;
    }
    CHECK(left == 4);

    TestSocket small(p.world, p.b, SlotKind::datagram);
    REQUIRE(small.set(SOL_SOCKET, SO_RCVBUF, 2048) == Error::none); // 4096, and the ring has more
    REQUIRE(small.bind(at("0.0.0.0", 8)) == Error::none);
    client.send(pattern(8000), at("10.0.0.2", 8)); // as Linux: one datagram may be more than SO_RCVBUF
    client.send(pattern(1), at("10.0.0.2", 8));
    CHECK(small.dropped() == 1);
    REQUIRE(small.receive(got));
    CHECK(got == pattern(8000));
    for (int i = 0; i < 5; ++i) {
        client.send(pattern(kilobyte()), at("10.0.0.2", 8));
    }
    CHECK(small.dropped() == 2);
}

TEST_CASE("a malformed record breaks its own socket and nothing else")
{
    Pair p;
    TestSocket client(p.world, p.a, SlotKind::datagram);
    REQUIRE(client.bind(at("0.0.0.0", 0)) == Error::none);
    sockbuf::DatagramHeader h{};
    h.size = 60000;
    h.port = 7;
    client.send_raw(h, pattern(10));
    client.look();
    CHECK(client.slot.owner.snd_broken.load() == 1);
    CHECK(p.a.counted(&StackCounters::udp_out_malformed) == 1);
    TestSocket liar(p.world, p.a, SlotKind::datagram);
    REQUIRE(liar.bind(at("0.0.0.0", 0)) == Error::none);
    liar.slot.app.snd_produced.store(std::uint64_t{1} << 40);
    liar.look();
    CHECK(liar.slot.owner.snd_broken.load() == 1);
}

TEST_CASE("broadcast needs permission, and reaches every socket of the port")
{
    if (over_v6()) {
        return; // IPv6 has no broadcast
    }
    Pair p(1, 2);
    TestSocket one(p.world, p.b, SlotKind::datagram, 0);
    TestSocket two(p.world, p.b, SlotKind::datagram, 1);
    for (TestSocket* s : {&one, &two}) {
        REQUIRE(s->set(SOL_SOCKET, SO_REUSEADDR, 1) == Error::none);
        REQUIRE(s->bind(at("0.0.0.0", 7)) == Error::none);
    }
    TestSocket client(p.world, p.a, SlotKind::datagram);
    REQUIRE(client.bind(at("0.0.0.0", 0)) == Error::none);
    client.send(pattern(5), at("10.0.0.255", 7));
    CHECK(client.take_error() == EACCES);
    REQUIRE(client.set(SOL_SOCKET, SO_BROADCAST, 1) == Error::none);
    client.send(pattern(5), at("10.0.0.255", 7));
    Bytes got;
    CHECK(one.receive(got));
    REQUIRE(two.receive(got));
    CHECK(got == pattern(5));
    CHECK(p.b.packets_in_use() == 0);

    TestSocket here(p.world, p.a, SlotKind::datagram); // RFC 1122 3.3.6: the sender's own host is on the network too
    REQUIRE(here.bind(at("0.0.0.0", 7)) == Error::none);
    for (std::size_t size : {std::size_t{5}, std::size_t{3000}}) {
        for (const char* everyone : {"10.0.0.255", "255.255.255.255"}) {
            client.send(pattern(size), at(everyone, 7));
            REQUIRE(here.receive(got));
            CHECK(got == pattern(size));
            CHECK(!here.receive(got));
            CHECK(one.receive(got));
        }
    }
    CHECK(p.a.packets_in_use() == 0);
}

TEST_CASE("SO_REUSEPORT: flows spread over the group and each stays with one socket")
{
    Pair p(1, 2);
    TestSocket one(p.world, p.b, SlotKind::datagram, 0);
    TestSocket two(p.world, p.b, SlotKind::datagram, 1);
    for (TestSocket* s : {&one, &two}) {
        REQUIRE(s->set(SOL_SOCKET, SO_REUSEPORT, 1) == Error::none);
        REQUIRE(s->bind(at("0.0.0.0", 7)) == Error::none);
    }
    int first = 0;
    int second = 0;
    Bytes got;
    for (std::uint16_t port = 6000; port < 6032; ++port) {
        TestSocket c(p.world, p.a, SlotKind::datagram);
        REQUIRE(c.bind(at("0.0.0.0", port)) == Error::none);
        c.send(pattern(1), at("10.0.0.2", 7));
        c.send(pattern(1), at("10.0.0.2", 7));
        int here = (one.receive(got) ? 1 : 0) + (one.receive(got) ? 1 : 0);
        int there = (two.receive(got) ? 1 : 0) + (two.receive(got) ? 1 : 0);
        REQUIRE(here + there == 2);
        REQUIRE((here == 0 || there == 0));
        first += here;
        second += there;
        REQUIRE(c.close() == Error::none);
    }
    CHECK(first > 0);
    CHECK(second > 0);
}

TEST_CASE("a host talks to itself through the loopback interface")
{
    Pair p(2, 1);
    TestSocket server(p.world, p.a, SlotKind::datagram, 0);
    TestSocket client(p.world, p.a, SlotKind::datagram, 1);
    REQUIRE(server.bind(at("10.0.0.1", 7)) == Error::none);
    REQUIRE(client.connect(at("10.0.0.1", 7)) == Error::none);
    client.send(pattern(3000));
    Bytes got;
    REQUIRE(server.receive(got));
    CHECK(got == pattern(3000));
    CHECK(p.a.link->sent.empty());
}

TEST_CASE("close sends what was published, releases the port everywhere and detaches once")
{
    Pair p(3, 1);
    TestSocket server(p.world, p.b, SlotKind::datagram);
    REQUIRE(server.bind(at("0.0.0.0", 7)) == Error::none);
    TestSocket client(p.world, p.a, SlotKind::datagram, 2);
    REQUIRE(client.bind(at("10.0.0.1", 5000)) == Error::none);
    sockbuf::DatagramHeader h{};
    h.size = 10;
    h.port = 7;
    std::memcpy(h.addr, ip("10.0.0.2").bytes(), 16);
    for (int i = 0; i < 100; ++i) {
        client.send_raw(h, pattern(10));
    }
    REQUIRE(client.close() == Error::none);
    p.world.advance(base::millis(1));
    CHECK(client.detached == 1);
    CHECK(p.a.counted(&StackCounters::udp_out) == 100);
    for (base::CpuId cpu = 0; cpu < 3; ++cpu) {
        CHECK(p.a.domain(cpu).udp_ports->size() == 0);
    }
}

TEST_CASE("what a close or setsockopt sends first goes out in batches, a handler each")
{
    constexpr int records = 640;
    constexpr int batch = 64;
    auto close = GENERATE(false, true);
    Pair p(3, 1);
    TestSocket server(p.world, p.b, SlotKind::datagram);
    REQUIRE(server.bind(at("0.0.0.0", 7)) == Error::none);
    TestSocket client(p.world, p.a, SlotKind::datagram, 2);
    REQUIRE(client.bind(at("10.0.0.1", 5000)) == Error::none);
    sockbuf::DatagramHeader h{};
    h.size = 10;
    h.port = 7;
    std::memcpy(h.addr, ip("10.0.0.2").bytes(), 16);
    for (int i = 0; i < records; ++i) {
        client.send_raw(h, pattern(10));
    }
    const auto& handlers = p.a.set.cpu(2).counters().items[static_cast<unsigned>(lwkt::Class::serial)];
    std::uint64_t before = handlers.load();
    int ttl = 3;
    REQUIRE((close ? client.close() : client.set(IPPROTO_IP, IP_TTL, &ttl, sizeof ttl)) == Error::none);
    CHECK(handlers.load() - before >= records / batch);
    CHECK(p.a.counted(&StackCounters::udp_out) == records);
    CHECK(client.so.snd_acked == client.so.snd_limit);
}
