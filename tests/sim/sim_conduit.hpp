// One end of a connection in the hands of its application: sends, receives and ends it, and holds every byte, end and
// error against the ledger. Blocking or not, as the application's calls are at the moment.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "tests/sim/sim_world.hpp"

namespace sim {

inline constexpr base::Micros hang_after = base::seconds(600); // of the drain, when nothing is lost any more
inline constexpr base::Micros header_patience = base::seconds(200);

enum class Io { ok, end, broken };

void stop_blocking(App& a);

// One end of a connection in the hands of its application.
struct Conduit {
    App& a;
    client::Sock k;
    Connection& c;
    unsigned side;

    End& mine() { return c.end[side]; }
    End& theirs() { return c.end[1 - side]; }
    World& world() { return a.world; }

    std::string name() const
    {
        return fmt::format("connection {} ({}), {} (application {})", c.id, script_name(c.script),
            side == client_side ? "client" : "server", a.number);
    }
    // An error that a call returned: fine only when there is somebody to blame.
    Io broken(const char* call, int error)
    {
        world().note(call, c.id, side, static_cast<std::uint64_t>(-error));
        // A SYN cookie remembers nothing: text that overtakes the ACK which carries it is answered by a reset, as on
        // Linux. What was overtaken then opens the connection still, to a client that has none any more.
        bool cookie = c.end[client_side].received == 0 && error == -ECONNRESET &&
                      world().services()[c.service].node->sent_cookies();
        bool excused = cookie || theirs().rude || mine().rude || !c.accepted || c.may_time_out;
        // A keepalive probe, say, to an end that closed and whose stack gave up its FIN while there was no way.
        excused = excused || (error == -ECONNRESET && theirs().finished && world().peer_gave_up());
        if (!excused || error == -ECONNABORTED || error == -EBADF || error == -ENETDOWN) {
            world().violation(
                fmt::format("{}: {} gives error {} though nothing has happened to it; received {} of {}, sent {}",
                    name(), call, -error, mine().received, theirs().sent, mine().sent));
        }
        mine().rude = true;
        return Io::broken;
    }
    // The other end said nothing for a while; true: it makes no sense to wait on.
    bool in_vain()
    {
        World& w = world();
        bool gone = theirs().rude || theirs().finished;
        bool unserved = !c.accepted && w.services()[c.service].epoch != c.service_epoch;
        base::Micros waited = w.now() - a.wait_began;
        if (waited >= 2 * patience && (theirs().rude || unserved || (gone && c.may_time_out))) {
            mine().rude = true;
            return true;
        }
        if (waited >= hang_after && theirs().finished && w.peer_gave_up()) {
            mine().rude = true;
            return true;
        }
        if (waited >= hang_after && w.draining() && w.now() - w.drain_began() >= hang_after) {
            w.violation(fmt::format(
                "{}: waits for ever; received {} of {}, sent {}", name(), mine().received, theirs().sent, mine().sent));
        }
        return false;
    }
    Io wait(std::uint32_t events)
    {
        a.wait_began = world().now();
        while (a.wait_ready(k, events, world().now() + patience) == 0) {
            if (in_vain()) {
                return Io::broken;
            }
        }
        return Io::ok;
    }

