#include "tests/sim/sim_node.hpp"

#include <utility>

#include "base/check.hpp"
#include "drivers/loopback.hpp"
#include "protocols/tcp/tcp_domain.hpp"
#include "tests/sim/sim_world.hpp"

namespace sim {

struct Node::Poke : lwkt::Message {
    Node* node = nullptr;
    lwkt::Cpu* cpu = nullptr;
    std::function<void(lwkt::Cpu&)> f;
    bool under_way = false;
};

struct Node::Courier : lwkt::Message {
    Node* node = nullptr;
    std::size_t way = 0;
    std::uint64_t number = 0;
    bool under_way = false;
};

void SimHost::ring(std::uint32_t cpu)
{
    node_.set->cpu(static_cast<base::CpuId>(cpu)).ring();
}

int SimHost::make_waiter(sockbuf::WaiterKind kind, client::WaiterHandle& out)
{
    if (!node_.gateway->add_waiter(*family_, 0, kind, -1, out.index)) {
        return -ENOSPC;
    }
    out.fd = own_waiter;
    woken_[out.index] = false;
    return 0;
}

void SimHost::drop_waiter(const client::WaiterHandle& w)
{
    node_.gateway->drop_waiter(*family_, 0, w.index);
    node_.wake_all();
}

int SimHost::sleep(const client::WaiterHandle& w, base::Instant deadline)
{
    bool own = w.fd == own_waiter;
    if (own && std::exchange(woken_[w.index], false)) {
        return 0;
    }
    if (world_.now() >= deadline) {
        return -ETIMEDOUT;
    }
    world_.sleep_app(own ? w.index : no_waiter, deadline);
    if (own && std::exchange(woken_[w.index], false)) {
        return 0;
    }
    return world_.now() >= deadline ? -ETIMEDOUT : 0;
}

bool SimHost::can_wake(std::uint32_t)
{
    return world_.config().direct_wakes;
}

bool SimHost::wake_waiter(std::uint32_t waiter)
{
    wake(waiter);
    return true;
}

base::Instant SimHost::now()
{
    return world_.now();
}

Node::Node(World& w, const NodeConfig& c, unsigned i) : world(w), config(c), index(i), cpus(c.cpus.pin.size())
{
    sleep_lines.reset(new SleepLine[cpus.size()]);
    lwkt::CpuSetOptions options = config.cpus;
    options.sleep_words = &sleep_lines[0].word;
    set = std::make_unique<lwkt::CpuSet>(world.clock(), options);
    stack = std::make_unique<protocols::Stack>(*set, config.protocols);
}

Node::~Node()
{
    for (auto& f : families) {
        f->host.reset();
    }
    gateway.reset();
    for (std::size_t i = 0; i < 100; ++i) {
        set->step();
    }
}

void Node::start(std::string& error)
{
    drivers::LoopbackOptions lo;
    lo.checksums = config.loopback_checksums;
    lo.super_segments = config.loopback_super_segments;
    std::vector<protocols::InterfaceAddress> own;
    if (world.config().families != Families::v6) {
        own.push_back({base::IpAddr::v4(0x7f000001), 8});
        if (world.config().ipv4_changes > 0) {
            own.push_back({address_behind_v4(index), 32});
        }
    }
    if (world.config().families != Families::v4) {
        own.push_back({base::IpAddr::loopback_v6(), 128});
        own.push_back({address_behind(index), 128});
    }
    if (stack->add_interface(std::make_unique<drivers::Loopback>(lo), own, error) == nullptr) {
        return;
    }
    gateway = std::make_unique<gateway::Gateway>(*stack, config.gateway);
    gateway->set_wake([this](std::uint32_t client, std::uint32_t waiter) {
        for (auto& f : families) {
            if (f->alive() && f->client_id == client) {
                f->host->wake(waiter);
            }
        }
    });
    for (unsigned i = 0; i < config.families; ++i) {
        families.push_back(std::make_unique<Family>());
        families.back()->node = this;
        families.back()->index = i;
        attach(*families.back());
    }
}

void Node::attach(Family& f)
{
    std::string error;
    f.client = gateway->attach(1000 + f.index, error);
    INVARIANT(f.client != nullptr);
    f.client_id = gateway->id(*f.client);
    f.host = std::make_unique<SimHost>(world, *this);
    f.host->join(*f.client);
    f.session = client::Session{};
    f.session.view = gateway->segment(*f.client).view();
    f.session.sleep_words = &sleep_lines[0].word;
    f.session.host = f.host.get();
    f.session.lane_turn = &f.lane_turn;
    f.last_number.assign(f.session.view.sockets(), 0);
    wake_all();
}

void Node::detach(Family& f)
{
    f.host->die();
    f.spare_waiters.clear();
    gateway->process_gone(*f.client, 0);
    gateway->detach(*f.client);
    f.client = nullptr;
    f.host.reset();
    wake_all();
}

bool Node::sent_cookies() const
{
    std::uint64_t sent = 0;
    for (std::size_t i = 0; i < size(); ++i) {
        sent += stack->domain(static_cast<base::CpuId>(i)).tcp->counters.cookies_sent;
    }
    return sent != 0;
}

std::uint64_t Node::gave_up() const
{
    std::uint64_t all = 0;
    for (std::size_t i = 0; i < size(); ++i) {
        all += stack->domain(static_cast<base::CpuId>(i)).tcp->counters.gave_up;
    }
    return all;
}

void Node::wake_all()
{
    for (std::size_t i = 0; i < cpus.size(); ++i) {
        sleep_lines[i].word.store(0);
        cpus[i].asleep = false;
    }
}

void Node::send_couriers(base::CpuId from, base::CpuId to, unsigned burst)
{
    couriers_sent.resize(size() * size());
    couriers_arrived.resize(size() * size());
    std::size_t way = from * size() + to;
    post(from, [this, to, burst, way](lwkt::Cpu& cpu) {
        std::size_t at = 0;
        for (unsigned i = 0; i < burst; ++i, ++at) {
            while (at < couriers.size() && couriers[at]->under_way) {
                ++at;
            }
            if (at == couriers.size()) {
                couriers.push_back(std::make_unique<Courier>());
            }
            Courier& c = *couriers[at];
            c.node = this;
            c.way = way;
            c.number = couriers_sent[way]++;
            c.under_way = true;
            c.cls = lwkt::Class::serial;
            c.dispatch = [](lwkt::Message& m) {
                auto& arrived = static_cast<Courier&>(m);
                arrived.under_way = false;
                Node& n = *arrived.node;
                if (n.couriers_arrived[arrived.way]++ != arrived.number) {
                    n.world.violation("messages from one CPU to another have overtaken each other");
                }
            };
            cpu.send(to, c);
        }
    });
}

void Node::post(base::CpuId cpu, std::function<void(lwkt::Cpu&)> f)
{
    Poke* p = nullptr;
    for (auto& spare : pokes) {
        if (!spare->under_way) {
            p = spare.get();
        }
    }
    if (p == nullptr) {
        p = pokes.emplace_back(std::make_unique<Poke>()).get();
    }
    p->node = this;
    p->cpu = &set->cpu(cpu);
    p->f = std::move(f);
    p->under_way = true;
    p->cls = lwkt::Class::gen;
    p->dispatch = [](lwkt::Message& m) {
        auto& poke = static_cast<Poke&>(m);
        poke.f(*poke.cpu);
        poke.under_way = false;
    };
    set->post(cpu, *p);
}

} // namespace sim
