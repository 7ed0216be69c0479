// Frames of every kind for a whole stack with sockets in it: ARP, neighbour discovery, ICMP, fragments, options and
// extension headers, UDP; built near the valid ones with checksums set right, then a little spoiled, or entirely the
// input's. Checked: work ends, and once all has timed out every packet is back in its pool.
#include <netinet/in.h>

#include <algorithm>

#include "base/endian.hpp"
#include "protocols/wire/checksum.hpp"
#include "tests/fuzz/choices.hpp"
#include "tests/gateway/fake_app.hpp"
#include "tests/protocols/frame_netif.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

namespace wire = protocols::wire;
using base::IpAddr;
using fuzz::Choices;
using sockbuf::Op;
using test::Bytes;

constexpr unsigned steps_max = 200;
constexpr std::uint16_t port = 5000;
constexpr base::Micros longest{4000'000'000}; // address lifetimes and reassembly are shorter, or end nothing

IpAddr ip(const char* text)
{
    return base::parse_ip(text).value();
}

class World {
public:
    explicit World(Choices& c) : c_(c), set_(clock_, cpu_options(c)), stack_(set_, stack_options()), gw_(make_gateway())
    {
        app_ = std::make_unique<test::FakeApp>(set_, clock_, *gw_);
        datagrams_ = app_->bound_datagram(0, {IpAddr::any_v4(), port});
        auto listener = app_->socket(0);
        INVARIANT(app_->call(listener, Op::bind, {IpAddr::any_v4(), port}) == 0);
        INVARIANT(app_->call(listener, Op::listen, {}, 4) == 0);
        settle();
        at_start_ = in_use();
    }

