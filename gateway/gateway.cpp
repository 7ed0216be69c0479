// The control side of the gateway: families come and go. One control thread; the per-CPU parts are reached by
// CpuSet::call.
#include "gateway/gateway.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <map>

#include "gateway/gateway_cpu.hpp"
#include "protocols/tcp/tcp_report.hpp"

namespace gateway {

using protocols::Listener;
using protocols::Socket;

namespace {

SocketRecord& record_of(Socket& so)
{
    return *static_cast<SocketRecord*>(so.user_ref);
}

// Of whoever had the waiter before. A bit that stayed would keep later ones from being named in the summary; one that
// is set meanwhile is either cleared, or named afterwards.
void forget_ready_bits(Client& c, std::uint32_t waiter)
{
    for (auto& word : c.view().waiter(waiter).summary) {
        word.store(0, std::memory_order_seq_cst);
    }
    std::atomic<std::uint64_t>* bits = c.view().waiter_bits(waiter);
    for (std::uint32_t i = 0; i < c.view().sockets() / 64; ++i) {
        bits[i].store(0, std::memory_order_seq_cst);
    }
}

// As long as a word of marks, shorter where CPUs would have few runs each and so unequal shares.
std::uint32_t run_shift_for(std::uint32_t sockets, std::uint32_t cpus)
{
    constexpr std::uint32_t runs_min = 8;
    std::uint32_t shift = 6;
    while (shift > 0 && sockets >> shift < runs_min * cpus) {
        --shift;
    }
    return shift;
}

bool any_in_transit(const Client& c)
{
    const auto* owner = c.owner.get();
    return std::any_of(owner, owner + c.view().sockets(),
        [](const auto& o) { return o.load(std::memory_order_acquire) == in_transit; });
}

WaiterSet waiters_of(const Client& c, std::uint32_t process)
{
    WaiterSet its{};
    for (std::uint32_t w = 0; w < sockbuf::max_waiters; ++w) {
        bool has = c.waiters[w].kind.load(std::memory_order_relaxed) != 0 && c.waiters[w].process == process;
        its[w / 64] |= std::uint64_t{has ? 1U : 0U} << (w % 64);
    }
    return its;
}

} // namespace

// The sockets' user: passes every call to the part of the CPU it runs on.
struct Gateway::Impl final : protocols::SocketUser {
    Impl(protocols::Stack& stack, const GatewayOptions& options)
        : shared{stack, options, lwkt::Pool<RequestMsg>{stack.set(), options.forwarded_max}, {}}
    {
        for (std::size_t i = 0; i < stack.cpus(); ++i) {
            cpus.push_back(new GatewayCpu(shared, *this, stack.set().cpu(static_cast<base::CpuId>(i))));
        }
    }
    ~Impl() override
    {
        for (GatewayCpu* cpu : cpus) {
            delete cpu;
        }
    }

    GatewayCpu& here() const { return *cpus[base::current_cpu]; }
    void socket_event(Socket& so, std::uint32_t) override { here().event(record_of(so)); }
    bool socket_rings(Socket& so) override { return here().provide_rings(record_of(so)); }
    sockbuf::RingView socket_lane(Socket& so, std::uint32_t lane, std::uint32_t bytes) override
    {
        return here().provide_lane(record_of(so), lane, bytes);
    }
    void socket_lane_gone(Socket& so, std::uint32_t lane, const sockbuf::RingView& ring) override
    {
        here().take_lane_back(record_of(so), lane, ring);
    }
    bool socket_has_place(const Listener& l) override
    {
        return here().may_wait(record_of(protocols::listener_socket(l)));
    }
    Socket* socket_accepted(Listener& l, const base::FourTuple& flow) override
    {
        SocketRecord* rec =
            here().accepted(record_of(protocols::listener_socket(l)), protocols::listener_options(l), flow);
        return rec != nullptr ? &rec->so : nullptr;
    }
    std::uint32_t socket_ring_default() const override
    {
        return 1U << std::clamp(shared.options.receive_ring_shift, RingArena::shift_min, RingArena::shift_max);
    }
    void socket_ready(Listener& l, Socket& child) override
    {
        here().ready(record_of(protocols::listener_socket(l)), record_of(child));
    }
    bool socket_may_join(Socket& active, const Listener* l) override
    {
        return shared.options.join_pairs &&
               (l == nullptr || record_of(active).client == record_of(protocols::listener_socket(*l)).client);
    }
    void socket_joined(Socket& active, Socket& passive) override { here().join(record_of(active), record_of(passive)); }
    void socket_leaves(Socket& so) override { here().leaves(record_of(so)); }
    void socket_moved(Socket& so) override { here().moved_here(record_of(so)); }
    void socket_detached(Socket& so) override { here().detached(record_of(so)); }
    Socket* socket_wakes(void* client, std::uint32_t slot) override
    {
        SocketRecord* rec = here().woken(*static_cast<Client*>(client), slot);
        return rec != nullptr ? &rec->so : nullptr;
    }

