// A scripted DHCP server on the link of one host, in virtual time.
#pragma once

#include "protocols/dhcp/dhcp_client.hpp"
#include "protocols/ipv4.hpp"
#include "tests/protocols/frames.hpp"
#include "tests/protocols/host.hpp"

namespace test::dhcp {

using protocols::DhcpPhase;
using wire::DhcpMessage;
using wire::DhcpType;

inline constexpr std::uint32_t given = 0x0a050007; // 10.5.0.7
inline constexpr std::uint32_t server = 0x0a050001;
inline constexpr std::uint32_t limited = 0xffffffff;
inline constexpr unsigned char server_mac = 9;

struct Sent {
    DhcpMessage m;
    std::uint32_t source;
    std::uint32_t destination;
    base::MacAddr to;
    base::Instant at;
};

// A host without an address on a link with a server, which the test can change or silence.
struct Link {
    explicit Link(unsigned cpus = 3) : Link({.cpus = cpus, .address = nullptr, .dhcp = true}) {}
    explicit Link(const HostOptions& o) : h(world.add(slot, o))
    {
        offer.lease_s = 3600;
        offer.mask = 0xffff0000;
        offer.routers = {{server}, 1};
        offer.dns = {{0x0a050002, 0x0a050003}, 2};
    }
    // Looks at what was sent; answers while the server is alive.
    void look()
    {
        while (seen < h.link->sent.size()) {
            Bytes f = h.link->sent[seen++];
            if (f[12] == 8 && f[13] == 6) {
                take_arp(*wire::parse_arp(f.data() + 14, 28));
                continue;
            }
            auto size = static_cast<std::uint32_t>(f.size() - 42);
            auto m = wire::parse_dhcp(f.data() + 42, size);
            REQUIRE(m.has_value());
            REQUIRE(base::load_be16(f.data() + 36) == wire::dhcp_server_port);
            base::MacAddr to;
            std::copy_n(f.begin(), 6, to.bytes.begin());
            sent.push_back({*m, base::load_be32(f.data() + 26), base::load_be32(f.data() + 30), to, world.clock.now()});
            answer(*m);
        }
    }
    void take_arp(const wire::Arp& a)
    {
        if (a.operation != wire::arp_request) {
            return;
        }
        arp.push_back(a);
        if (a.target_v4 == server || a.target_v4 == taken) {
            base::MacAddr who = mac(a.target_v4 == server ? server_mac : 77);
            inject(arp_frame(mac(1), {wire::arp_reply, who, a.target_v4, mac(1), a.sender_v4}));
        }
    }
    void answer(const DhcpMessage& m)
    {
        if (alive && m.type == DhcpType::discover) {
            reply(m, DhcpType::offer);
        } else if (alive && m.type == DhcpType::request) {
            reply(m, refuses ? DhcpType::nak : DhcpType::ack);
        }
    }
    void reply(const DhcpMessage& to, DhcpType type)
    {
        DhcpMessage m = offer;
        m.from_server = true;
        m.type = type;
        m.xid = to.xid;
        m.mac = to.mac;
        m.yours = type == DhcpType::nak ? 0 : address;
        m.server = server;
        deliver(m);
    }
    void deliver(const DhcpMessage& m)
    {
        Bytes b(wire::dhcp_emit_max);
        b.resize(wire::emit_dhcp(b.data(), m));
        deliver(b);
    }
    void deliver(const Bytes& payload)
    {
        IpFields f{.source = server, .destination = replies_to, .to = replies_at};
        inject(ip_frame(f, udp_datagram(f, wire::dhcp_server_port, wire::dhcp_client_port, payload)));
    }
    void inject(const Bytes& frame)
    {
        h.link->inject(frame, static_cast<base::CpuId>(++turn % h.stack.cpus()));
        world.settle();
    }
    void run(base::Micros time)
    {
        base::Micros step = time > base::seconds(300) ? base::seconds(1) : base::millis(100);
        for (base::Instant end = world.clock.now() + time; world.clock.now() < end;) {
            world.settle();
            look();
            world.advance(std::min(step, end - world.clock.now()));
            look();
        }
    }
    unsigned cpus_with(std::uint32_t a)
    {
        unsigned n = 0;
        for (base::CpuId cpu = 0; cpu < h.stack.cpus(); ++cpu) {
            h.on(cpu, [&](protocols::Domain& d) { n += protocols::ipv4_is_local(d, a) ? 1 : 0; });
        }
        return n;
    }
    base::CpuId owner() { return protocols::dhcp_owner(h.domain(), *h.eth); }
    const protocols::DhcpClient& client() { return *protocols::dhcp_client(h.domain(owner()), *h.eth); }
    protocols::Route route(const char* to, base::CpuId cpu = 0)
    {
        protocols::Route r;
        h.on(cpu, [&](protocols::Domain& d) { REQUIRE(protocols::route_lookup(d, base::parse_ip(to).value(), r)); });
        return r;
    }
    // CPUs where what is beyond the networks goes by this router.
    unsigned cpus_by(std::uint32_t router)
    {
        unsigned n = 0;
        for (base::CpuId cpu = 0; cpu < h.stack.cpus(); ++cpu) {
            h.on(cpu, [&](protocols::Domain& d) {
                protocols::Route r;
                bool way = protocols::route_lookup(d, base::parse_ip("192.0.2.1").value(), r);
                n += way && r.next_hop == base::IpAddr::v4(router) ? 1 : 0;
            });
        }
        return n;
    }
    bool bound()
    {
        run(base::seconds(3));
        return client().phase == DhcpPhase::bound && cpus_with(address) == h.stack.cpus();
    }

    World world;
    std::unique_ptr<Host> slot;
    Host& h;
    DhcpMessage offer;
    std::uint32_t address = given;
    std::uint32_t taken = 0; // an address that another host has
    std::uint32_t replies_to = limited;
    base::MacAddr replies_at = base::MacAddr::broadcast();
    bool alive = true;
    bool refuses = false;
    std::size_t seen = 0;
    unsigned turn = 0;
    std::vector<Sent> sent;
    std::vector<wire::Arp> arp;
};

} // namespace test::dhcp
