// The shared-memory gateway: a hostile family writes whatever it likes wherever it can, between any two rounds of the
// CPUs: requests, offsets, marks, lanes, locks, waiters; its processes come, fork and die. Beside it an honest family
// goes on talking; not one of its bytes may be lost. At the end the hostile family is gone, and all it held is back.
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <vector>

#include "drivers/loopback.hpp"
#include "tests/fuzz/choices.hpp"
#include "tests/gateway/fake_app.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using fuzz::Choices;
using sockbuf::Op;

constexpr unsigned steps_max = 300;
constexpr unsigned attaches_max = 4;
constexpr std::uint32_t sockets = 128;
constexpr std::uint16_t honest_port = 4000;

base::IpAddr loopback(bool v6)
{
    return v6 ? base::parse_ip("::1").value() : base::IpAddr::v4(0x7f000001);
}

class World {
public:
    explicit World(Choices& c)
        : c_(c), set_(clock_, cpu_options(c)), stack_(set_, stack_options()), gw_(make_gateway()),
          honest_(set_, clock_, *gw_)
    {
        gw_->set_wake([](std::uint32_t, std::uint32_t) {});
        listener_ = honest_.socket(0);
        INVARIANT(honest_.call(listener_, Op::bind, {loopback(false), honest_port}) == 0);
        INVARIANT(honest_.call(listener_, Op::listen, {}, 4) == 0);
        client_ = honest_.socket(honest_.view.cpus() - 1);
        INVARIANT(honest_.call(client_, Op::connect, {loopback(false), honest_port}) == EINPROGRESS);
        honest_.settle();
        server_ = honest_.accept(listener_);
        attach();
    }

    void run()
    {
        for (unsigned i = 0; i < steps_max && !c_.done(); ++i) {
            act();
            if (i % 64 == 63) {
                honest_talk();
            }
        }
        honest_talk();
        if (c_.flag()) { // netd ends in the middle of it all
            for (unsigned i = hostile_ != nullptr ? c_.below(8) : 0; i != 0; --i) {
                request();
            }
            gw_.reset();
            return;
        }
        if (hostile_ != nullptr) {
            leave();
        }
        honest_talk();
        honest_.close(client_);
        honest_.settle();
        honest_.close(server_);
        honest_.close(listener_);
        honest_.settle(400'000'000); // orphans of the hostile family give up
        for (const auto& left : gw_->sockets()) {
            std::fprintf(stderr, "left: client %u slot %u %s %s to %s, %llu to read, %llu to send\n", left.client,
                left.slot, left.state.c_str(), base::to_string(left.flow.local).c_str(),
                base::to_string(left.flow.peer).c_str(), static_cast<unsigned long long>(left.recv_queue),
                static_cast<unsigned long long>(left.send_queue));
        }
        INVARIANT(gw_->sockets_held() == 0);
        INVARIANT(gw_->ring_bytes_in_use() == 0);
    }

private:
    static lwkt::CpuSetOptions cpu_options(Choices& c)
    {
        lwkt::CpuSetOptions o;
        o.pin.assign(1 + c.below(3), -1);
        o.ring_slots = 64;
        return o;
    }
    static protocols::StackOptions stack_options()
    {
        protocols::StackOptions o;
        o.packets.packets_per_cpu = 512;
        o.packets.large_per_cpu = 16;
        o.duplicate_probes = 0;
        return o;
    }
    std::unique_ptr<gateway::Gateway> make_gateway()
    {
        std::string error;
        INVARIANT(stack_.add_interface(std::make_unique<drivers::Loopback>(),
                      {{loopback(false), 8}, {loopback(true), 128}}, error) != nullptr);
        gateway::GatewayOptions o;
        o.segment.sockets = sockets;
        o.segment.ring_memory = std::uint64_t{1} << 26;
        o.send_ring_shift = o.receive_ring_shift = 16;
        o.datagram_ring_shift = 17;
        o.idle_after = base::millis(500);
        o.join_pairs = c_.flag();
        return std::make_unique<gateway::Gateway>(stack_, o);
    }

