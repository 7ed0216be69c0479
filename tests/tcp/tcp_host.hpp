// A stack for TCP tests: CPUs stepped by hand on a virtual clock, applications that are plain objects with rings in
// ordinary memory, control calls as real socket messages. One thread; everything is done by the test's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lwkt/cpu_set.hpp"
#include "lwkt/port.hpp"
#include "netmsg/socket_msg.hpp"
#include "protocols/socket/so_dispatch.hpp"
#include "protocols/stack.hpp"
#include "protocols/tcp/tcp_domain.hpp"

namespace tcp_test {

class Host;

// The application's end of one socket. Writes and reads go through the slot, as a client library would do it.
struct App {
    explicit App(Host& h) : host(h) {}
    Host& host;
    protocols::Socket so;
    sockbuf::SocketSlot slot{};
    std::unique_ptr<std::byte[]> snd;
    std::unique_ptr<std::byte[]> rcv;
    std::uint64_t written = 0;
    std::uint64_t read = 0;
    bool detached = false;
    bool orphan_events = false; // an event came after socket_detached
    std::uint32_t events = 0;
    std::deque<App*> accepted; // of a listener

    // Bytes of room; then writes what fits and marks the socket.
    std::uint64_t room() const;
    std::uint64_t readable() const;
    std::uint64_t write(const void* data, std::uint64_t bytes);
    std::uint64_t take(void* data, std::uint64_t bytes); // reads and, where netd wants it, marks
    void finish();                                       // shutdown(SHUT_WR)
    bool at_end() const;
    int error() const { return slot.info.so_error.load(); }
    sockbuf::SlotState state() const { return static_cast<sockbuf::SlotState>(slot.info.state.load()); }
};

struct HostOptions {
    unsigned cpus = 1;
    std::uint64_t seed = 1;
    std::uint32_t ring_shift = 18;
    std::uint32_t packets_per_cpu = 4096;
    protocols::StackOptions stack;
};

class Host final : public protocols::SocketUser {
public:
    Host(lwkt::Clock& clock, const HostOptions& options);
    ~Host() override;

    App& make(base::CpuId cpu = 0);
    // One control operation to its end (steps); returns the result.
    int control(App& a, netmsg::SocketMsg& m);
    int listen(App& a, const base::Endpoint& at, int backlog = 128);
    int connect(App& a, const base::Endpoint& to, bool fast = false);
    int bind(App& a, const base::Endpoint& at);
    int close(App& a);
    int unconnect(App& a); // connect to AF_UNSPEC
    int abort(App& a);
    int shutdown(App& a, int how);
    int set_option(App& a, int level, int name, int value);
    int set_congestion(App& a, std::string_view name);
    void run(base::CpuId cpu, const std::function<void(protocols::Domain&)>& f);

    protocols::TcpState& tcp(base::CpuId cpu = 0) { return *stack->domain(cpu).tcp; }
    std::size_t connections();
    std::size_t packets_in_use();
    std::size_t open_sockets() const;

    lwkt::CpuSet set;
    std::unique_ptr<protocols::Stack> stack;
    HostOptions options;
    std::deque<std::unique_ptr<App>> apps;
    std::function<bool()> step_world; // steps whatever the host is part of; default: its own set
    bool refuse_accept = false;

    void socket_event(protocols::Socket& so, std::uint32_t events) override;
    bool socket_rings(protocols::Socket& so) override;
    std::uint32_t socket_ring_default() const override { return 1U << options.ring_shift; }
    protocols::Socket* socket_accepted(protocols::Listener& l, const base::FourTuple& flow) override;
    void socket_ready(protocols::Listener& l, protocols::Socket& child) override;
    void socket_moved(protocols::Socket& so) override;
    void socket_detached(protocols::Socket& so) override;
};

} // namespace tcp_test