    template <typename F>
    void on_every_cpu(F f)
    {
        shared.stack.set().call_all([&](lwkt::Cpu& cpu) { f(*cpus[cpu.id()]); });
    }
    void reap();
    void close_sleepers();
    Client& gives_way();

    GatewayShared shared;
    std::vector<GatewayCpu*> cpus;                 // c
    std::vector<std::unique_ptr<Client>> families; // control thread; detached ones until their last record is gone
    std::uint32_t next_id = 1;
};

// Connections that should have been closed, and for which there was no memory then.
void Gateway::Impl::close_sleepers()
{
    for (auto& c : families) {
        if (c->sleeper_left.exchange(false, std::memory_order_relaxed)) {
            on_every_cpu([&](GatewayCpu& g) { g.close_sleepers(*c); });
        }
    }
}

// Frees the families whose last socket the protocols have let go.
void Gateway::Impl::reap()
{
    close_sleepers();
    std::erase_if(families, [this](std::unique_ptr<Client>& c) {
        if (!c->detached || c->live() != 0 || c->on_the_way.load(std::memory_order_acquire) != 0) {
            return false;
        }
        on_every_cpu([&](GatewayCpu& g) { g.forget_client(*c); });
        return true;
    });
}

// Of families that ended and still send, the oldest of the user who has most of them: nobody's programs make those of
// others lose what they sent last.
Client& Gateway::Impl::gives_way()
{
    std::map<std::uint32_t, std::size_t> of_user;
    for (auto& c : families) {
        of_user[c->uid] += c->detached ? 1 : 0;
    }
    auto fewer = [](const auto& a, const auto& b) { return a.second < b.second; };
    std::uint32_t most = std::max_element(of_user.begin(), of_user.end(), fewer)->first;
    return **std::find_if(families.begin(), families.end(), [most](auto& c) { return c->detached && c->uid == most; });
}

Gateway::Gateway(protocols::Stack& stack, const GatewayOptions& options) : impl_(std::make_unique<Impl>(stack, options))
{
}

Gateway::~Gateway()
{
    for (auto& c : impl_->families) {
        poison(*c);
    }
    for (;;) { // each may free some
        auto attached = [](auto& c) { return !c->detached; };
        auto c = std::find_if(impl_->families.begin(), impl_->families.end(), attached);
        if (c == impl_->families.end()) {
            break;
        }
        detach(**c);
    }
    // Aborted connections let go at once; a bounded number of looks is enough for the messages in flight.
    for (int i = 0; i < 1000 && !impl_->families.empty(); ++i) {
        impl_->on_every_cpu([](GatewayCpu&) {});
        impl_->reap();
    }
    INVARIANT(impl_->families.empty());
}

Client* Gateway::attach(std::uint32_t pid, std::string& error, std::uint32_t uid)
{
    impl_->reap();
    if (clients() >= impl_->shared.options.clients_max) {
        error = "too many clients attached";
        return nullptr;
    }
    if (impl_->families.size() - clients() >= impl_->shared.options.clients_max) {
        poison(impl_->gives_way());
    }
    auto c = std::make_unique<Client>();
    auto cpus = static_cast<std::uint32_t>(impl_->cpus.size());
    std::vector<int> pins;
    for (base::CpuId i = 0; i < cpus; ++i) {
        pins.push_back(impl_->shared.stack.set().pin_of(i));
    }
    if (!c->segment.create(pins, impl_->shared.options.segment, impl_->shared.announced, error)) {
        return nullptr;
    }
    c->id = impl_->next_id++;
    c->pid = pid;
    c->uid = uid;
    c->cpus = cpus;
    c->gateway_cpus = impl_->cpus.data();
    c->processes = 1;
    std::uint32_t sockets = c->view().sockets();
    c->run_shift = run_shift_for(sockets, cpus);
    c->slots = std::make_unique<Holding[]>(sockets);
    c->generations = std::make_unique<std::uint32_t[]>(sockets);
    c->owner = std::make_unique<std::atomic<std::uint16_t>[]>(sockets);
    c->close_under_way = std::make_unique<std::atomic<bool>[]>(sockets);
    for (std::uint32_t s = 0; s < sockets; ++s) {
        c->owner[s].store(c->home(s), std::memory_order_relaxed);
    }
    c->cpu = std::make_unique<ClientCpu[]>(cpus);
    Client* made = impl_->families.emplace_back(std::move(c)).get();
    impl_->on_every_cpu([&](GatewayCpu& g) { g.add_client(*made); });
    return made;
}

const Segment& Gateway::segment(const Client& c) const
{
    return c.segment;
}

std::uint32_t Gateway::id(const Client& c) const
{
    return c.id;
}

bool Gateway::add_process(Client& c, std::uint32_t, std::uint32_t& process)
{
    std::uint64_t free = ~c.processes & ((std::uint64_t{1} << sockbuf::max_processes) - 1);
    if (free == 0) {
        return false;
    }
    // A socket that a control message moves is swept for the dead when it comes back (GatewayCpu::mourn): until then
    // their numbers are nobody else's, as far as there are others.
    std::uint64_t rested = free & ~c.gone.load(std::memory_order_relaxed);
    process = static_cast<std::uint32_t>(std::countr_zero(rested != 0 && any_in_transit(c) ? rested : free));
    c.processes |= std::uint64_t{1} << process;
    impl_->on_every_cpu([&](GatewayCpu& g) { g.reset_process(c, process); }); // who came back by now has been swept
    c.gone.fetch_and(~(std::uint64_t{1} << process), std::memory_order_relaxed);
    return true;
}

bool Gateway::process_gone(Client& c, std::uint32_t process)
{
    INVARIANT(process < sockbuf::max_processes && ((c.processes >> process) & 1) != 0);
    // First everything it said, on every CPU; then its absence.
    impl_->on_every_cpu([&](GatewayCpu& g) { g.drain_process(c, process); });
    c.gone.fetch_or(std::uint64_t{1} << process, std::memory_order_relaxed);
    const WaiterSet its = waiters_of(c, process);
    impl_->on_every_cpu([&](GatewayCpu& g) {
        g.sweep_process(c, process);
        g.forget_waiters(c, its);
    });
    for (std::uint32_t w = 0; w < sockbuf::max_waiters; ++w) {
        drop_waiter(c, process, w);
    }
    c.processes &= ~(std::uint64_t{1} << process);
    return c.processes == 0;
}

bool Gateway::add_waiter(
    Client& c, std::uint32_t process, sockbuf::WaiterKind kind, int write_fd, std::uint32_t& waiter)
{
    for (waiter = 0; waiter < sockbuf::max_waiters; ++waiter) {
        WaiterRecord& w = c.waiters[waiter];
        if (w.kind.load(std::memory_order_relaxed) != 0) {
            continue;
        }
        w.process = process;
        auto& shared = c.view().waiter(waiter);
        shared.sleeping.store(0, std::memory_order_relaxed);
        shared.process = process;
        shared.generation.store(++w.generation, std::memory_order_release);
        if (kind == sockbuf::WaiterKind::set) { // others never use them
            forget_ready_bits(c, waiter);
        }
        shared.kind.store(static_cast<std::uint32_t>(kind), std::memory_order_release);
        w.write_fd.store(write_fd, std::memory_order_release);
        w.kind.store(static_cast<std::uint32_t>(kind), std::memory_order_release);
        return true;
    }
    return false;
}

void Gateway::drop_waiter(Client& c, std::uint32_t process, std::uint32_t waiter)
{
    if (waiter >= sockbuf::max_waiters) {
        return;
    }
    WaiterRecord& w = c.waiters[waiter];
    if (w.kind.load(std::memory_order_relaxed) == 0 || w.process != process) {
        return;
    }
    w.kind.store(0, std::memory_order_relaxed);
    int fd = w.write_fd.exchange(-1, std::memory_order_acq_rel);
    impl_->on_every_cpu([](GatewayCpu&) {}); // nobody is in the middle of a write to it any more
    if (fd >= 0) {
        close(fd);
    }
}

int Gateway::open_waker(Client& c, std::uint32_t waiter, std::uint32_t& generation)
{
    int fd = waiter < sockbuf::max_waiters ? c.waiters[waiter].write_fd.load(std::memory_order_relaxed) : -1;
    if (fd < 0) {
        return -1;
    }
    generation = c.waiters[waiter].generation;
    return open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_PATH | O_CLOEXEC);
}

