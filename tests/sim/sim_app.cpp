#include "tests/sim/sim_app.hpp"

#include <fmt/format.h>

#include "base/check.hpp"
#include "client/sockaddr.hpp"
#include "tests/sim/sim_world.hpp"

namespace sim {

namespace {

constexpr base::Micros wake_patience = base::seconds(2); // longer than CPUs pause

} // namespace

client::Session& App::session() const
{
    return family.session;
}

void App::breathe()
{
    Fiber::pause();
}

void App::breathe_at_times()
{
    if (random.chance(0.3)) {
        breathe();
    }
}

void App::rest(base::Micros time)
{
    if (time.count() > 0) {
        world.sleep_app(no_waiter, world.now() + time);
    }
}

std::uint32_t App::wait_ready(client::Sock k, std::uint32_t events, base::Instant deadline)
{
    client::Session& s = session();
    if (std::uint32_t ready = client::sock_readiness(s, k, events)) {
        return ready;
    }
    if (!has_waiter) {
        if (!family.spare_waiters.empty()) {
            own_waiter = family.spare_waiters.back();
            family.spare_waiters.pop_back();
        } else {
            INVARIANT(s.host->make_waiter(sockbuf::WaiterKind::thread, own_waiter) == 0);
        }
        has_waiter = true;
    }
    client::sock_watch(s, k, own_waiter.index);
    std::uint32_t ready = 0;
    bool timed_out = false;
    while (ready == 0 && !timed_out) {
        client::arm_waiter(s, own_waiter);
        client::sock_arm(s, k);
        ready = client::sock_readiness(s, k, events);
        timed_out = ready == 0 && s.host->sleep(own_waiter, deadline) == -ETIMEDOUT;
    }
    // What became ready just now may be told in a moment: the waiter is armed still.
    if (timed_out && client::sock_readiness(s, k, events) != 0 &&
        s.host->sleep(own_waiter, world.now() + wake_patience) == -ETIMEDOUT) {
        world.violation(fmt::format("application {} ({}) slept on though its socket was ready", number, role));
    }
    s.view.waiter(own_waiter.index).sleeping.store(0);
    client::sock_unwatch(s, k, own_waiter.index);
    return ready != 0 ? ready : client::sock_readiness(s, k, events);
}

void App::begin_call(const char* name)
{
    call = name;
    call_began = world.now();
}

void App::end_call(std::int64_t result)
{
    world.note(call, number, static_cast<std::uint64_t>(result));
    call = nullptr;
    breathe_at_times();
}

Address::Address(const base::Endpoint& e, int family)
{
    client::write_sockaddr(family, e.addr.bytes(), e.port, get(), &size);
}

base::Endpoint Address::endpoint() const
{
    base::Endpoint e;
    const auto* address = reinterpret_cast<const sockaddr*>(&storage);
    INVARIANT(client::parse_sockaddr(address, sizeof storage, storage.ss_family, e) == 0);
    return e;
}

} // namespace sim
