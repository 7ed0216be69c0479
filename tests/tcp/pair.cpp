// See pair.hpp.
#include "tests/tcp/pair.hpp"

#include <catch2/catch.hpp>

#include <cstring>

#include "tests/family.hpp"

namespace tcp_test {

namespace {

HostOptions host_options(const PairOptions& o, std::uint64_t salt)
{
    HostOptions h;
    h.cpus = o.cpus;
    h.seed = o.seed * 1000 + salt;
    h.ring_shift = o.ring_shift;
    h.stack = o.stack;
    h.stack.congestion = o.congestion;
    h.stack.time_wait_per_cpu = o.time_wait_per_cpu;
    h.stack.duplicate_probes = 0; // the wire is ours: addresses may be used at once
    return h;
}

const base::IpAddr address_a = test::address("10.0.0.1");
const base::IpAddr address_b = test::address("10.0.0.2");
const std::uint8_t prefix_length = test::over_v6() ? 64 : 24;

} // namespace

Pair::Pair(const PairOptions& o)
    : a(clock, host_options(o, 1)), b(clock, host_options(o, 2)), order_(o.seed), shuffle_(o.shuffle)
{
    drivers::SimLinkOptions l;
    l.a.steering = &a.stack->steering();
    l.b.steering = &b.stack->steering();
    l.a.send = l.b.send = o.weather;
    l.tso = o.tso;
    l.gso = o.gso;
    l.gro = o.gro;
    l.split = o.split;
    l.csum_offload = o.csum_offload;
    l.seed = o.seed;
    drivers::SimLink link = drivers::make_sim_link(l);
    std::string error;
    REQUIRE(a.stack->add_interface(std::move(link.a), {{address_a, prefix_length}}, error) != nullptr);
    REQUIRE(b.stack->add_interface(std::move(link.b), {{address_b, prefix_length}}, error) != nullptr);
    a.step_world = b.step_world = [this] {
        bool worked = step();
        if (!worked) {
            clock.advance_to(std::min({a.set.next_deadline(), b.set.next_deadline(), clock.now() + base::millis(1)}));
        }
        return worked;
    };
}

Pair::~Pair() = default;

bool Pair::step()
{
    base::Random* order = shuffle_ ? &order_ : nullptr;
    bool worked = a.set.step(order);
    return b.set.step(order) || worked;
}

void Pair::settle()
{
    while (step()) {
    }
}

App& Pair::listen(std::uint16_t port)
{
    App& l = b.make();
    REQUIRE(b.listen(l, {test::address("0.0.0.0"), port}) == 0);
    return l;
}

App& Pair::connect(std::uint16_t port, base::CpuId cpu)
{
    App& c = a.make(cpu);
    REQUIRE(a.connect(c, {address_b, port}) == EINPROGRESS);
    return c;
}

std::pair<App*, App*> Pair::connected(std::uint16_t port)
{
    App& l = listen(port);
    App& c = connect(port);
    REQUIRE(run_until(
        [&] { return !l.accepted.empty() && c.state() == sockbuf::SlotState::connected; }, base::seconds(60)));
    App* s = l.accepted.front();
    l.accepted.pop_front();
    b.close(l);
    return {&c, s};
}

bool Pair::run_until(const std::function<bool()>& done, base::Micros limit)
{
    base::Instant end = clock.now() + limit;
    for (;;) {
        settle();
        if (done()) {
            return true;
        }
        if (step()) {
            continue; // `done` made work
        }
        base::Instant next = std::min(a.set.next_deadline(), b.set.next_deadline());
        if (next > end) {
            return false;
        }
        clock.advance_to(std::max(next, clock.now()));
    }
}

void Pair::run_for(base::Micros time, const std::function<void()>& each)
{
    base::Instant end = clock.now() + time;
    run_until(
        [&] {
            if (each) {
                each();
            }
            return clock.now() >= end;
        },
        time);
    clock.advance_to(std::max(end, clock.now()));
}

void Pair::close_all()
{
    for (Host* h : {&a, &b}) {
        for (std::size_t i = 0; i < h->apps.size(); ++i) {
            App& app = *h->apps[i];
            if (!app.detached && !app.so.app_closed) {
                h->close(app);
            }
        }
    }
    run_for(base::seconds(200));
}

void Pair::expect_clean()
{
    settle();
    for (Host* h : {&a, &b}) {
        CHECK(h->connections() == 0);
        CHECK(h->open_sockets() == 0);
        for (base::CpuId c = 0; c < h->set.size(); ++c) {
            CHECK(h->tcp(c).time_wait.slab.in_use() == 0);
            CHECK(h->tcp(c).flows.size() == 0);
        }
    }
}

bool Stream::pump()
{
    while (sent_ < bytes_ || !pending_.empty()) {
        while (pending_.size() < 65536 && sent_ < bytes_) {
            std::uint64_t word = out_.next();
            std::uint64_t n = std::min<std::uint64_t>(8, bytes_ - sent_);
            const auto* p = reinterpret_cast<const unsigned char*>(&word);
            pending_.insert(pending_.end(), p, p + n);
            sent_ += n;
        }
        std::uint64_t wrote = from_.write(pending_.data(), pending_.size());
        pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(wrote));
        if (wrote == 0) {
            break;
        }
    }
    std::vector<unsigned char> buffer(65536);
    while (std::uint64_t n = to_.take(buffer.data(), buffer.size())) {
        tail_.insert(tail_.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(n));
        std::size_t at = 0;
        while (tail_.size() - at >= 8 || (tail_.size() > at && received_ + tail_.size() - at == bytes_)) {
            std::uint64_t word = in_.next();
            std::size_t k = std::min<std::size_t>(8, tail_.size() - at);
            correct_ &= std::memcmp(&word, &tail_[at], k) == 0;
            at += k;
            received_ += k;
        }
        tail_.erase(tail_.begin(), tail_.begin() + static_cast<std::ptrdiff_t>(at));
    }
    return received_ == bytes_;
}

} // namespace tcp_test