void Gateway::set_wake(std::function<void(std::uint32_t, std::uint32_t)> wake)
{
    impl_->shared.wake = std::move(wake);
}

void Gateway::look(Client& c, std::uint32_t slot)
{
    impl_->here().look(c, slot);
}

void Gateway::request(Client& c, const sockbuf::Request& r)
{
    impl_->here().request(c, r);
}

void Gateway::set_announced(std::vector<Announced> prefixes)
{
    impl_->shared.announced = std::move(prefixes);
}

void Gateway::detach(Client& c)
{
    if (c.detached) {
        return;
    }
    for (std::uint32_t p = 0; p < sockbuf::max_processes; ++p) {
        if (((c.processes >> p) & 1) != 0) {
            process_gone(c, p);
        }
    }
    if (c.ending.load(std::memory_order_relaxed) == Ending::none) {
        c.ending.store(Ending::close, std::memory_order_relaxed); // published with the calls that follow
    }
    impl_->on_every_cpu([&](GatewayCpu& g) { g.stop_polling(c); });
    impl_->on_every_cpu([&](GatewayCpu& g) { g.close_all(c, false); });
    c.detached = true;
    impl_->reap();
}

bool Gateway::reap()
{
    impl_->reap();
    return std::any_of(impl_->families.begin(), impl_->families.end(),
        [](auto& c) { return c->detached || c->sleeper_left.load(std::memory_order_relaxed); });
}

