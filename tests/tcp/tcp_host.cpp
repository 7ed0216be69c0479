// See tcp_host.hpp.
#include "tests/tcp/tcp_host.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cstdlib>
#include <cstring>

#include "tests/family.hpp"

namespace tcp_test {

using protocols::Socket;

namespace {

App& app_of(Socket& so)
{
    return *static_cast<App*>(so.user_ref);
}

lwkt::CpuSetOptions stepped(unsigned cpus)
{
    lwkt::CpuSetOptions o;
    o.pin.assign(cpus, -1);
    // NETD_DISCIPLINE: the same cases with a lock around each CPU (tests/tcp/meson.build runs them so). Stepped, inline
    // is the same as message, and giant is striped with one shard.
    const char* name = std::getenv("NETD_DISCIPLINE");
    if (name != nullptr && std::strcmp(name, "striped") == 0) {
        o.discipline = lwkt::Discipline::striped;
        o.shards = cpus;
        o.lock = lwkt::LockKind::queue;
    }
    return o;
}

} // namespace

std::uint64_t App::room() const
{
    return so.snd_ring.size() - (written - slot.owner.snd_acked.load());
}

std::uint64_t App::readable() const
{
    return slot.owner.rcv_produced.load() - read;
}

std::uint64_t App::write(const void* data, std::uint64_t bytes)
{
    bytes = std::min(bytes, room());
    so.snd_ring.copy_in(written, data, bytes);
    written += bytes;
    slot.app.snd_produced.store(written);
    host.run(so.domain->id(), [this](protocols::Domain& d) {
        if (!detached) {
            protocols::so_look_send(d, so);
        }
    });
    return bytes;
}

std::uint64_t App::take(void* data, std::uint64_t bytes)
{
    bytes = std::min(bytes, readable());
    so.rcv_ring.copy_out(read, data, bytes);
    read += bytes;
    slot.app.rcv_consumed.store(read);
    if (!detached && read >= slot.owner.rcv_ring_at.load()) {
        host.run(so.domain->id(), [this](protocols::Domain& d) { protocols::so_look_rcvd(d, so); });
    }
    return bytes;
}

void App::finish()
{
    slot.app.snd_end.store(written);
    host.shutdown(*this, SHUT_WR);
}

bool App::at_end() const
{
    return slot.owner.rcv_end.load() == read;
}

Host::Host(lwkt::Clock& clock, const HostOptions& o) : set(clock, stepped(o.cpus)), options(o)
{
    options.stack.seed = o.seed;
    options.stack.packets.packets_per_cpu = o.packets_per_cpu;
    options.stack.packets.large_per_cpu = o.packets_per_cpu / 8;
    stack = std::make_unique<protocols::Stack>(set, options.stack);
    step_world = [this] { return set.step(); };
}

Host::~Host()
{
    for (auto& a : apps) { // what a test leaves behind
        if (!a->detached && a->so.tcb != nullptr) {
            abort(*a);
        }
    }
}

App& Host::make(base::CpuId cpu)
{
    apps.push_back(std::make_unique<App>(*this));
    App& a = *apps.back();
    a.so.domain = &stack->domain(cpu);
    a.so.user = this;
    a.so.user_ref = &a;
    a.so.slot = &a.slot;
    a.so.kind = sockbuf::SlotKind::stream;
    a.so.family = static_cast<std::uint8_t>(test::family());
    a.so.flow.local.addr = a.so.flow.peer.addr = test::address("0.0.0.0");
    a.slot.owner.rcv_end.store(sockbuf::no_offset);
    a.slot.owner.rcv_ring_at.store(sockbuf::no_offset);
    a.slot.owner.urgent_mark.store(sockbuf::no_offset);
    a.slot.app.snd_end.store(sockbuf::no_offset);
    a.slot.share.holders.store(1);
    return a;
}

void Host::run(base::CpuId cpu, const std::function<void(protocols::Domain&)>& f)
{
    set.call(cpu, [&](lwkt::Cpu&) { f(stack->domain(cpu)); });
}

int Host::control(App& a, netmsg::SocketMsg& m)
{
    lwkt::CompletionPort done;
    m.socket = &a.so;
    m.reply_port = &done;
    run(a.so.domain->id(), [&](protocols::Domain& d) { protocols::so_post(d, m); });
    while (!done.done()) {
        step_world();
    }
    return m.result;
}

namespace {
netmsg::SocketMsg message(netmsg::SocketOp op, const base::Endpoint& at = {}, int value = 0)
{
    netmsg::SocketMsg m;
    m.op = op;
    m.address = at;
    m.value = value;
    return m;
}
} // namespace

int Host::bind(App& a, const base::Endpoint& at)
{
    auto m = message(netmsg::SocketOp::bind, at);
    return control(a, m);
}
int Host::listen(App& a, const base::Endpoint& at, int backlog)
{
    if (int e = bind(a, at); e != 0) {
        return e;
    }
    auto m = message(netmsg::SocketOp::listen, {}, backlog);
    return control(a, m);
}
int Host::connect(App& a, const base::Endpoint& to, bool fast)
{
    auto m = message(netmsg::SocketOp::connect, to);
    m.value = fast ? 1 : 0;
    return control(a, m);
}
int Host::close(App& a)
{
    a.slot.app.snd_end.store(std::min<std::uint64_t>(a.slot.app.snd_end.load(), a.written));
    auto m = message(netmsg::SocketOp::disconnect);
    return control(a, m);
}
int Host::unconnect(App& a)
{
    auto m = message(netmsg::SocketOp::unconnect, {}, 1);
    return control(a, m);
}
int Host::abort(App& a)
{
    auto m = message(netmsg::SocketOp::abort);
    return control(a, m);
}
int Host::shutdown(App& a, int how)
{
    if (how != SHUT_RD && a.slot.app.snd_end.load() == sockbuf::no_offset) {
        a.slot.app.snd_end.store(a.written);
    }
    auto m = message(netmsg::SocketOp::shutdown, {}, how);
    return control(a, m);
}
int Host::set_option(App& a, int level, int name, int value)
{
    auto m = message(netmsg::SocketOp::set_option);
    m.level = level;
    m.name = name;
    m.size = sizeof value;
    std::memcpy(m.option, &value, sizeof value);
    return control(a, m);
}

int Host::set_congestion(App& a, std::string_view name)
{
    auto m = message(netmsg::SocketOp::set_option);
    m.level = IPPROTO_TCP;
    m.name = TCP_CONGESTION;
    m.size = static_cast<std::uint32_t>(name.size());
    std::memcpy(m.option, name.data(), name.size());
    return control(a, m);
}

std::size_t Host::connections()
{
    std::size_t n = 0;
    for (base::CpuId c = 0; c < set.size(); ++c) {
        n += tcp(c).tcbs.in_use() + tcp(c).syn_cache.slab.in_use();
    }
    return n;
}

std::size_t Host::packets_in_use()
{
    std::size_t n = 0;
    for (base::CpuId c = 0; c < set.size(); ++c) {
        n += stack->pool().in_use(c);
    }
    return n;
}

std::size_t Host::open_sockets() const
{
    std::size_t n = 0;
    for (const auto& a : apps) {
        n += a->detached ? 0 : 1;
    }
    return n;
}

void Host::socket_event(Socket& so, std::uint32_t events)
{
    App& a = app_of(so);
    a.events |= events;
    a.orphan_events |= a.detached;
}

bool Host::socket_rings(Socket& so)
{
    App& a = app_of(so);
    unsigned shift = options.ring_shift;
    if (so.options.receive_ring_bytes != 0) {
        shift = static_cast<unsigned>(std::bit_width(so.options.receive_ring_bytes - 1));
    }
    a.snd = std::make_unique<std::byte[]>(std::size_t{1} << options.ring_shift);
    a.rcv = std::make_unique<std::byte[]>(std::size_t{1} << shift);
    so.snd_ring = {a.snd.get(), options.ring_shift};
    so.rcv_ring = {a.rcv.get(), shift};
    return true;
}

Socket* Host::socket_accepted(protocols::Listener& l, const base::FourTuple&)
{
    if (refuse_accept) {
        return nullptr;
    }
    App& a = make(l.domain->id());
    a.so.options = l.options;
    socket_rings(a.so);
    return &a.so;
}

void Host::socket_ready(protocols::Listener& l, Socket& child)
{
    app_of(*l.so).accepted.push_back(&app_of(child));
}

void Host::socket_moved(Socket&)
{
}

void Host::socket_detached(Socket& so)
{
    App& a = app_of(so);
    INVARIANT(!a.detached); // exactly once
    a.detached = true;
}

} // namespace tcp_test
