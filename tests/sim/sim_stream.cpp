// Applications with streams: clients that connect, services that accept, and the servers of single connections.
#include <netinet/in.h>

#include "tests/sim/sim_conduit.hpp"

namespace sim {

namespace {

// What a connect may meet: refusals while nobody listens, limits, the loss of everything.
void connect_failed(App& a, Connection& c, int error)
{
    const Service& s = a.world.services()[c.service];
    a.world.note("connect failed", c.id, static_cast<std::uint64_t>(-error));
    a.world.result().timeouts += error == -ETIMEDOUT ? 1 : 0;
    bool served = s.listening && s.epoch == c.service_epoch;
    switch (error) {
    case -ECONNREFUSED:
        if (served) {
            a.world.violation(fmt::format("connect to service {} is refused though it listens", s.number));
        }
        return;
    case -ETIMEDOUT:
    case -ENOBUFS:
    case -ENOMEM:
    case -ENFILE:
    case -EADDRNOTAVAIL:
    case -EHOSTUNREACH:
    case -ENETUNREACH: // no router just now
    case -ECONNRESET:  // accepted and reset before we looked
        return;
    default:
        a.world.violation(fmt::format("connect to service {} gives error {}", s.number, -error));
    }
}

int connect_to(App& a, client::Sock k, Address address, bool wait_inside)
{
    client::Session& s = a.session();
    if (wait_inside) {
        return client::sock_connect(s, k, address.get(), address.size);
    }
    client::sock_set_status_flags(s, k, SOCK_NONBLOCK);
    int rc = client::sock_connect(s, k, address.get(), address.size);
    if (rc != -EINPROGRESS) {
        return rc;
    }
    while (a.wait_ready(k, EPOLLOUT, a.world.now() + patience) == 0) {
    }
    int error = 0;
    socklen_t size = sizeof error;
    client::sock_getsockopt(s, k, SOL_SOCKET, SO_ERROR, &error, &size);
    return -error;
}

Service* choose_service(App& a, base::Endpoint& to)
{
    auto& all = a.world.services();
    for (unsigned tries = 0; tries < 8 && !all.empty(); ++tries) {
        Service& s = all[a.random.below(static_cast<std::uint32_t>(all.size()))];
        if (!s.datagrams && a.world.address_of(*a.family.node, *s.node, a.random, to.addr)) {
            to.port = s.port;
            return &s;
        }
    }
    return nullptr;
}

// A descriptor that was closed names nothing, whoever has its slot now. (Not yet given out again, a slot that still
// sends may answer otherwise.)
void use_stale(App& a)
{
    if (!a.has_stale || !a.random.chance(0.2)) {
        return;
    }
    const auto& slot = a.session().view.slot(a.stale.slot);
    bool given_out = slot.info.generation.load() != a.stale.generation;
    a.has_stale = !given_out;
    unsigned char byte = 0;
    if (given_out && client::sock_recv(a.session(), a.stale, &byte, 1, MSG_DONTWAIT, nullptr, nullptr) != -EBADF) {
        a.world.violation("a closed socket can be read");
    }
}

// A slot is never given out twice under one number.
void check_number(App& a, client::Sock k)
{
    std::uint32_t& last = a.family.last_number[k.slot];
    if (last == k.generation) {
        a.world.violation(fmt::format("slot {} is given out twice under the number {}", k.slot, last));
    }
    last = k.generation;
}

void one_connection(App& a)
{
    use_stale(a);
    base::Endpoint to;
    Service* service = choose_service(a, to);
    client::Sock k;
    if (service == nullptr) {
        return;
    }
    int family = a.world.socket_family(to.addr, a.random);
    int rc = a.control("socket", [&] { return client::sock_socket(a.session(), family, SOCK_STREAM, 0, k); });
    if (rc != 0) {
        if (rc != -ENFILE) {
            a.world.violation(fmt::format("socket() gives error {}", -rc));
        }
        return;
    }
    check_number(a, k);
    Connection& c = a.world.ledger().open(static_cast<Script>(a.random.below(scripts)));
    c.service = service->number - 1;
    c.service_epoch = service->epoch;
    draw_script(a, c);
    a.connection = &c;
    a.side = client_side;
    draw_limits(a, k, c);
    draw_options(a, k, c, true);
    use_blocking_calls(a, k);
    rc = connect_to(a, k, Address(to, family), a.blocking);
    Conduit d{a, k, c, client_side};
    if (rc != 0 && !(a.blocking && rc == -EINPROGRESS)) {
        connect_failed(a, c, rc);
        d.mine().rude = true;
        d.close();
    } else if (rc != 0) { // SO_SNDTIMEO
        d.mine().rude = true;
        d.close();
    } else {
        ++a.world.result().connections;
        a.world.note("connected", c.id);
        if (a.random.chance(0.2)) {
            draw_options(a, k, c, false);
        }
        run_script(d);
        finish(d);
    }
    stop_blocking(a);
}

// The first bytes of an accepted connection say which it is; null: it went before they came.
Connection* read_header(App& a, client::Sock k)
{
    unsigned char header[header_bytes];
    std::size_t got = 0;
    base::Instant since = a.world.now();
    while (got < header_bytes) {
        ssize_t rc =
            client::sock_recv(a.session(), k, header + got, header_bytes - got, MSG_DONTWAIT, nullptr, nullptr);
        if (rc > 0) {
            got += static_cast<std::size_t>(rc);
        } else if (rc != -EAGAIN || a.world.now() - since > header_patience) {
            return nullptr;
        } else {
            a.wait_ready(k, EPOLLIN, a.world.now() + patience);
        }
    }
    Connection* c = a.world.ledger().read_header(header);
    bool over = c != nullptr && (c->end[client_side].rude || c->end[server_side].rude || c->end[server_side].finished);
    if (over && c->accepted && a.family.node->sent_cookies()) {
        c->opened_again = true; // by a SYN cookie in a late segment, after it was reset or forgotten (RFC 4987 3.6)
        return nullptr;
    }
    if (c == nullptr || c->accepted) {
        a.world.violation(c == nullptr ? "an accepted connection begins with bytes that nobody sent"
                                       : fmt::format("connection {} was accepted twice", c->id));
    }
    return c;
}

} // namespace

void stream_server(App& a, client::Sock k, Service&)
{
    Connection* c = read_header(a, k);
    if (c == nullptr) {
        client::sock_release(a.session(), k);
        return;
    }
    c->accepted = true;
    c->end[server_side].received = header_bytes;
    a.connection = c;
    a.side = server_side;
    a.world.note("accepted", c->id);
    use_blocking_calls(a, k);
    Conduit d{a, k, *c, server_side};
    if (d.theirs().sent + d.theirs().sending < header_bytes) {
        a.world.violation(fmt::format("connection {}: its first bytes arrived before they were sent", c->id));
    }
    draw_limits(a, k, *c);
    if (a.random.chance(0.1)) {
        draw_options(a, k, *c, false);
    }
    run_script(d);
    finish(d);
    stop_blocking(a);
}

void stream_client(App& a)
{
    while (!a.world.draining()) {
        one_connection(a);
        a.rest(base::Micros{1 + a.random.below(static_cast<std::uint32_t>(a.world.config().think_time_us + 1))});
    }
}

namespace {

bool open_service(App& a, Service& s, client::Sock& k)
{
    int family = a.world.service_family();
    if (a.control("socket",
            [&] { return client::sock_socket(a.session(), family, SOCK_STREAM | SOCK_NONBLOCK, 0, k); }) != 0) {
        return false;
    }
    set_option(a, k, SOL_SOCKET, SO_REUSEADDR, 1);
    if (a.random.chance(0.3)) {
        set_option(a, k, SOL_SOCKET, SO_RCVBUF, static_cast<int>(4096U << a.random.below(5)));
    }
    Address at({family == AF_INET6 ? base::IpAddr{} : base::IpAddr::any_v4(), s.port}, family);
    int rc = a.control("bind", [&] { return client::sock_bind(a.session(), k, at.get(), at.size); });
    if (rc == 0) {
        int backlog = a.random.chance(0.3) ? 1 : 16;
        rc = a.control("listen", [&] { return client::sock_listen(a.session(), k, backlog); });
    }
    if (rc == -EADDRINUSE) {
        a.world.violation(
            fmt::format("port {} of service {} is in use though its last holder has closed", s.port, s.number));
    }
    if (rc != 0) {
        client::sock_release(a.session(), k);
        return false;
    }
    return true;
}

void accept_one(App& a, Service& s, client::Sock listener)
{
    client::Sock k;
    int rc = client::sock_accept(a.session(), listener, nullptr, nullptr, SOCK_NONBLOCK, k);
    if (rc == -EAGAIN) {
        return;
    }
    if (rc != 0) {
        a.world.violation(fmt::format("accept gives error {}", -rc));
    }
    check_number(a, k);
    a.world.note("accept", s.number);
    client::sock_set_status_flags(a.session(), k, 0);
    a.world.spawn(
        a.family, "server", [k, &s](App& server) { stream_server(server, k, s); }, false);
}

} // namespace

void stream_service(App& a, Service& s)
{
    while (!a.world.closing()) {
        client::Sock k;
        if (!open_service(a, s, k)) {
            a.rest(base::millis(5));
            continue;
        }
        ++s.epoch;
        s.listening = true;
        a.serves = &s;
        a.world.note("listens", s.number);
        bool stays = a.random.chance(0.5);
        base::Instant until = a.world.now() + base::Micros{a.random.below(5'000'000)};
        while (!a.world.closing() && (stays || a.world.now() < until || a.world.draining())) {
            if (a.wait_ready(k, EPOLLIN, a.world.now() + base::seconds(1)) != 0) {
                accept_one(a, s, k);
                a.breathe_at_times();
            }
        }
        s.listening = false;
        ++s.epoch;
        a.serves = nullptr;
        a.world.note("listens no more", s.number);
        client::sock_release(a.session(), k);
        if (a.random.chance(0.5)) {
            a.rest(base::Micros{a.random.below(50'000)});
        }
    }
}

} // namespace sim
