// An application of the world: a fiber of a family that makes socket calls. What it is in the middle of is kept here,
// not on its stack, because it may die at any pause.
#pragma once

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "base/net_addr.hpp"
#include "base/random.hpp"
#include "client/socket_calls.hpp"
#include "tests/sim/fiber.hpp"
#include "tests/sim/ledger.hpp"

namespace sim {

class World;
struct Family;
struct Service;

inline constexpr std::uint32_t no_waiter = ~std::uint32_t{0};
inline constexpr base::Micros patience = base::seconds(20); // between looks at whether a wait still makes sense

struct App {
    App(World& w, Family& f, std::uint64_t seed) : world(w), family(f), random(seed) {}

    client::Session& session() const;
    // Lets others run.
    void breathe();
    void rest(base::Micros time);
    // Now and then.
    void breathe_at_times();
    // As poll(2) of one socket; 0: the deadline.
    std::uint32_t wait_ready(client::Sock k, std::uint32_t events, base::Instant deadline);
    // Runs a control operation, which must not take long (sim_checks.cpp).
    template <typename F>
    auto control(const char* name, F f)
    {
        begin_call(name);
        auto result = f();
        end_call(static_cast<std::int64_t>(result));
        return result;
    }

    World& world;
    Family& family;
    base::Random random;
    std::uint32_t number = 0;
    const char* role = "";
    bool client = false; // counted: the drain waits for it
    std::unique_ptr<Fiber> fiber;
    std::uint32_t weight = 1;

    bool sleeping = false;
    std::uint32_t waiter = no_waiter; // it sleeps for
    base::Instant wake_at{};

    const char* call = nullptr; // control operation under way
    base::Instant call_began{};
    base::Instant wait_began{};       // of a wait for the other end
    Connection* connection = nullptr; // its end is `side`
    unsigned side = 0;
    client::Sock stale; // closed a while ago, perhaps somebody else's by now
    bool has_stale = false;
    bool blocking = false;     // counted in World::blocked_apps
    Service* serves = nullptr; // while it listens
    client::WaiterHandle own_waiter;
    bool has_waiter = false;
    unsigned char buffer[16384];

private:
    void begin_call(const char* name);
    void end_call(std::int64_t result);
};

struct Address {
    Address() = default;
    Address(const base::Endpoint& e, int family); // of the socket; AF_INET6 takes IPv4 addresses as mapped ones
    sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
    base::Endpoint endpoint() const;
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
};

// The roles. Each returns when the world drains.
void stream_service(App& a, Service& s);
void stream_client(App& a);
void stream_server(App& a, client::Sock k, Service& s); // of one accepted connection
void datagram_service(App& a, Service& s);
void datagram_client(App& a);

} // namespace sim