    void attach()
    {
        if (attaches_ == attaches_max) {
            return;
        }
        ++attaches_;
        std::string error;
        hostile_ = gw_->attach(2, error, c_.flag() ? 7 : 0);
        INVARIANT(hostile_ != nullptr);
        view_ = gw_->segment(*hostile_).view();
        processes_ = 1;
    }
    void leave()
    {
        for (std::uint32_t p = 0; p < sockbuf::max_processes && processes_ != 0; ++p) {
            if ((processes_ >> p & 1) != 0) {
                processes_ &= ~(std::uint64_t{1} << p);
                INVARIANT(gw_->process_gone(*hostile_, p) == (processes_ == 0));
            }
        }
        gw_->detach(*hostile_);
        hostile_ = nullptr;
    }

    void honest_talk()
    {
        std::string text = "message " + std::to_string(++messages_);
        INVARIANT(honest_.send(client_, text.data(), text.size()) == text.size());
        std::string got;
        for (int i = 0; i < 100 && got.size() < text.size(); ++i) {
            honest_.settle(1'000'000);
            got += honest_.receive(server_);
        }
        INVARIANT(got == text);
    }

    std::uint32_t some_cpu() { return c_.below(view_.cpus()); }
    std::uint32_t some_slot() { return c_.below(sockets); }
    std::uint32_t some_process()
    {
        std::uint32_t p = c_.below(8);
        return p < 6 ? 0 : c_.below(sockbuf::max_processes);
    }
    void act();
    void request();
    void long_option(sockbuf::Request& r);
    void scribble();
    void move_offset();
    void datagram();
    void take();
    void processes();
    void waiters();
    void store(std::byte* at);
    std::byte* some_word();

    Choices& c_;
    lwkt::VirtualClock clock_;
    lwkt::CpuSet set_;
    protocols::Stack stack_;
    std::unique_ptr<gateway::Gateway> gw_;
    test::FakeApp honest_;
    test::FakeApp::Sock listener_, client_, server_;
    unsigned messages_ = 0;
    gateway::Client* hostile_ = nullptr;
    sockbuf::SegmentView view_;
    std::uint64_t processes_ = 0;
    unsigned attaches_ = 0;
    std::uint32_t sequence_ = 0;
};