    // One send; ok when bytes went or there is no space now.
    Io send_some(std::uint64_t upto, bool& moved)
    {
        std::size_t n = std::min<std::uint64_t>(upto - mine().sent, 1 + a.random.below(sizeof a.buffer));
        world().ledger().fill(c, side, mine().sent, a.buffer, n);
        mine().sending = n;
        ssize_t rc = client::sock_send(a.session(), k, a.buffer, n, a.blocking ? 0 : MSG_DONTWAIT, nullptr, 0);
        mine().sending = 0;
        moved = rc > 0;
        if (rc == -EAGAIN) {
            return Io::ok;
        }
        if (rc <= 0 || rc > static_cast<ssize_t>(n)) {
            return broken("send", static_cast<int>(rc));
        }
        mine().sent += static_cast<std::uint64_t>(rc);
        world().note("sent", c.id, side, mine().sent);
        return Io::ok;
    }
    Io receive_some(std::uint64_t upto, bool& moved)
    {
        if (world().config().limits && a.random.chance(0.02)) { // until its window is closed, perhaps
            a.rest(base::Micros{a.random.below(3'000'000)});
        }
        std::size_t n = std::min<std::uint64_t>(upto - mine().received, 1 + a.random.below(sizeof a.buffer));
        ssize_t rc = client::sock_recv(a.session(), k, a.buffer, n, a.blocking ? 0 : MSG_DONTWAIT, nullptr, nullptr);
        moved = rc > 0;
        if (rc == -EAGAIN) {
            return Io::ok;
        }
        if (rc < 0) {
            return broken("receive", static_cast<int>(rc));
        }
        if (rc == 0) {
            return check_end();
        }
        std::size_t right =
            world().ledger().matching(c, 1 - side, mine().received, a.buffer, static_cast<std::size_t>(rc));
        if (right != static_cast<std::size_t>(rc)) {
            world().violation(
                fmt::format("{}: byte {} of what it received is not what was sent", name(), mine().received + right));
        }
        mine().received += right;
        world().result().bytes += right;
        world().note("received", c.id, side, mine().received);
        if (mine().received > theirs().sent + theirs().sending) {
            world().violation(
                fmt::format("{}: received {} bytes, {} were sent", name(), mine().received, theirs().sent));
        }
        return Io::ok;
    }
    Io check_end()
    {
        world().note("end", c.id, side, mine().received);
        End& t = theirs();
        if (c.opened_again && mine().received == 0) { // the end of the second one has the number of the first's text
            mine().saw_end = true;
            return Io::end;
        }
        bool complete = mine().received >= t.sent && mine().received <= t.sent + t.sending;
        if (!complete || (!t.ended && !t.rude && c.accepted)) {
            world().violation(fmt::format("{}: end of stream after {} bytes; {} were sent and the sender {}", name(),
                mine().received, t.sent, t.ended || t.rude ? "has ended" : "goes on"));
        }
        mine().saw_end = true;
        return Io::end;
    }

    Io send_until(std::uint64_t upto)
    {
        while (mine().sent < upto) {
            bool moved = false;
            if (Io io = send_some(upto, moved); io != Io::ok) {
                return io;
            }
            if (!moved && wait(EPOLLOUT) != Io::ok) {
                return Io::broken;
            }
            a.breathe_at_times();
        }
        return Io::ok;
    }
    // To an offset, or to the end.
    Io receive_until(std::uint64_t upto)
    {
        while (mine().received < upto) {
            bool moved = false;
            if (Io io = receive_some(upto, moved); io != Io::ok) {
                return io;
            }
            if (!moved && wait(EPOLLIN) != Io::ok) {
                return Io::broken;
            }
            a.breathe_at_times();
        }
        return Io::ok;
    }
    static constexpr std::uint64_t to_the_end = ~std::uint64_t{0};

    // The rest of both directions at once; ends its own when all is sent.
    Io both_ways(std::uint64_t upto)
    {
        stop_blocking(a); // a send that waits keeps us from reading what the other end must send first
        while (!mine().saw_end || mine().sent < upto) {
            bool sent = false;
            bool received = false;
            if (mine().sent < upto && send_some(upto, sent) != Io::ok) {
                return Io::broken;
            }
            if (mine().sent == upto && !mine().ended && shut_down() != Io::ok) {
                return Io::broken;
            }
            if (!mine().saw_end) {
                Io io = receive_some(to_the_end, received);
                if (io == Io::broken) {
                    return io;
                }
            }
            bool open = mine().sent < upto;
            std::uint32_t events = (open ? std::uint32_t{EPOLLOUT} : 0) | (mine().saw_end ? 0 : std::uint32_t{EPOLLIN});
            if (!sent && !received && events != 0 && wait(events) != Io::ok) {
                return Io::broken;
            }
            a.breathe_at_times();
        }
        return Io::ok;
    }
    Io shut_down()
    {
        mine().ended = true;
        int rc = a.control("shutdown", [&] { return client::sock_shutdown(a.session(), k, SHUT_WR); });
        return rc == 0 ? Io::ok : broken("shutdown", rc);
    }
    void leave_with_reset()
    {
        mine().rude = true;
        linger none{1, 0};
        a.control("linger",
            [&] { return client::sock_setsockopt(a.session(), k, SOL_SOCKET, SO_LINGER, &none, sizeof none); });
        close();
    }
    void close()
    {
        mine().ended = true;
        world().note("close", c.id, side, mine().sent);
        client::sock_release(a.session(), k);
        mine().finished = true;
        a.connection = nullptr;
        a.stale = k;
        a.has_stale = true;
        a.breathe_at_times();
    }
};

// sim_scripts.cpp
void set_option(App& a, client::Sock k, int level, int name, int value);
void draw_options(App& a, client::Sock k, Connection& c, bool before_connect);
void draw_limits(App& a, client::Sock k, Connection& c); // in some worlds
void use_blocking_calls(App& a, client::Sock k);         // some of the time
void draw_script(App& a, Connection& c);
Io run_script(Conduit& d);
void finish(Conduit& d);

} // namespace sim
