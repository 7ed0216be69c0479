// What goes wrong in a world, by its seed: CPUs that stand still, links that are cut, memory that runs out, processes
// that die and come back.
#include <algorithm>

#include "tests/sim/sim_world.hpp"

namespace sim {

namespace {

constexpr std::uint32_t hoard_at_once = 8192;
constexpr double told_again = 0.05; // chance per step

} // namespace

void World::misfortune()
{
    mend_links(false);
    give_memory_back(false);
    revive_families(false);
    give_back_ipv4(false);
    if (config_.ipv4_changes > 0 && random_.chance(told_again)) {
        tell_ipv4_again();
    }
    if (draining_) {
        keep_promises();
        return;
    }
    if (config_.cpu_pauses > 0 && random_.chance(config_.cpu_pauses)) {
        pause_cpu();
    }
    if (config_.outages > 0 && random_.chance(config_.outages)) {
        cut_link();
    }
    if (config_.memory_shortages > 0 && random_.chance(config_.memory_shortages)) {
        take_memory();
    }
    if (config_.couriers > 0 && random_.chance(config_.couriers)) {
        send_couriers();
    }
    if (config_.advertisements > 0 && random_.chance(config_.advertisements)) {
        advertise_something();
    }
    if (config_.ipv4_changes > 0 && random_.chance(config_.ipv4_changes)) {
        change_ipv4();
    }
    if (config_.deaths > 0 && random_.chance(config_.deaths)) {
        kill_family();
    }
}

base::Instant World::next_mending() const
{
    base::Instant next = promise_at_;
    for (const auto& l : links_) {
        if (l->cut_until != base::Instant{}) {
            next = std::min(next, l->cut_until);
        }
        next = std::min({next, l->ipv4[0].until, l->ipv4[1].until});
    }
    for (const auto& n : nodes_) {
        for (const CpuState& c : n->cpus) {
            if (!c.hoard.empty()) {
                next = std::min(next, c.hoard_until);
            }
        }
        for (const auto& f : n->families) {
            if (!f->alive()) {
                next = std::min(next, f->reborn_at);
            }
        }
    }
    return next;
}

void World::pause_cpu()
{
    CpuRef c = cpus_[random_.below(static_cast<std::uint32_t>(cpus_.size()))];
    std::uint32_t most_us = random_.chance(0.05) ? 300'000 : random_.chance(0.3) ? 20'000 : 300;
    CpuState& cpu = c.node->cpus[c.id];
    cpu.paused_since = cpu.paused_until > now() ? cpu.paused_since : now();
    cpu.paused_until = now() + base::Micros{random_.below(most_us)};
    note("pause", c.node->index, c.id);
}

void World::cut_link()
{
    std::uint32_t which = random_.below(static_cast<std::uint32_t>(links_.size()));
    Link& l = *links_[which];
    l.cut_until = now() + base::Micros{1 + random_.below(random_.chance(0.2) ? 5'000'000 : 200'000)};
    for (unsigned side = 0; side < 2; ++side) {
        drivers::Impairments im = side == 0 ? l.config.wire.a.send : l.config.wire.b.send;
        im.loss = 1;
        l.wire.set(side, im);
    }
    note("cut", which);
}

// In the drain the links lose nothing and change nothing; delays and rates stay.
void World::mend_links(bool all)
{
    for (auto& l : links_) {
        if (l->cut_until == base::Instant{} ? !all : !all && l->cut_until > now()) {
            continue;
        }
        l->cut_until = base::Instant{};
        for (unsigned side = 0; side < 2; ++side) {
            drivers::Impairments im = side == 0 ? l->config.wire.a.send : l->config.wire.b.send;
            if (all) {
                im.mark = im.loss = im.corrupt = im.duplicate = im.reorder = 0;
                im.queue_bytes_max = 1U << 22;
            }
            l->wire.set(side, im);
        }
        note("mend");
    }
}

void World::take_memory()
{
    CpuRef c = cpus_[random_.below(static_cast<std::uint32_t>(cpus_.size()))];
    CpuState& state = c.node->cpus[c.id];
    if (!state.hoard.empty()) {
        return;
    }
    state.hoard_until = now() + base::Micros{1 + random_.below(200'000)};
    std::uint32_t leave = random_.below(4);
    note("take memory", c.node->index, c.id, leave);
    c.node->post(c.id, [&state, leave, node = c.node](lwkt::Cpu&) {
        for (std::uint32_t i = 0; i < hoard_at_once; ++i) {
            netmsg::Packet* p = node->stack->pool().allocate();
            if (p == nullptr) {
                break;
            }
            state.hoard.push_back(p);
        }
        for (std::uint32_t i = 0; i < leave && !state.hoard.empty(); ++i) {
            state.hoard.back()->free();
            state.hoard.pop_back();
        }
    });
}

void World::give_memory_back(bool all)
{
    for (CpuRef c : cpus_) {
        CpuState& state = c.node->cpus[c.id];
        if (state.hoard.empty() || (!all && state.hoard_until > now())) {
            continue;
        }
        note("give memory", c.node->index, c.id, state.hoard.size());
        c.node->post(c.id, [hoard = std::move(state.hoard)](lwkt::Cpu&) {
            for (netmsg::Packet* p : hoard) {
                p->free();
            }
        });
        state.hoard.clear();
    }
}

void World::send_couriers()
{
    CpuRef c = cpus_[random_.below(static_cast<std::uint32_t>(cpus_.size()))];
    auto to = static_cast<base::CpuId>(random_.below(static_cast<std::uint32_t>(c.node->size())));
    if (to != c.id) {
        c.node->send_couriers(c.id, to, 1 + random_.below(12));
    }
}

void World::kill_apps_of(Family& f)
{
    std::erase_if(apps_, [&](std::unique_ptr<App>& a) {
        if (&a->family != &f) {
            return false;
        }
        if (a->connection != nullptr) {
            a->connection->end[a->side].rude = true;
            a->connection->end[a->side].finished = true;
        }
        if (a->serves != nullptr) {
            a->serves->listening = false;
            ++a->serves->epoch;
        }
        clients_ -= a->client ? 1 : 0;
        blocked_apps_ -= a->blocking ? 1 : 0;
        return true;
    });
}

void World::kill_family()
{
    Node& n = *nodes_[random_.below(static_cast<std::uint32_t>(nodes_.size()))];
    Family& f = *n.families[random_.below(static_cast<std::uint32_t>(n.families.size()))];
    if (!f.alive()) {
        return;
    }
    note("death", n.index, f.index);
    ++result_.deaths;
    kill_apps_of(f);
    n.detach(f);
    f.reborn_at = now() + base::Micros{random_.below(100'000)};
}

void World::revive_families(bool all)
{
    for (auto& n : nodes_) {
        for (auto& f : n->families) {
            if (!f->alive() && (all || f->reborn_at <= now())) {
                note("birth", n->index, f->index);
                n->attach(*f);
                start_roles(*f);
            }
        }
    }
}

} // namespace sim
