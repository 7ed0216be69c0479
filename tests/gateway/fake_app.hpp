// An application reduced to what it does to shared memory: takes slots, pushes requests, moves offsets, sets marks.
// Drives the gateway without client/, so that a test can also do what no honest application does.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "base/net_addr.hpp"
#include "gateway/gateway.hpp"
#include "lwkt/cpu_set.hpp"
#include "tests/family.hpp"

namespace test {

struct FakeApp {
    FakeApp(lwkt::CpuSet& of_set, lwkt::VirtualClock& of_clock, gateway::Gateway& of_gw, std::uint32_t user = 0)
        : set(of_set), clock(of_clock), gw(of_gw)
    {
        std::string error;
        client = gw.attach(1, error, user);
        INVARIANT(client != nullptr);
        view = gw.segment(*client).view();
    }

    struct Sock {
        std::uint32_t slot = 0;
        std::uint32_t generation = 0;
    };

    // Steps until nothing moves, without advancing time by more than `micros`.
    void settle(std::int64_t micros = 200'000)
    {
        auto end = clock.now() + base::Micros{micros};
        for (int i = 0; i < 200'000; ++i) {
            if (set.step()) {
                continue;
            }
            auto next = set.next_deadline();
            if (next > end) {
                break;
            }
            clock.advance_to(std::max(next, clock.now() + base::Micros{1}));
        }
    }

    Sock take(sockbuf::LaneHeader& lane)
    {
        std::uint32_t at = lane.consumed.load();
        INVARIANT(at != lane.produced.load());
        std::uint64_t entry = sockbuf::SegmentView::lane_entries(lane)[at % lane.capacity].load();
        Sock k{static_cast<std::uint32_t>(entry), static_cast<std::uint32_t>(entry >> 32)};
        view.slot(k.slot).share.holders.fetch_or(std::uint64_t{1} << process);
        lane.consumed.store(at + 1);
        view.slot(k.slot).share.holders.fetch_and(~sockbuf::lane_holder);
        return k;
    }
    Sock socket(std::uint32_t cpu) { return take(view.grant_lane(cpu)); }

    // Takes from whichever lane of the listener has a connection; slot 0xffffffff when none has.
    Sock accept(Sock listener)
    {
        auto& info = view.slot(listener.slot).info;
        for (std::uint32_t cpu = 0; cpu < view.cpus(); ++cpu) {
            auto& lane = view.accept_lane(view.lanes_of(view.slot(listener.slot)), info.lane_entries, cpu);
            if (lane.consumed.load() != lane.produced.load()) {
                view.slot(listener.slot).app.accept_taken.fetch_add(1);
                return take(lane);
            }
        }
        return {0xffffffff, 0};
    }

    void push(const sockbuf::Request& r, std::uint32_t cpu)
    {
        auto& ring = view.requests(process, cpu);
        std::uint32_t at = ring.produced.load();
        std::memcpy(&ring.entries[at % sockbuf::request_slots], &r, sizeof r);
        ring.produced.store(at + 1);
        view.marks(cpu).processes.fetch_or(std::uint64_t{1} << process);
    }

    // One that nobody waits for.
    sockbuf::Request request(Sock k, sockbuf::Op op, base::Endpoint address = {}, std::int32_t value = 0,
        sockbuf::SlotKind kind = sockbuf::SlotKind::stream) const
    {
        sockbuf::Request r{};
        r.op = static_cast<std::uint32_t>(op);
        r.slot = k.slot;
        r.generation = k.generation;
        r.kind = static_cast<std::uint8_t>(kind);
        r.family = static_cast<std::uint8_t>(test::family());
        r.port = address.port;
        r.value = value;
        std::memcpy(r.addr, address.addr.bytes(), 16);
        return r;
    }
    // One request, settled; its result, or -1 when there was no answer.
    int call(Sock k, sockbuf::Op op, base::Endpoint address = {}, std::int32_t value = 0,
        sockbuf::SlotKind kind = sockbuf::SlotKind::stream)
    {
        sockbuf::Request r = request(k, op, address, value, kind);
        r.sequence = ++sequence;
        push(r, view.slot(k.slot).info.owner_cpu.load());
        settle();
        auto& reply = view.slot(k.slot).reply;
        return reply.done.load() == sequence ? reply.result : -1;
    }

    std::size_t send(Sock k, const void* data, std::size_t size)
    {
        auto& s = view.slot(k.slot);
        std::uint64_t produced = s.app.snd_produced.load();
        std::uint64_t room = (std::uint64_t{1} << s.info.snd_shift) - (produced - s.owner.snd_acked.load());
        size = std::min<std::size_t>(size, room);
        while (!view.send_ring(s).valid()) { // it slept, and its ring went
            s.app.want_space.store(1);
            sockbuf::set_mark(view, s.info.owner_cpu.load(), k.slot);
            settle();
        }
        view.send_ring(s).copy_in(produced, data, size);
        s.app.snd_produced.store(produced + size);
        if (std::uint32_t partner = s.app.partner.load()) {
            view.slot(partner - 1).owner.rcv_produced.store(produced + size);
        } else {
            sockbuf::set_mark(view, s.info.owner_cpu.load(), k.slot);
        }
        return size;
    }
    std::string receive(Sock k)
    {
        auto& s = view.slot(k.slot);
        std::uint64_t from = s.app.rcv_consumed.load();
        std::string out(s.owner.rcv_produced.load() - from, '\0');
        view.receive_ring(s).copy_out(from, out.data(), out.size());
        s.app.rcv_consumed.store(from + out.size());
        if (from + out.size() >= s.owner.rcv_ring_at.load()) {
            sockbuf::set_mark(view, s.info.owner_cpu.load(), k.slot);
        }
        return out;
    }
    Sock bound_datagram(std::uint32_t cpu, const base::Endpoint& at)
    {
        Sock k = socket(cpu);
        int rc = call(k, sockbuf::Op::bind, at, 0, sockbuf::SlotKind::datagram);
        INVARIANT(rc == 0);
        return k;
    }
    void send_datagram(Sock k, const base::Endpoint& to, const std::string& payload)
    {
        auto& s = view.slot(k.slot);
        sockbuf::DatagramHeader h{};
        h.size = static_cast<std::uint16_t>(payload.size());
        h.port = to.port;
        std::memcpy(h.addr, to.addr.bytes(), sizeof h.addr);
        std::uint64_t at = s.app.snd_produced.load();
        auto ring = view.send_ring(s);
        ring.copy_in(at, &h, sizeof h);
        ring.copy_in(at + sizeof h, payload.data(), payload.size());
        s.app.snd_produced.store(at + sockbuf::datagram_stride(h.size));
        sockbuf::set_mark(view, s.info.owner_cpu.load(), k.slot);
    }
    // Everything that waits in the lane of a CPU, consumed.
    std::vector<std::string> receive_datagrams(Sock k, std::uint32_t cpu)
    {
        std::vector<std::string> all;
        auto& lane = view.lanes(k.slot)[cpu];
        bool made = (view.slot(k.slot).owner.lanes.load() >> cpu & 1) != 0;
        while (made && lane.consumed.load() != lane.produced.load()) {
            auto ring = view.lane_ring(lane);
            sockbuf::DatagramHeader h;
            ring.copy_out(lane.consumed.load(), &h, sizeof h);
            std::string& text = all.emplace_back(h.size, '\0');
            ring.copy_out(lane.consumed.load() + sizeof h, text.data(), h.size);
            std::uint32_t trailer = base::IpAddr::v6(h.addr).is_v4() ? 0 : sockbuf::datagram_local_bytes;
            lane.consumed.store(lane.consumed.load() + sockbuf::datagram_stride(h.size + trailer));
        }
        return all;
    }
    // As the last holder does.
    void close(Sock k, bool abort = false)
    {
        auto& s = view.slot(k.slot);
        s.share.holders.fetch_and(~(std::uint64_t{1} << process));
        s.app.snd_end.store(s.app.snd_produced.load());
        push(request(k, sockbuf::Op::close, {}, abort ? 1 : 0), s.info.owner_cpu.load());
    }
    bool at_end(Sock k)
    {
        auto& s = view.slot(k.slot);
        return s.owner.rcv_end.load() <= s.app.rcv_consumed.load();
    }
    sockbuf::SlotState state(Sock k) { return static_cast<sockbuf::SlotState>(view.slot(k.slot).info.state.load()); }

    lwkt::CpuSet& set;
    lwkt::VirtualClock& clock;
    gateway::Gateway& gw;
    std::uint32_t process = 0;
    gateway::Client* client = nullptr;
    sockbuf::SegmentView view;
    std::uint32_t sequence = 0;
};

} // namespace test