void Gateway::poison(Client& c)
{
    c.ending.store(Ending::abort, std::memory_order_relaxed);
    impl_->on_every_cpu([&](GatewayCpu& g) { g.stop_polling(c); });
    impl_->on_every_cpu([&](GatewayCpu& g) { g.close_all(c, true); });
}

bool Gateway::poison(std::uint32_t id)
{
    auto at = std::find_if(impl_->families.begin(), impl_->families.end(), [id](auto& c) { return c->id == id; });
    if (at == impl_->families.end()) {
        return false;
    }
    poison(**at);
    return true;
}

bool Gateway::part()
{
    return std::all_of(impl_->families.begin(), impl_->families.end(), [](auto& c) { return c->segment.part(); });
}

std::vector<SocketReport> Gateway::sockets()
{
    constexpr std::uint32_t piece = 256; // slots that a CPU looks at in one go
    std::vector<SocketReport> all;
    impl_->reap();
    for (auto& c : impl_->families) {
        for (std::uint32_t from = 0; c->live() != 0 && from < c->view().sockets(); from += piece) {
            std::uint32_t to = std::min(from + piece, c->view().sockets());
            impl_->on_every_cpu([&](GatewayCpu& g) { g.report(*c, from, to, all); });
        }
    }
    return all;
}

std::size_t Gateway::clients() const
{
    return static_cast<std::size_t>(
        std::count_if(impl_->families.begin(), impl_->families.end(), [](auto& c) { return !c->detached; }));
}

std::size_t Gateway::sockets_held()
{
    impl_->reap();
    std::size_t n = 0;
    for (auto& c : impl_->families) {
        n += c->live();
    }
    return n;
}

const GatewayCounters& Gateway::counters(base::CpuId cpu) const
{
    return impl_->cpus[cpu]->counters();
}

std::uint64_t Gateway::ring_bytes_in_use()
{
    std::uint64_t bytes = 0;
    impl_->shared.stack.set().call_all([&](lwkt::Cpu& cpu) {
        for (auto& c : impl_->families) {
            bytes += c->cpu[cpu.id()].arena.in_use();
        }
    });
    return bytes;
}

} // namespace gateway
