// A process attached to a fake netd, and the few steps most client tests open with.
#pragma once

#include <fcntl.h>
#include <netinet/in.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/net_addr.hpp"
#include "client/admission.hpp"
#include "client/blocking.hpp"
#include "client/sockaddr.hpp"
#include "client/socket_calls.hpp"
#include "tests/client/fake_netd.hpp"
#include "tests/family.hpp"

namespace fake {

// A socket address in the family that runs (tests/family.hpp).
struct Address {
    sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
    base::Endpoint endpoint()
    {
        base::Endpoint e;
        REQUIRE(client::parse_sockaddr(get(), sizeof storage, storage.ss_family, e) == 0);
        return e;
    }
    sockaddr_storage storage{};
    socklen_t size = test::over_v6() ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
};

inline Address at_port(std::uint16_t port)
{
    Address a;
    client::write_sockaddr(test::family(), test::address("127.0.0.1").bytes(), port, a.get(), &a.size);
    return a;
}

struct Pair {
    client::Sock a; // connected
    client::Sock b; // accepted
};

struct World {
    explicit World(const Options& options = {}) : netd(options)
    {
        REQUIRE(client::Admission::attach(netd.path().c_str(), admission) == 0);
    }
    client::Session& session() { return admission->session(); }

    client::Sock open(int type)
    {
        client::Sock k;
        REQUIRE(client::sock_socket(session(), test::family(), type, 0, k) == 0);
        return k;
    }
    client::Sock bound(int type, std::uint16_t port)
    {
        client::Sock k = open(type);
        Address at = at_port(port);
        REQUIRE(client::sock_bind(session(), k, at.get(), at.size) == 0);
        return k;
    }
    client::Sock listener(std::uint16_t port)
    {
        client::Sock k = bound(SOCK_STREAM, port);
        REQUIRE(client::sock_listen(session(), k, 8) == 0);
        return k;
    }
    int connect(client::Sock k, std::uint16_t port)
    {
        Address to = at_port(port);
        return client::sock_connect(session(), k, to.get(), to.size);
    }
    Pair pair()
    {
        client::Sock l = listener(0);
        Address at;
        REQUIRE(client::sock_getsockname(session(), l, at.get(), &at.size) == 0);
        Pair p;
        p.a = open(SOCK_STREAM);
        REQUIRE(connect(p.a, at.endpoint().port) == 0);
        REQUIRE(client::sock_accept(session(), l, nullptr, nullptr, 0, p.b) == 0);
        REQUIRE(client::sock_release(session(), l) == 0);
        return p;
    }
    // Until netd has shown it: a call may be over a moment before.
    void until(client::Sock k, std::uint32_t events)
    {
        while ((client::sock_readiness(session(), k, events) & events) != events) {
            std::this_thread::yield();
        }
    }
    ssize_t send(client::Sock k, const std::string& text, int flags = 0)
    {
        return client::sock_send(session(), k, text.data(), text.size(), flags, nullptr, 0);
    }
    // What one call returned, or "!" and its errno.
    std::string receive(client::Sock k, std::size_t size, int flags = 0)
    {
        std::string text(size, '\0');
        ssize_t n = client::sock_recv(session(), k, text.data(), size, flags, nullptr, nullptr);
        if (n < 0) {
            return "!" + std::to_string(-n);
        }
        text.resize(static_cast<std::size_t>(n));
        return text;
    }

    Netd netd;
    std::unique_ptr<client::Admission> admission;
};

// Until the thread that waits for `k` sleeps.
inline void until_asleep(World& w, client::Sock k)
{
    auto asleep = [&] {
        for (std::uint32_t i = 0; i < 64; ++i) {
            bool watches = (w.netd.slot(k.slot).app.waiters[0].load() >> i & 1) != 0;
            if (watches && w.netd.view().waiter(i).sleeping.load() != 0) {
                return true;
            }
        }
        return false;
    };
    while (!asleep()) {
        std::this_thread::yield();
    }
}

// A call on a thread of its own, made while netd is frozen; the thread has its waiter from before.
class FrozenCall {
public:
    template <typename Call>
    FrozenCall(World& w, Call call)
    {
        std::atomic<bool> prepared{false};
        thread_ = std::thread([&w, &prepared, this, call] {
            client::WaiterHandle mine;
            client::thread_waiter(w.session(), mine);
            client::give_thread_waiter(w.session(), mine);
            prepared = true;
            while (!frozen_) {
                std::this_thread::yield();
            }
            call();
        });
        while (!prepared) {
            std::this_thread::yield();
        }
        lock_ = w.netd.freeze();
        frozen_ = true;
    }
    std::thread& thread() { return thread_; }
    void finish()
    {
        lock_.unlock();
        thread_.join();
    }

private:
    std::thread thread_;
    std::atomic<bool> frozen_{false};
    std::unique_lock<std::mutex> lock_;
};

inline std::string failed(int error)
{
    return "!" + std::to_string(error);
}

// Bytes that differ everywhere, so that a lost or moved piece shows.
inline std::vector<unsigned char> pattern(std::size_t size, std::uint32_t seed)
{
    std::vector<unsigned char> bytes(size);
    for (auto& b : bytes) {
        seed = seed * 1664525 + 1013904223;
        b = static_cast<unsigned char>(seed >> 24);
    }
    return bytes;
}

} // namespace fake