void World::act()
{
    unsigned what = c_.below(16);
    if (hostile_ == nullptr && what > 2) {
        return attach();
    }
    switch (what) {
    case 0:
        set_.step_one(static_cast<base::CpuId>(c_.below(static_cast<unsigned>(set_.size()))));
        return;
    case 1:
        return honest_.settle(std::int64_t{c_.byte()} * 1000);
    case 2:
        return honest_.settle(std::int64_t{c_.byte()} * 100'000);
    case 3:
    case 4:
    case 5:
    case 6:
        return request();
    case 7:
    case 8:
        return move_offset();
    case 9:
        return datagram();
    case 10:
        return take();
    case 11:
        return processes();
    case 12:
        return waiters();
    case 13:
        sockbuf::set_mark(view_, some_cpu(), some_slot());
        return;
    default:
        return scribble();
    }
}

// Like one that a program would make, or not.
void World::request()
{
    static constexpr std::uint16_t ports[] = {0, 5000, 5001, honest_port};
    static constexpr std::pair<int, int> options[] = {{SOL_SOCKET, SO_REUSEPORT}, {SOL_SOCKET, SO_RCVBUF},
        {SOL_SOCKET, SO_SNDBUF}, {SOL_SOCKET, SO_LINGER}, {IPPROTO_TCP, TCP_INFO}, {IPPROTO_TCP, TCP_NODELAY},
        {IPPROTO_TCP, TCP_CONGESTION}, {IPPROTO_IPV6, IPV6_V6ONLY}, {SOL_SOCKET, SO_ERROR}, {IPPROTO_TCP, TCP_MAXSEG}};
    sockbuf::Request r{};
    r.op = c_.below(10);
    r.slot = some_slot();
    std::uint8_t odd = c_.byte();
    r.generation = view_.slot(r.slot).info.generation.load();
    r.sequence = (odd & 1) != 0 ? 0 : ++sequence_;
    r.kind = 1 + (odd >> 1 & 1);
    bool v6 = (odd & 4) != 0;
    r.family = v6 ? AF_INET6 : AF_INET;
    r.port = ports[c_.below(4)];
    r.value = static_cast<std::int32_t>(c_.delta());
    auto [level, name] = options[c_.below(std::size(options))];
    r.level = level;
    r.name = name;
    base::IpAddr addr = (odd & 8) != 0 ? (v6 ? base::IpAddr{} : base::IpAddr::any_v4()) : loopback(v6);
    std::memcpy(r.addr, addr.bytes(), sizeof r.addr);
    r.size = c_.byte();
    r.data[0] = c_.byte();
    if ((odd & 0xc0) == 0x40) {
        long_option(r);
    }
    if (odd >= 0xc0) { // any byte of it may be anything
        auto* bytes = reinterpret_cast<unsigned char*>(&r);
        for (unsigned i = 0, n = 1 + c_.below(4); i < n; ++i) {
            bytes[c_.byte() % sizeof r] = c_.byte();
        }
    }
    std::uint32_t process = some_process();
    std::uint32_t cpu =
        (odd & 16) != 0 ? some_cpu() : view_.slot(r.slot % sockets).info.owner_cpu.load() % view_.cpus();
    auto& ring = view_.requests(process, cpu);
    std::uint32_t at = ring.produced.load();
    std::memcpy(&ring.entries[at % sockbuf::request_slots], &r, sizeof r);
    ring.produced.store(at + 1);
    view_.marks(cpu).processes.fetch_or(std::uint64_t{1} << process);
    if ((odd & 32) == 0) {
        honest_.settle();
    }
}

// One whose value is more than a number, as a program has it.
void World::long_option(sockbuf::Request& r)
{
    static constexpr std::pair<int, int> options[] = {{IPPROTO_TCP, TCP_CONGESTION}, {IPPROTO_IP, MCAST_JOIN_GROUP},
        {IPPROTO_IP, MCAST_LEAVE_GROUP}, {IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP}, {IPPROTO_IP, MCAST_BLOCK_SOURCE},
        {IPPROTO_IP, MCAST_MSFILTER}, {IPPROTO_IPV6, MCAST_JOIN_GROUP}, {IPPROTO_IPV6, MCAST_MSFILTER},
        {IPPROTO_IP, IP_ADD_MEMBERSHIP}, {IPPROTO_IP, IP_MULTICAST_IF}, {IPPROTO_IP, IP_RECVERR},
        {IPPROTO_TCP, TCP_FASTOPEN}, {IPPROTO_TCP, TCP_FASTOPEN_KEY}, {IPPROTO_TCP, TCP_DEFER_ACCEPT},
        {IPPROTO_TCP, TCP_CC_INFO}, {SOL_SOCKET, SO_KEEPALIVE}};
    static constexpr const char* algorithms[] = {"reno", "cubic", "bbr", "dctcp", "westwood"};
    r.op = static_cast<std::uint32_t>(c_.below(4) != 3 ? Op::setsockopt : Op::getsockopt);
    auto [level, name] = options[c_.below(std::size(options))];
    r.level = level;
    r.name = name;
    r.size = sockbuf::request_data_max;
    base::IpAddr group = level == IPPROTO_IPV6 ? base::parse_ip("ff02::77").value() : base::IpAddr::v4(0xe0000077);
    if (level == IPPROTO_TCP) {
        std::strcpy(reinterpret_cast<char*>(r.data), algorithms[c_.below(std::size(algorithms))]);
    } else if (name == MCAST_MSFILTER) {
        sockbuf::FilterPiece piece{};
        std::memcpy(piece.group, group.bytes(), sizeof piece.group);
        piece.interface = c_.below(3);
        piece.exclude = c_.below(2);
        piece.total = c_.below(5);
        piece.first = c_.below(5);
        piece.count = c_.below(4);
        std::memcpy(r.data, &piece, sizeof piece);
    } else if (name == IP_ADD_MEMBERSHIP) {
        std::memcpy(r.data, group.bytes() + 12, 4); // of an IPv4 address mapped into IPv6
    } else {
        sockbuf::GroupRequest join{};
        std::memcpy(join.group, group.bytes(), sizeof join.group);
        std::memcpy(join.source, loopback(level == IPPROTO_IPV6).bytes(), sizeof join.source);
        join.interface = c_.below(3);
        std::memcpy(r.data, &join, sizeof join);
    }
}

// As sending, receiving and ending move them, or a little beside that.
void World::move_offset()
{
    std::uint32_t slot = some_slot();
    auto& s = view_.slot(slot);
    auto by = static_cast<std::uint64_t>(c_.delta());
    switch (c_.below(6)) {
    case 0:
    case 1:
        s.app.snd_produced.fetch_add(by);
        break;
    case 2:
        s.app.rcv_consumed.store(s.owner.rcv_produced.load() + (c_.flag() ? by : 0));
        break;
    case 3:
        s.app.snd_end.store(s.app.snd_produced.load() + (c_.flag() ? by : 0));
        break;
    case 4:
        s.app.want_space.store(1);
        break;
    default:
        s.app.snd_start.store(static_cast<std::uint32_t>(s.app.snd_produced.load() + by));
    }
    std::uint32_t cpu = s.info.owner_cpu.load() % view_.cpus();
    sockbuf::set_mark(view_, cpu, slot);
}

// A record in what netd takes for the socket's send ring, if that lies inside of the segment.
void World::datagram()
{
    std::uint32_t slot = some_slot();
    auto& s = view_.slot(slot);
    std::uint64_t ring = std::uint64_t{s.info.snd_ring.load()} << sockbuf::page_shift;
    unsigned shift = s.info.snd_shift;
    if (ring < view_.layout().rings || shift < 12 || shift > 20 ||
        ring + (std::uint64_t{1} << shift) > view_.layout().bytes) {
        return;
    }
    sockbuf::DatagramHeader h{};
    h.size = c_.flag() ? c_.byte() : c_.half();
    h.segment = c_.below(4) != 3 ? 0 : c_.byte();
    h.port = c_.flag() ? 5000 : c_.half();
    h.tos = c_.byte();
    h.ttl = c_.byte();
    h.interface = c_.below(4) != 3 ? 0 : c_.byte();
    h.flags = c_.below(4);
    std::memcpy(h.addr, loopback(c_.flag()).bytes(), sizeof h.addr);
    std::uint64_t at = s.app.snd_produced.load() & ~std::uint64_t{31};
    view_.ring(ring, shift, s.app.snd_start.load() & ~31U).copy_in(at, &h, sizeof h);
    s.app.snd_produced.store(at + sockbuf::datagram_stride(h.size));
    sockbuf::set_mark(view_, s.info.owner_cpu.load() % view_.cpus(), slot);
}

// A slot from a grant lane or, if there are any, from accept lanes; the claim may stay half done.
void World::take()
{
    auto* lane = &view_.grant_lane(some_cpu());
    if (c_.flag()) {
        auto& info = view_.slot(some_slot()).info;
        std::uint64_t at = std::uint64_t{info.rcv_ring.load()} << sockbuf::page_shift;
        std::uint32_t cpu = some_cpu();
        std::uint64_t end = at + sockbuf::lane_stride(info.lane_entries) * view_.cpus();
        if (info.lane_entries == 0 || at < view_.layout().rings || end > view_.layout().bytes) {
            return;
        }
        lane = &view_.accept_lane(at, info.lane_entries, cpu);
    }
    std::uint32_t at = lane->consumed.load();
    std::uint32_t capacity = lane->capacity;
    if (at == lane->produced.load() || capacity == 0 || capacity > 4096) {
        return;
    }
    auto slot = static_cast<std::uint32_t>(sockbuf::SegmentView::lane_entries(*lane)[at % capacity].load()) % sockets;
    view_.slot(slot).share.holders.fetch_or(std::uint64_t{1} << some_process());
    if (c_.below(8) != 7) {
        lane->consumed.store(at + 1);
        view_.slot(slot).share.holders.fetch_and(~sockbuf::lane_holder);
    }
}

void World::processes()
{
    std::uint32_t process = 0;
    switch (c_.below(6)) {
    case 0:
    case 1:
        if (gw_->add_process(*hostile_, 3, process)) {
            processes_ |= std::uint64_t{1} << process;
        }
        return;
    case 2:
    case 3:
        process = some_process();
        if ((processes_ >> process & 1) != 0) {
            processes_ &= ~(std::uint64_t{1} << process);
            bool last = gw_->process_gone(*hostile_, process);
            INVARIANT(last == (processes_ == 0));
            if (last) {
                gw_->detach(*hostile_);
                hostile_ = nullptr;
            }
        }
        return;
    case 4:
        (void)gw_->sockets();
        return;
    default:
        if (c_.flag()) {
            gw_->poison(*hostile_);
        }
        return leave();
    }
}

void World::waiters()
{
    std::uint32_t w = c_.below(8);
    std::uint32_t process = some_process();
    if (c_.flag()) {
        auto kind = c_.flag() ? sockbuf::WaiterKind::set : sockbuf::WaiterKind::thread;
        if ((processes_ >> process & 1) != 0) {
            gw_->add_waiter(*hostile_, process, kind, -1, w);
        }
    } else {
        gw_->drop_waiter(*hostile_, process, w);
    }
    view_.waiter(w).sleeping.store(1);
    auto& waiters = view_.slot(some_slot()).app.waiters;
    waiters[0].fetch_or(std::uint64_t{1} << w);
    waiters[1].fetch_or(std::uint64_t{1} << w); // of numbers that nobody has
}

// Anywhere in the segment where something lies that netd reads.
std::byte* World::some_word()
{
    auto* lane = reinterpret_cast<std::byte*>(&view_.grant_lane(some_cpu()));
    auto* slot = reinterpret_cast<std::byte*>(&view_.slot(some_slot()));
    switch (c_.below(10)) {
    case 0:
    case 1:
    case 2:
    case 3:
        return slot + (c_.byte() & ~7U);
    case 4:
        return reinterpret_cast<std::byte*>(&view_.marks(some_cpu())) + (c_.byte() & 120);
    case 5:
        return reinterpret_cast<std::byte*>(&view_.mark_bits(some_cpu())[c_.below(sockets / 64)]);
    case 6:
        return lane + (c_.flag() ? 0 : 64) + (c_.byte() & 56);
    case 7: {
        auto* ring = reinterpret_cast<std::byte*>(&view_.requests(some_process(), some_cpu()));
        return ring + (c_.half() % sizeof(sockbuf::RequestRing) & ~std::size_t{7});
    }
    case 8:
        return reinterpret_cast<std::byte*>(&view_.lanes(some_slot())[c_.below(view_.cpus() + 1)]) +
               (c_.byte() & 120); // and the error queue
    default:
        return view_.base() + (c_.word() % view_.layout().bytes & ~std::uint64_t{7}); // headers, lanes, rings
    }
}

void World::store(std::byte* at)
{
    auto* word = reinterpret_cast<std::atomic<std::uint64_t>*>(at);
    auto* half = reinterpret_cast<std::atomic<std::uint32_t>*>(at + (c_.flag() ? 4 : 0));
    switch (c_.below(4)) {
    case 0:
        word->store(c_.wide());
        break;
    case 1:
        word->fetch_add(static_cast<std::uint64_t>(c_.delta()));
        break;
    case 2:
        half->store(c_.word());
        break;
    default:
        half->fetch_add(static_cast<std::uint32_t>(c_.delta()));
    }
}

void World::scribble()
{
    store(some_word());
    if (c_.flag()) {
        std::uint32_t cpu = some_cpu();
        view_.marks(cpu).summary[0].fetch_or(1);
        view_.marks(cpu).processes.fetch_or(1);
    }
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    Choices choices(data, size);
    World(choices).run();
    return 0;
}
