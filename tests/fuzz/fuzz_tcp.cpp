// The TCP state machine: a whole stack on a virtual clock, whose peers send segments with fields near the valid ones,
// whose applications call, and whose time passes, all as the input's bytes say. Checked after every step: what holds of
// every connection (tests/tcp/tcb_checks.hpp), every octet that is sent or delivered, that work comes to an end; at the
// end that nothing is left. One input, one world.
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <string>

#include "protocols/tcp/tcp_cc.hpp"
#include "tests/fuzz/tcp_peer.hpp"
#include "tests/tcp/tcb_checks.hpp"
#include "tests/tcp/tcp_host.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using fuzz::Choices;
using tcp_test::App;

constexpr std::size_t apps_max = 12;
constexpr unsigned steps_max = 400;
constexpr int rounds_max = 20'000;             // of work that follows one event
constexpr base::Micros longest{3'600'000'000}; // until the last orphan has given up

struct Numbers { // of an application's connection, once known
    std::uint32_t iss = 0;
    std::uint32_t irs = 0;
    bool known = false;
};

class World {
public:
    explicit World(Choices& c) : c_(c), v6_(c.flag()), peer_(v6_), host_(clock_, options(c))
    {
        static constexpr std::uint32_t mtus[] = {1500, 1280, 9000, 1400};
        static constexpr std::uint32_t super[] = {0, 65535};
        std::uint32_t mtu = mtus[c.below(4)];
        std::uint32_t tso = super[c.below(2)];
        bool gro = mtu % 2 == 0; // drawn already
        auto netif = std::make_unique<tcp_test::ScriptNetif>(mtu, tso, gro ? 65535 : 0, gro);
        netif_ = netif.get();
        std::string error;
        INVARIANT(host_.stack->add_interface(std::move(netif),
                      {{fuzz::stack_address(v6_), static_cast<std::uint8_t>(v6_ ? 64 : 24)}}, error) != nullptr);
        settle();
        packets_at_start_ = host_.packets_in_use();
        listener_ = &make();
        host_.listen(*listener_, {any(), fuzz::stack_port}, 1 + static_cast<int>(c.below(8)));
        settle();
    }

    void run()
    {
        for (unsigned i = 0; i < steps_max && !c_.done(); ++i) {
            act();
            settle();
            check();
        }
        end();
    }

private:
    static tcp_test::HostOptions options(Choices& c)
    {
        static constexpr const char* algorithms[] = {"cubic", "reno", "dctcp", "bbr"};
        tcp_test::HostOptions o;
        o.cpus = 1 + c.below(2);
        o.ring_shift = 12 + c.below(8);
        o.packets_per_cpu = 256;
        o.stack.connections_per_cpu = 64;
        o.stack.time_wait_per_cpu = 8;
        o.stack.syn_cache_per_cpu = 4;
        o.stack.duplicate_probes = 0;
        std::uint8_t bits = c.byte();
        o.stack.syn_cookies = (bits & 1) != 0;
        o.stack.tcp_sack = (bits & 2) == 0;
        o.stack.tcp_timestamps = (bits & 4) == 0;
        o.stack.tcp_window_scaling = (bits & 8) == 0;
        o.stack.tcp_tail_probes = (bits & 16) == 0;
        o.stack.ecn = static_cast<protocols::Ecn>(c.below(6));
        std::uint8_t which = c.byte(); // westwood came later: where no input of the corpus is
        int congestion = protocols::tcp::congestion_by_name(which / 16 == 7 ? "westwood" : algorithms[which % 4]);
        o.stack.congestion = static_cast<std::uint8_t>(std::max(congestion, 0));
        return o;
    }

    base::IpAddr any() const { return v6_ ? base::IpAddr{} : base::IpAddr::any_v4(); }
    App& make()
    {
        App& a = host_.make(static_cast<base::CpuId>(c_.below(static_cast<unsigned>(host_.set.size()))));
        a.so.family = v6_ ? AF_INET6 : AF_INET;
        a.so.flow.local.addr = a.so.flow.peer.addr = any();
        return a;
    }
    App& some_app() { return *host_.apps[c_.byte() % host_.apps.size()]; }
    protocols::Tcb* tcb_of(unsigned flow)
    {
        for (base::CpuId cpu = 0; cpu < host_.set.size(); ++cpu) {
            auto& all = host_.tcp(cpu).all;
            for (protocols::Tcb* t = all.front(); t != nullptr; t = all.next(*t)) {
                if (t->flow.peer.port == fuzz::peer_port + flow) {
                    return t;
                }
            }
        }
        return nullptr;
    }

    void settle()
    {
        int rounds = 0;
        while (host_.set.step()) {
            INVARIANT(++rounds < rounds_max); // the work that follows one event ends
        }
        for (const auto& packet : netif_->sent) {
            trace("sent", packet.bytes);
            peer_.observe(packet);
        }
        netif_->sent.clear();
        learn();
    }
    void advance(base::Micros by)
    {
        base::Instant until = clock_.now() + by;
        for (int rounds = 0;; ++rounds) {
            INVARIANT(rounds < rounds_max * 10);
            base::Instant next = host_.set.next_deadline();
            if (next >= until) {
                break;
            }
            clock_.advance_to(std::max(next, clock_.now()));
            settle();
            check();
        }
        clock_.advance_to(until);
        settle();
    }
    void inject(const std::vector<unsigned char>& bytes)
    {
        if (bytes.empty()) {
            return;
        }
        last_ = bytes;
        trace("received", bytes);
        host_.run(0, [&](protocols::Domain&) { netif_->inject(bytes); });
    }

    // NETD_FUZZ_TRACE=1: what happens, as it happens.
    void trace(const char* what, const std::vector<unsigned char>& packet = {})
    {
        static const bool wanted = std::getenv("NETD_FUZZ_TRACE") != nullptr;
        if (wanted) {
            std::string text = packet.empty() ? std::string() : fuzz::describe(packet);
            std::fprintf(stderr, "%10lld %s %s\n", static_cast<long long>(clock_.now().time_since_epoch().count()),
                what, text.c_str());
        }
    }
    void learn();
    void check();
    void act();
    void act_as_peer(unsigned flow);
    void act_as_application(unsigned what);
    void write(App& a, std::uint64_t bytes);
    void read(App& a, std::uint64_t bytes);
    void set_option(App& a);
    void icmp(unsigned flow);
    void spoil();
    void end();

    Choices& c_;
    bool v6_;
    fuzz::Peer peer_;
    lwkt::VirtualClock clock_;
    tcp_test::Host host_;
    tcp_test::ScriptNetif* netif_ = nullptr;
    App* listener_ = nullptr;
    std::map<const App*, Numbers> numbers_;
    std::vector<unsigned char> last_; // packet that was injected
    std::size_t packets_at_start_ = 0;
};

void World::learn()
{
    for (auto& a : host_.apps) {
        Numbers& n = numbers_[a.get()];
        if (!n.known && !a->detached && !a->so.listening && a->so.tcb != nullptr &&
            protocols::tcp::synchronized(a->so.tcb->state)) {
            n = {a->so.tcb->snd.iss.raw(), a->so.tcb->rcv.irs.raw(), true};
        }
    }
}

void World::check()
{
    for (base::CpuId cpu = 0; cpu < host_.set.size(); ++cpu) {
        protocols::TcpState& tcp = host_.tcp(cpu);
        const char* wrong = tcp_test::wrong_with_listeners(tcp);
        for (protocols::Tcb* t = tcp.all.front(); t != nullptr && wrong == nullptr; t = tcp.all.next(*t)) {
            wrong = tcp_test::wrong_with_connection(*t);
        }
        if (wrong != nullptr) {
            std::fprintf(stderr, "CPU %u: %s\n", unsigned{cpu}, wrong);
        }
        INVARIANT(wrong == nullptr);
    }
    for (auto& a : host_.apps) {
        INVARIANT(!a->orphan_events);
    }
}

void World::act()
{
    unsigned what = c_.below(16);
    if (what < 8) {
        act_as_peer(what);
    } else if (what < 10) {
        static constexpr std::int64_t steps[] = {0, 1'000, 10'000, 45'000, 250'000, 1'100'000, 7'000'000, 65'000'000};
        unsigned which = c_.below(9);
        base::Instant next = host_.set.next_deadline();
        bool to_next = which == 8 && next != base::never;
        advance(to_next ? std::max(next - clock_.now(), base::Micros{0}) + base::Micros{1}
                        : base::Micros{steps[which % 8]});
    } else {
        act_as_application(what - 10);
    }
}

void World::act_as_peer(unsigned what)
{
    unsigned flow = c_.below(fuzz::peer_flows);
    switch (what) {
    case 0:
    case 1:
    case 2:
        return inject(peer_.segment(c_, flow, tcb_of(flow)));
    case 3:
    case 4: // a SYN-ACK with more than a small ring holds
        return inject(peer_.answer(flow, what == 4 ? 20'000 : 0));
    case 5: {
        unsigned size = c_.below(256);
        return inject(peer_.text(flow, 1 + (size < 240 ? size * 5 : (size - 239) * 4'000), c_.below(8) == 7));
    }
    case 6:
        return icmp(flow);
    default:
        return spoil();
    }
}

// The last packet once more, or with some of its bits turned: most such die at the checksum, as they should.
void World::spoil()
{
    std::vector<unsigned char> bytes = last_;
    unsigned changes = c_.below(4);
    for (unsigned i = 0; i < changes && !bytes.empty(); ++i) {
        bytes[c_.half() % bytes.size()] ^= c_.byte();
    }
    if (!bytes.empty() && c_.flag()) {
        bytes.resize(1 + c_.half() % bytes.size());
    }
    std::vector<unsigned char> kept = last_;
    inject(bytes);
    last_ = std::move(kept);
}

void World::icmp(unsigned flow)
{
    static constexpr std::uint8_t types[] = {3, 4, 11, 12};
    const protocols::Tcb* t = tcb_of(flow);
    protocols::IcmpError e;
    e.flow = {{fuzz::stack_address(v6_), peer_.flows[flow].local},
        {fuzz::peer_address(v6_), static_cast<std::uint16_t>(fuzz::peer_port + flow)}};
    e.protocol = 6;
    e.type = types[c_.below(4)];
    e.code = c_.below(8);
    e.mtu = c_.half();
    e.tcp_seq =
        (t != nullptr ? t->snd.una.raw() : peer_.flows[flow].stack_una) + static_cast<std::uint32_t>(c_.delta());
    trace("ICMP error");
    host_.run(host_.stack->steering().cpu_of(e.flow), [&](protocols::Domain& d) { protocols::tcp_icmp_error(d, e); });
}

void World::act_as_application(unsigned what)
{
    App& a = some_app();
    if (what == 0 && host_.apps.size() < apps_max) {
        App& fresh = make();
        auto port = static_cast<std::uint16_t>(fuzz::peer_port + c_.below(fuzz::peer_flows));
        trace("connect");
        host_.connect(fresh, {fuzz::peer_address(v6_), port});
        return;
    }
    if (a.detached) {
        return read(a, c_.half());
    }
    bool ended = a.slot.app.snd_end.load() != sockbuf::no_offset;
    switch (what) {
    case 1:
        return ended ? void() : write(a, std::uint64_t{c_.byte()} << c_.below(10));
    case 2:
        return read(a, std::uint64_t{c_.byte()} << c_.below(10));
    case 3:
        return set_option(a);
    case 4:
        trace("shutdown");
        host_.shutdown(a, static_cast<int>(c_.below(3)));
        return;
    default:
        if (a.so.app_closed) {
            return;
        }
        if (c_.below(3) == 2) {
            trace("abort");
            host_.abort(a);
        } else if (&a != listener_ || c_.below(4) == 3) {
            trace("close");
            host_.close(a);
        } else {
            host_.refuse_accept = !host_.refuse_accept;
        }
    }
}

void World::write(App& a, std::uint64_t bytes)
{
    const protocols::Tcb* t = a.so.listening ? nullptr : a.so.tcb;
    if (t == nullptr || !a.so.snd_ring.valid() || a.so.app_closed) {
        return;
    }
    bytes = std::min(bytes, a.room());
    std::vector<std::uint8_t> text(bytes);
    std::uint32_t first = t->snd.iss.raw() + 1 + static_cast<std::uint32_t>(a.written);
    for (std::size_t i = 0; i < bytes; ++i) {
        text[i] = fuzz::content(first + static_cast<std::uint32_t>(i), fuzz::from_stack);
    }
    trace(("write " + std::to_string(bytes)).c_str());
    a.write(text.data(), bytes);
}

void World::read(App& a, std::uint64_t bytes)
{
    if (!a.so.rcv_ring.valid()) {
        return;
    }
    std::uint64_t before = a.read;
    std::vector<std::uint8_t> text(std::min(bytes, a.readable()));
    trace(("read " + std::to_string(text.size())).c_str());
    std::uint64_t n = a.take(text.data(), text.size());
    const Numbers& numbers = numbers_[&a];
    for (std::size_t i = 0; i < n && numbers.known; ++i) {
        std::uint32_t seq = numbers.irs + 1 + static_cast<std::uint32_t>(before + i);
        INVARIANT(text[i] == fuzz::content(seq, fuzz::from_peer)); // no octet lost, doubled or in another's place
    }
}

void World::set_option(App& a)
{
    static constexpr std::pair<int, int> options[] = {{IPPROTO_TCP, TCP_NODELAY}, {IPPROTO_TCP, TCP_CORK},
        {IPPROTO_TCP, TCP_QUICKACK}, {IPPROTO_TCP, TCP_MAXSEG}, {IPPROTO_TCP, TCP_KEEPIDLE},
        {IPPROTO_TCP, TCP_KEEPINTVL}, {IPPROTO_TCP, TCP_KEEPCNT}, {IPPROTO_TCP, TCP_SYNCNT}, {IPPROTO_TCP, TCP_LINGER2},
        {IPPROTO_TCP, TCP_USER_TIMEOUT}, {SOL_SOCKET, SO_KEEPALIVE}, {SOL_SOCKET, SO_RCVBUF}, {SOL_SOCKET, SO_SNDBUF},
        {SOL_SOCKET, SO_LINGER}, {IPPROTO_TCP, TCP_DEFER_ACCEPT}, {IPPROTO_TCP, TCP_NOTSENT_LOWAT}};
    auto [level, name] = options[c_.below(std::size(options))];
    auto value = static_cast<int>(c_.delta());
    trace(("option " + std::to_string(name) + " = " + std::to_string(value)).c_str());
    host_.set_option(a, level, name, value);
}

// Everybody goes; after an hour nothing may be left.
void World::end()
{
    host_.refuse_accept = true;
    for (std::size_t i = 0; i < host_.apps.size(); ++i) {
        App& a = *host_.apps[i];
        read(a, ~std::uint64_t{0});
        if (!a.detached && !a.so.app_closed) {
            host_.abort(a);
            settle();
        }
    }
    advance(longest);
    INVARIANT(host_.connections() == 0 && host_.open_sockets() == 0);
    for (base::CpuId cpu = 0; cpu < host_.set.size(); ++cpu) {
        INVARIANT(host_.tcp(cpu).time_wait.slab.in_use() == 0 && host_.tcp(cpu).flows.size() == 0);
        INVARIANT(host_.tcp(cpu).listener_slab.in_use() == 0);
    }
    INVARIANT(host_.packets_in_use() == packets_at_start_);
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    Choices choices(data, size);
    World(choices).run();
    return 0;
}
