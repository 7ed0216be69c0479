// Applications with datagrams: a service that answers what it gets, and clients that check the answers. A datagram's
// bytes are a keyed function of who sent it and of its number, so a wrong, mixed or foreign one is seen.
#include <netinet/in.h>

#include <fmt/format.h>

#include <bit>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "tests/sim/sim_conduit.hpp"

namespace sim {

namespace {

constexpr std::size_t datagram_max = 6000; // fragments on most links
constexpr unsigned exchanges_max = 11;     // and a few of them in one step
constexpr int ect0 = 2;                    // RFC 3168 5
constexpr unsigned ce = 3;
constexpr unsigned not_told = 4;

struct DatagramHead {
    std::uint64_t sender;
    std::uint64_t number;
    std::uint64_t bytes;
};

unsigned char byte_at(const DatagramHead& h, std::size_t i)
{
    return static_cast<unsigned char>(mix(h.sender * 77 + h.number + (std::uint64_t{i / 8} << 32)) >> (i % 8 * 8));
}

std::size_t compose(App& a, const DatagramHead& h)
{
    std::memcpy(a.buffer, &h, sizeof h);
    for (std::size_t i = sizeof h; i < h.bytes; ++i) {
        a.buffer[i] = byte_at(h, i);
    }
    return h.bytes;
}

// A link flips one bit of a frame. The flips of two fragments cancel in the 16-bit checksum when they are of the same
// bit, in bytes an even distance apart, and go opposite ways (RFC 1071): nobody can see that.
bool flips_cancel(const App& a, const DatagramHead& h)
{
    std::size_t wrong[2] = {};
    int differs[2] = {};
    unsigned n = 0;
    for (std::size_t i = sizeof h; i < h.bytes; ++i) {
        if (int d = a.buffer[i] - byte_at(h, i); d != 0) {
            if (n == 2) {
                return false;
            }
            wrong[n] = i;
            differs[n++] = d;
        }
    }
    bool one_bit = std::has_single_bit(static_cast<unsigned>(std::abs(differs[0])));
    return n == 2 && one_bit && differs[0] == -differs[1] && (wrong[1] - wrong[0]) % 2 == 0;
}

// What a datagram says of itself, once it is known to be right.
DatagramHead check(App& a, std::size_t got)
{
    DatagramHead h;
    if (got < sizeof h) {
        a.world.violation(fmt::format("a datagram of {} bytes, which nobody sent", got));
    }
    std::memcpy(&h, a.buffer, sizeof h);
    for (std::size_t i = sizeof h; i < got && h.bytes == got; ++i) {
        if (a.buffer[i] != byte_at(h, i) && !flips_cancel(a, h)) {
            a.world.violation(fmt::format("datagram {} of {}: byte {} is wrong", h.number, h.sender, i));
        }
    }
    if (h.bytes != got) {
        a.world.violation(fmt::format("a datagram of {} bytes was sent with {}", got, h.bytes));
    }
    ++a.world.result().datagrams;
    a.world.note("datagram", h.sender, h.number, got);
    return h;
}

int open_datagram(App& a, int family, client::Sock& k)
{
    return a.control(
        "socket", [&] { return client::sock_socket(a.session(), family, SOCK_DGRAM | SOCK_NONBLOCK, 0, k); });
}

// ECN-capable datagrams, some of the time, and on every socket the field of what comes.
void use_marks(App& a, int family, client::Sock k)
{
    if (!a.world.config().marks) {
        return;
    }
    if (a.random.chance(0.7)) {
        set_option(a, k, IPPROTO_IP, IP_TOS, ect0);
        if (family == AF_INET6) {
            set_option(a, k, IPPROTO_IPV6, IPV6_TCLASS, ect0);
        }
    }
    set_option(a, k, IPPROTO_IP, IP_RECVTOS, 1);
    if (family == AF_INET6) {
        set_option(a, k, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    }
}

// As recvfrom; also tells what the IP header said of congestion, not_told when nothing did.
ssize_t receive(App& a, client::Sock k, Address& from, unsigned& ecn)
{
    iovec bytes{a.buffer, sizeof a.buffer};
    alignas(cmsghdr) unsigned char control[128];
    msghdr m{};
    m.msg_name = from.get();
    m.msg_namelen = from.size;
    m.msg_iov = &bytes;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = sizeof control;
    ssize_t rc = client::sock_recvmsg(a.session(), k, &m, 0);
    from.size = m.msg_namelen;
    ecn = not_told;
    for (cmsghdr* c = rc < 0 ? nullptr : CMSG_FIRSTHDR(&m); c != nullptr; c = CMSG_NXTHDR(&m, c)) {
        bool v4 = c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS;
        bool v6 = c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS;
        if (v4 || v6) {
            ecn = *CMSG_DATA(c) & ce; // of both the low octet comes first
        }
    }
    return rc;
}

void check_mark(App& a, const DatagramHead& h, unsigned ecn, bool request)
{
    World& w = a.world;
    if (!w.config().marks || w.config().corrupts() || (!request && w.config().duplicates())) {
        return; // IPv6 has no checksum over the field; and a request that came twice has two answers
    }
    std::optional<bool> marked = w.marks().marked(h.sender, h.number, request);
    if (ecn == not_told || (marked && *marked != (ecn == ce))) {
        w.violation(fmt::format("datagram {} of {} was {}marked on its way and comes with {}", h.number, h.sender,
            marked.value_or(false) ? "" : "not ", ecn));
    }
}

// Errors of datagram calls: no space now, no memory, what ICMP told.
bool tolerable(int error)
{
    return error == -EAGAIN || error == -ENOBUFS || error == -ECONNREFUSED || error == -EHOSTUNREACH ||
           error == -ENETUNREACH || error == -ENOMEM;
}

// Where routers come and go a connected socket can lose its address; what it sends then is refused (udp_usrreq.cpp).
bool tolerable(const App& a, bool connected, int error)
{
    return tolerable(error) || (connected && error == -EINVAL && a.world.addresses_expire());
}

void exchange_datagrams(App& a, client::Sock k, Address address, bool connected)
{
    base::Endpoint to = address.endpoint();
    std::uint64_t begun = a.world.step() * exchanges_max;
    for (unsigned n = 1 + a.random.below(exchanges_max - 1); n != 0; --n) {
        std::size_t most = a.random.chance(0.2) ? datagram_max : 1000;
        DatagramHead h{
            a.number, a.world.step() * exchanges_max + n, sizeof h + a.random.below(static_cast<std::uint32_t>(most))};
        std::size_t bytes = compose(a, h);
        ssize_t rc = client::sock_send(
            a.session(), k, a.buffer, bytes, 0, connected ? nullptr : address.get(), connected ? 0 : address.size);
        if (rc < 0 ? !tolerable(a, connected, static_cast<int>(rc)) : static_cast<std::size_t>(rc) != bytes) {
            a.world.violation(fmt::format("sending a datagram of {} bytes gives {}", bytes, rc));
        }
        a.wait_ready(k, EPOLLIN, a.world.now() + base::Micros{a.random.below(20'000)});
        Address from;
        unsigned ecn = 0;
        rc = receive(a, k, from, ecn);
        if (rc < 0 && !tolerable(a, connected, static_cast<int>(rc))) {
            a.world.violation(fmt::format("receiving a datagram gives error {}", -rc));
        }
        if (rc >= 0) {
            // Perhaps to a datagram of who had the port before: until a connect is complete anybody's are taken, as on
            // Linux.
            DatagramHead answer = check(a, static_cast<std::size_t>(rc));
            check_mark(a, answer, ecn, false);
            if (connected && !(from.endpoint() == to) && answer.number >= begun) {
                a.world.violation(fmt::format("an answer came from {}", base::to_string(from.endpoint())));
            }
        }
        a.breathe_at_times();
    }
}

void one_conversation(App& a)
{
    auto& all = a.world.services();
    Service& s = all[a.random.below(static_cast<std::uint32_t>(all.size()))];
    base::Endpoint to{{}, s.port};
    client::Sock k;
    if (!s.datagrams || !a.world.address_of(*a.family.node, *s.node, a.random, to.addr)) {
        return;
    }
    int family = a.world.socket_family(to.addr, a.random);
    if (open_datagram(a, family, k) != 0) {
        return;
    }
    use_marks(a, family, k);
    Address address(to, family);
    bool connected = a.random.chance(0.5);
    int rc = connected ? a.control("connect",
                             [&] { return client::sock_connect(a.session(), k, address.get(), address.size); })
                       : 0;
    if (rc == 0) {
        exchange_datagrams(a, k, address, connected);
    } else if (rc != -ENOBUFS && rc != -EADDRINUSE && rc != -EADDRNOTAVAIL && rc != -ENETUNREACH && rc != -ENOMEM) {
        a.world.violation(fmt::format("connect of a datagram socket gives error {}", -rc));
    }
    client::sock_release(a.session(), k);
}

} // namespace

void datagram_client(App& a)
{
    while (!a.world.draining()) {
        one_conversation(a);
        a.rest(base::Micros{1 + a.random.below(static_cast<std::uint32_t>(a.world.config().think_time_us + 1))});
    }
}

void datagram_service(App& a, Service& s)
{
    while (!a.world.closing()) {
        client::Sock k;
        int family = a.world.service_family();
        if (open_datagram(a, family, k) != 0) {
            a.rest(base::millis(5));
            continue;
        }
        Address at({family == AF_INET6 ? base::IpAddr{} : base::IpAddr::any_v4(), s.port}, family);
        int rc = a.control("bind", [&] { return client::sock_bind(a.session(), k, at.get(), at.size); });
        if (rc == -EADDRINUSE) {
            a.world.violation(fmt::format("datagram port {} is in use though its last holder has closed", s.port));
        }
        use_marks(a, family, k);
        bool stays = a.random.chance(0.5);
        base::Instant until = a.world.now() + base::Micros{a.random.below(2'000'000)};
        while (rc == 0 && !a.world.closing() && (stays || a.world.now() < until || a.world.draining())) {
            if (a.wait_ready(k, EPOLLIN, a.world.now() + base::seconds(1)) == 0) {
                continue;
            }
            Address from;
            unsigned ecn = 0;
            ssize_t n = receive(a, k, from, ecn);
            if (n < 0 && !tolerable(static_cast<int>(n))) {
                a.world.violation(fmt::format("a datagram service's receive gives error {}", -n));
            }
            if (n >= 0) {
                check_mark(a, check(a, static_cast<std::size_t>(n)), ecn, true);
                client::sock_send(a.session(), k, a.buffer, static_cast<std::size_t>(n), 0, from.get(), from.size);
            }
            a.breathe_at_times();
        }
        client::sock_release(a.session(), k);
        a.rest(base::Micros{1 + a.random.below(20'000)});
    }
}

} // namespace sim
