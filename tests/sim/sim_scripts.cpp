// What the two ends of a connection do: by its script, with options drawn by the application.
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "protocols/tcp/tcp_cc.hpp"
#include "tests/sim/sim_conduit.hpp"

namespace sim {

void set_option(App& a, client::Sock k, int level, int name, int value)
{
    a.control("set option", [&] { return client::sock_setsockopt(a.session(), k, level, name, &value, sizeof value); });
}

void draw_options(App& a, client::Sock k, Connection& c, bool before_connect)
{
    for (unsigned n = a.random.below(3); n != 0; --n) {
        switch (a.random.below(9)) {
        case 0:
            set_option(a, k, IPPROTO_TCP, TCP_NODELAY, 1);
            break;
        case 1:
            set_option(a, k, IPPROTO_TCP, TCP_QUICKACK, a.random.chance(0.5) ? 1 : 0);
            break;
        case 2:
            if (before_connect) {
                set_option(a, k, SOL_SOCKET, SO_RCVBUF, static_cast<int>(2048U << a.random.below(7)));
                set_option(a, k, SOL_SOCKET, SO_SNDBUF, static_cast<int>(2048U << a.random.below(7)));
            }
            break;
        case 3:
            c.may_time_out = true;
            set_option(a, k, IPPROTO_TCP, TCP_KEEPIDLE, 1);
            set_option(a, k, IPPROTO_TCP, TCP_KEEPINTVL, 1);
            set_option(a, k, SOL_SOCKET, SO_KEEPALIVE, 1);
            break;
        case 4:
            if (before_connect) {
                set_option(a, k, IPPROTO_TCP, TCP_MAXSEG, static_cast<int>(200 + a.random.below(1400)));
            }
            break;
        case 5: {
            std::string_view name =
                protocols::tcp::congestion_algorithm(draw_algorithm(a.random, a.family.node->config)).name;
            a.control("set congestion control", [&] {
                return client::sock_setsockopt(
                    a.session(), k, IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size()));
            });
            break;
        }
        case 6: {
            int value = 0;
            socklen_t size = sizeof value;
            a.control("get option",
                [&] { return client::sock_getsockopt(a.session(), k, SOL_SOCKET, SO_RCVBUF, &value, &size); });
            break;
        }
        case 7:
            c.may_time_out = true;
            set_option(a, k, IPPROTO_TCP, TCP_USER_TIMEOUT, 30'000);
            break;
        default:
            set_option(a, k, IPPROTO_TCP, TCP_CORK, 1);
            break;
        }
    }
}

void draw_limits(App& a, client::Sock k, Connection& c)
{
    if (!a.world.config().limits) {
        return;
    }
    auto some = [&](unsigned n) { return 1 + static_cast<int>(a.random.below(n)); };
    if (a.random.chance(0.3)) {
        set_option(a, k, SOL_SOCKET, SO_MAX_PACING_RATE, 20'000 << a.random.below(7));
    }
    if (a.random.chance(0.3)) {
        c.may_time_out = true;
        set_option(a, k, IPPROTO_TCP, TCP_USER_TIMEOUT, 400 << a.random.below(4));
    }
    if (a.random.chance(0.4)) {
        c.may_time_out = true;
        set_option(a, k, IPPROTO_TCP, TCP_KEEPIDLE, some(2));
        set_option(a, k, IPPROTO_TCP, TCP_KEEPINTVL, some(3));
        set_option(a, k, IPPROTO_TCP, TCP_KEEPCNT, some(3));
        set_option(a, k, SOL_SOCKET, SO_KEEPALIVE, 1);
    }
    if (a.random.chance(0.3)) {
        set_option(a, k, IPPROTO_TCP, TCP_LINGER2, some(8));
    }
    if (a.random.chance(0.3)) {
        set_option(a, k, IPPROTO_TCP, TCP_SYNCNT, some(3));
    }
}

// Calls without MSG_DONTWAIT, with a limit so that the ledger is asked now and then.
void use_blocking_calls(App& a, client::Sock k)
{
    constexpr unsigned at_once = 5; // the client library remembers eight waiters of a thread
    if (a.blocking || a.world.blocked_apps() >= at_once || !a.random.chance(0.3)) {
        return;
    }
    a.blocking = true;
    ++a.world.blocked_apps();
    timeval limit{20, 0};
    client::sock_setsockopt(a.session(), k, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    client::sock_setsockopt(a.session(), k, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

void stop_blocking(App& a)
{
    a.world.blocked_apps() -= a.blocking ? 1 : 0;
    a.blocking = false;
}

// ---- scripts, by side ----

namespace {

Io exchange(Conduit& d)
{
    Connection& c = d.c;
    for (std::uint32_t i = 0; i < c.rounds; ++i) {
        std::uint64_t up = c.bytes[client_side] * (i + 1);
        std::uint64_t down = c.bytes[server_side] * (i + 1);
        Io io = Io::ok;
        if (d.side == client_side) {
            io = d.send_until(up);
            io = io == Io::ok ? d.receive_until(down) : io;
            if (d.a.random.chance(0.5)) {
                d.a.rest(base::Micros{d.a.random.below(static_cast<std::uint32_t>(d.world().config().silence_us + 1))});
            }
        } else {
            io = d.receive_until(up);
            io = io == Io::ok ? d.send_until(down) : io;
        }
        if (io != Io::ok) {
            return io;
        }
    }
    return d.side == server_side ? d.receive_until(Conduit::to_the_end) : Io::ok;
}

} // namespace

Io run_script(Conduit& d)
{
    Connection& c = d.c;
    std::uint64_t total = c.bytes[d.side];
    switch (c.script) {
    case Script::exchange:
        return exchange(d);
    case Script::upload:
        if (d.side == client_side) {
            Io io = d.send_until(total);
            io = io == Io::ok ? d.shut_down() : io;
            return io == Io::ok ? d.receive_until(Conduit::to_the_end) : io;
        } else {
            Io io = d.receive_until(Conduit::to_the_end);
            return io == Io::end ? d.send_until(total) : io;
        }
    case Script::download:
        if (d.side == client_side) {
            Io io = d.send_until(header_bytes);
            io = io == Io::ok ? d.receive_until(Conduit::to_the_end) : io;
            return io == Io::end ? d.send_until(total) : io;
        } else {
            Io io = d.send_until(total);
            io = io == Io::ok ? d.shut_down() : io;
            return io == Io::ok ? d.receive_until(Conduit::to_the_end) : io;
        }
    case Script::duplex:
        return d.both_ways(total);
    case Script::quit:
    case Script::server_quits: {
        bool quits = d.side == (c.script == Script::quit ? client_side : server_side);
        if (!quits) {
            return d.both_ways(total);
        }
        std::uint64_t some =
            d.mine().sent + d.a.random.below(static_cast<std::uint32_t>(total - std::min(total, d.mine().sent)) + 1);
        Io io = d.send_until(std::max<std::uint64_t>(some, d.side == client_side ? header_bytes : 0));
        if (io == Io::ok && d.a.random.chance(0.5)) {
            d.a.rest(base::Micros{d.a.random.below(20'000)});
        }
        d.mine().rude = true;
        return io;
    }
    }
    return Io::ok;
}

void finish(Conduit& d)
{
    if (d.mine().rude && d.a.random.chance(0.5)) {
        d.leave_with_reset();
    } else {
        d.close();
    }
}

void draw_script(App& a, Connection& c)
{
    std::uint32_t most = a.world.config().bytes_max;
    if (c.script == Script::exchange) {
        c.rounds = 1 + a.random.below(6);
        most = most / c.rounds + 1;
    }
    auto some = [&] { return a.random.chance(0.2) ? a.random.below(32) : a.random.below(most) + 1; };
    c.bytes[client_side] = header_bytes + some();
    c.bytes[server_side] = some();
}

} // namespace sim