    void run()
    {
        for (unsigned i = 0; i < steps_max && !c_.done(); ++i) {
            act();
        }
        settle(); // what was injected last has arrived before the long wait begins
        advance(longest);
        for (base::CpuId cpu = 0; cpu < set_.size(); ++cpu) {
            app_->receive_datagrams(datagrams_, cpu);
        }
        settle();
        INVARIANT(in_use() <= at_start_);
    }

private:
    static lwkt::CpuSetOptions cpu_options(Choices& c)
    {
        lwkt::CpuSetOptions o;
        o.pin.assign(1 + c.below(2), -1);
        o.ring_slots = 64;
        return o;
    }
    protocols::StackOptions stack_options()
    {
        protocols::StackOptions o;
        o.packets.packets_per_cpu = 512;
        o.packets.large_per_cpu = 16;
        o.duplicate_probes = c_.below(2);
        return o;
    }
    std::unique_ptr<gateway::Gateway> make_gateway()
    {
        netmsg::NetifInfo info;
        info.name = "eth0";
        info.mac = base::MacAddr{{2, 0, 0, 0, 0, 1}};
        auto frames = std::make_unique<test::FrameNetif>(info);
        link_ = frames.get();
        std::string error;
        INVARIANT(stack_.add_interface(
                      std::move(frames), {{ip("10.0.0.1"), 24}, {ip("fd00::1"), 64}}, error, c_.flag()) != nullptr);
        gateway::GatewayOptions o;
        o.segment.sockets = 64;
        o.segment.ring_memory = std::uint64_t{1} << 25;
        o.send_ring_shift = o.receive_ring_shift = o.datagram_ring_shift = 16;
        return std::make_unique<gateway::Gateway>(stack_, o);
    }
    std::size_t in_use()
    {
        std::size_t n = 0;
        for (base::CpuId cpu = 0; cpu < set_.size(); ++cpu) {
            n += stack_.pool().in_use(cpu);
        }
        return n;
    }
    void settle()
    {
        for (int rounds = 0; set_.step(); ++rounds) {
            INVARIANT(rounds < 20'000);
        }
        link_->sent.clear();
    }
    void advance(base::Micros by)
    {
        base::Instant until = clock_.now() + by;
        for (int rounds = 0; set_.next_deadline() < until; ++rounds) {
            INVARIANT(rounds < 200'000);
            clock_.advance_to(std::max(set_.next_deadline(), clock_.now()));
            settle();
        }
        clock_.advance_to(until);
        settle();
    }

    void act();
    void send_datagram();
    Bytes arp();
    Bytes packet_v4();
    Bytes packet_v6();
    Bytes message(bool v6, std::uint8_t& protocol);
    Bytes payload();
    Bytes ethernet(std::uint16_t type, const Bytes& body);

    Choices& c_;
    lwkt::VirtualClock clock_;
    lwkt::CpuSet set_;
    protocols::Stack stack_;
    test::FrameNetif* link_ = nullptr;
    std::unique_ptr<gateway::Gateway> gw_;
    std::unique_ptr<test::FakeApp> app_;
    test::FakeApp::Sock datagrams_;
    std::size_t at_start_ = 0;
    Bytes last_;
};

void World::act()
{
    static constexpr std::int64_t steps[] = {1'000, 300'000, 1'100'000, 31'000'000};
    Bytes frame;
    switch (c_.below(10)) {
    case 0:
        return advance(base::Micros{steps[c_.below(4)]});
    case 1:
        return send_datagram();
    case 2: {
        auto raw = c_.bytes(1 + c_.byte());
        frame.assign(raw.begin(), raw.end());
        break;
    }
    case 3:
        frame = arp();
        break;
    case 4:
    case 5:
        frame = packet_v4();
        break;
    case 6:
        frame = last_;
        break;
    default:
        frame = packet_v6();
    }
    if (frame.empty()) {
        return;
    }
    last_ = frame;
    for (unsigned i = 0, n = c_.below(8); i < n && n > 4 && !frame.empty(); ++i) {
        frame[c_.half() % frame.size()] ^= c_.byte();
    }
    link_->inject(frame, static_cast<base::CpuId>(c_.below(static_cast<unsigned>(set_.size()))));
    if (c_.below(4) != 3) {
        settle();
    }
}

void World::send_datagram()
{
    static const IpAddr to[] = {ip("10.0.0.2"), ip("10.0.0.77"), ip("10.0.0.255"), ip("224.0.0.5")};
    app_->send_datagram(datagrams_, {to[c_.below(4)], port}, std::string(std::size_t{c_.byte()} * 12, 'x'));
    settle();
}

Bytes World::ethernet(std::uint16_t type, const Bytes& body)
{
    Bytes b{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0, 0};
    static constexpr unsigned char first[] = {2, 2, 2, 0xff, 0x33, 1, 6, 2};
    b[0] = first[c_.below(8)];
    if (b[0] == 0xff) {
        std::fill(b.begin(), b.begin() + 6, static_cast<unsigned char>(0xff));
    }
    base::store_be16(&b[12], type);
    b.insert(b.end(), body.begin(), body.end());
    return b;
}

Bytes World::arp()
{
    Bytes b{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1};
    b[7] = c_.below(4);
    b[17] = c_.below(4);
    b[13] = c_.byte();
    b[27] = c_.below(3);
    return ethernet(0x0806, b);
}

// Mostly some bytes of the input, sometimes many after them.
Bytes World::payload()
{
    auto own = c_.bytes(c_.byte() % 80);
    Bytes b(own.begin(), own.end());
    static constexpr std::size_t sizes[] = {0, 0, 0, 64, 600, 1400};
    b.resize(b.size() + sizes[c_.below(6)], 'p');
    return b;
}

// What lies behind the IP headers; the checksum field is 0.
Bytes World::message(bool v6, std::uint8_t& protocol)
{
    static constexpr std::uint8_t types_v4[] = {8, 0, 3, 11, 12, 4, 5, 13};
    static constexpr std::uint8_t types_v6[] = {128, 1, 2, 3, 4, 133, 134, 135, 136, 137, 130, 131};
    Bytes body = payload();
    Bytes b;
    switch (c_.below(5)) {
    case 0:
    case 1:
        protocol = v6 ? 58 : 1;
        b = {v6 ? types_v6[c_.below(12)] : types_v4[c_.below(8)], c_.below(6), 0, 0};
        break;
    case 2:
    case 3:
        protocol = 17;
        b.resize(8);
        base::store_be16(&b[0], 7000);
        base::store_be16(&b[2], static_cast<std::uint16_t>(port + (c_.below(8) == 7 ? 1 : 0)));
        base::store_be16(&b[4], static_cast<std::uint16_t>(8 + body.size()));
        break;
    default:
        protocol = c_.below(4) == 0 ? c_.byte() : 6;
    }
    b.insert(b.end(), body.begin(), body.end());
    return b;
}

void set_checksum(Bytes& b, std::uint8_t protocol, const IpAddr& from, const IpAddr& to)
{
    std::size_t at = protocol == 17 ? 6 : protocol == 6 ? 16 : 2;
    if (b.size() < at + 2) {
        return;
    }
    base::store_be16(&b[at], 0);
    wire::Checksum sum = protocol == 1 ? wire::Checksum{}
                                       : wire::pseudo_header(from, to, protocol, static_cast<std::uint32_t>(b.size()));
    sum.add(b.data(), b.size());
    base::store_be16(&b[at], sum.finish());
}

Bytes World::packet_v4()
{
    static const IpAddr sources[] = {ip("10.0.0.2"), ip("10.0.0.2"), ip("10.0.0.1"), ip("10.0.0.255"), ip("224.0.0.1"),
        ip("0.0.0.0"), ip("127.0.0.1"), ip("8.8.8.8")};
    static const IpAddr destinations[] = {
        ip("10.0.0.1"), ip("10.0.0.1"), ip("10.0.0.1"), ip("10.0.0.255"), ip("255.255.255.255"), ip("224.0.0.1")};
    IpAddr from = sources[c_.below(8)];
    IpAddr to = destinations[c_.below(6)];
    std::uint8_t protocol = 0;
    Bytes body = message(false, protocol);
    set_checksum(body, protocol, from, to);
    std::uint16_t fragment = c_.below(4) == 3 ? c_.half() & 0x201f : 0; // small offsets, so that they meet
    if (fragment != 0) {
        body.resize(body.size() & ~std::size_t{7});
    }
    std::size_t options = c_.below(8) == 7 ? std::size_t{c_.below(11)} * 4 : 0;
    Bytes b(20 + options);
    b[0] = static_cast<unsigned char>(0x45 + options / 4);
    base::store_be16(&b[2], static_cast<std::uint16_t>(b.size() + body.size()));
    base::store_be16(&b[4], c_.below(3));
    base::store_be16(&b[6], fragment);
    b[8] = c_.below(2) != 0 ? 64 : 1;
    b[9] = protocol;
    base::store_be32(&b[12], from.v4());
    base::store_be32(&b[16], to.v4());
    for (std::size_t i = 20; i < b.size(); ++i) {
        b[i] = c_.byte();
    }
    base::store_be16(&b[10], wire::checksum(b.data(), b.size()));
    b.insert(b.end(), body.begin(), body.end());
    return ethernet(0x0800, b);
}

Bytes World::packet_v6()
{
    static const IpAddr sources[] = {
        ip("fd00::2"), ip("fe80::2"), ip("fe80::2"), ip("::"), ip("fd00::1"), ip("ff02::1")};
    static const IpAddr destinations[] = {
        ip("fd00::1"), ip("fe80::ff:fe00:1"), ip("ff02::1"), ip("ff02::1:ff00:1"), ip("fd00::9")};
    static constexpr std::uint8_t kinds[] = {0, 43, 44, 60, 51, 59};
    IpAddr from = sources[c_.below(6)];
    IpAddr to = destinations[c_.below(5)];
    std::uint8_t protocol = 0;
    Bytes body = message(true, protocol);
    set_checksum(body, protocol, from, to);
    std::uint8_t next = protocol;
    for (unsigned i = 0, n = c_.below(8); i < n && n < 4; ++i) { // extension headers, from the inside out
        Bytes h(8 + std::size_t{c_.below(4) == 3 ? 8U : 0U});
        std::uint8_t kind = kinds[c_.below(6)];
        h[0] = next;
        h[1] = static_cast<unsigned char>(kind == 44 ? 0 : h.size() / 8 - 1);
        for (std::size_t k = 2; k < h.size(); ++k) {
            h[k] = kind == 44 && k == 2 ? 0 : c_.byte() & (kind == 44 && k == 3 ? 0xf9 : 0xff);
        }
        next = kind;
        body.insert(body.begin(), h.begin(), h.end());
    }
    Bytes b(40);
    b[0] = 0x60;
    base::store_be16(&b[4], static_cast<std::uint16_t>(body.size()));
    b[6] = next;
    b[7] = c_.below(3) == 0 ? 64 : 255;
    std::copy(from.bytes(), from.bytes() + 16, &b[8]);
    std::copy(to.bytes(), to.bytes() + 16, &b[24]);
    b.insert(b.end(), body.begin(), body.end());
    return ethernet(0x86dd, b);
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    Choices choices(data, size);
    World(choices).run();
    return 0;
}
