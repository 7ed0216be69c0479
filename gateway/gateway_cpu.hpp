// The gateway's part on one CPU. Owner: that CPU's protocol thread, all members, unless marked. A poller of class
// serial (request rings and marks of every family), a roll-up (wakeups, frees), and the users' side of the protocols'
// sockets.
//
// Invariants: a field of shared memory is copied once and the copy validated; indices that matter are kept privately; a
// record is touched by its owner only, and by nobody while its control message is in transit.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "gateway/client_record.hpp"
#include "gateway/gateway.hpp"
#include "gateway/poll_set.hpp"
#include "gateway/record_memory.hpp"
#include "lwkt/pool.hpp"
#include "lwkt/port.hpp"
#include "lwkt/timer_wheel.hpp"
#include "protocols/socket/so_dispatch.hpp"
#include "protocols/stack.hpp"

namespace gateway {

// A request on its way to the CPU that owns its slot.
struct RequestMsg : lwkt::Message {
    Client* client = nullptr;   // m
    sockbuf::Request request{}; // m: the validated-once copy
    // m: a close, made when the pool was empty (Client::close_under_way)
    bool extra = false;
};

// What all CPUs of a gateway share. c after construction, except the pool's per-CPU inside.
struct GatewayShared {
    protocols::Stack& stack;
    GatewayOptions options;
    lwkt::Pool<RequestMsg> requests;
    std::function<void(std::uint32_t, std::uint32_t)>
        wake;                           // replaces pipes in virtual time; set before the first attach
    std::vector<Announced> announced{}; // control thread
};

// Replies come back to the socket's owner, wherever it is by then.
class ReplyPort final : public lwkt::Port {
public:
    void deliver(lwkt::Message& m) override;
};

class alignas(base::apart) GatewayCpu final : public lwkt::Poller, public lwkt::Rollup {
public:
    GatewayCpu(GatewayShared& shared, protocols::SocketUser& user, lwkt::Cpu& cpu);
    ~GatewayCpu() override;

    std::uint32_t poll(std::uint32_t budget) override;
    bool pending() const override;
    void rollup() override;

    // ---- called through CpuSet::call ----
    void add_client(Client& c);
    void stop_polling(Client& c); // requests and marks are not looked at any more
    void forget_client(Client& c);
    void drain_process(Client& c, std::uint32_t process);
    void sweep_process(Client& c, std::uint32_t process); // locks, holder bits, sockets nobody holds
    void forget_waiters(Client& c, const WaiterSet& its);
    void close_all(Client& c, bool abort);
    void close_sleepers(Client& c); // that nobody holds any more
    void report(Client& c, std::uint32_t from, std::uint32_t to, std::vector<SocketReport>& out); // slots [from, to)
    void reset_process(Client& c, std::uint32_t process);

    // ---- the sockets' way back (SocketUser, on this CPU) ----
    void event(SocketRecord& rec);
    bool provide_rings(SocketRecord& rec);
    sockbuf::RingView provide_lane(SocketRecord& rec, std::uint32_t lane, std::uint32_t bytes);
    void take_lane_back(SocketRecord& rec, std::uint32_t lane, const sockbuf::RingView& ring);
    bool may_wait(const SocketRecord& listener) const;
    SocketRecord* accepted(
        SocketRecord& listener, const protocols::SocketOptions& options, const base::FourTuple& flow);
    void ready(SocketRecord& listener, SocketRecord& child);
    void join(SocketRecord& active, SocketRecord& passive);
    void leaves(SocketRecord& rec);
    void moved_here(SocketRecord& rec);
    void detached(SocketRecord& rec);
    SocketRecord* woken(Client& c, std::uint32_t slot);

    void replied(netmsg::SocketMsg& m);
    // Runs a request whose slot this CPU owns, or sends it on.
    void request(Client& c, const sockbuf::Request& r);
    // The socket's application moved an offset.
    void look(Client& c, std::uint32_t slot);
    const GatewayCounters& counters() const { return counters_; } // any thread

private:
    base::CpuId me() const { return me_; }
    protocols::Domain& domain() const { return domain_; }

    // gateway_marks.cpp
    bool has_news(const Client& c) const;
    std::uint32_t poll_client(Client& c, std::uint32_t budget);
    std::uint32_t drain_requests(Client& c, std::uint32_t budget);
    std::uint32_t drain_ring(Client& c, std::uint32_t process, std::uint32_t budget);
    std::uint32_t take_marks(Client& c, std::uint32_t budget);
    std::uint32_t look_at_marks(Client& c, std::uint32_t budget);
    std::uint64_t marked_words(const Client& c, std::uint32_t i, std::uint64_t named) const;
    void forget_unused_words(Client& c);
    void name_marked_words(Client& c);
    void fetch_record(const Client& c, std::uint32_t slot) const;
    void look_here(SocketRecord& rec);
    void look_joined(SocketRecord& rec);
    // gateway_requests.cpp
    bool forward(Client& c, std::uint16_t owner, const sockbuf::Request& r);
    RequestMsg* make_pooled(Client& c);
    RequestMsg* make_extra(Client& c, const sockbuf::Request& r);
    SocketRecord* find_or_create(Client& c, const sockbuf::Request& r);
    void execute(SocketRecord& rec, const sockbuf::Request& r);
    static void set_backlog(SocketRecord& listener, std::uint32_t connections);
    bool prepare_listen(SocketRecord& rec, std::int32_t backlog);
    void post(SocketRecord& rec, netmsg::SocketOp op, std::uint32_t sequence);
    void close(SocketRecord& rec, bool abort);
    bool mourn(SocketRecord& rec);
    void refuse(Client& c, const sockbuf::Request& r, std::int32_t error);
    void answer(Client& c, std::uint32_t slot, std::uint32_t sequence, std::int32_t result, const void* data = nullptr,
        std::uint32_t size = 0, std::uint32_t process = 0);
    // gateway_slots.cpp
    SocketRecord* new_record(Client& c, std::uint32_t slot, sockbuf::SlotKind kind, std::uint8_t family);
    SocketRecord* make_record(Client& c, std::uint32_t slot, sockbuf::SlotKind kind, std::uint8_t family);
    void reset_slot(Client& c, std::uint32_t slot);
    void fill_grants(Client& c);
    void free_record(SocketRecord& rec);
    void slot_home(Client& c, std::uint32_t slot);
    static std::uint32_t waiting_in(const SocketRecord& listener, std::uint32_t cpu);
    void release_place(SocketRecord& child) const;
    void request_close(Client& c, std::uint32_t slot, std::uint32_t generation, bool abort);
    void give_lanes(SocketRecord& rec);
    void close_unaccepted(SocketRecord& listener);
    static bool still_in_lane(const SocketRecord& rec);
    void sweep_slot(Client& c, std::uint32_t slot, std::uint32_t process);
    void release_locks(Client& c, std::uint32_t slot, std::uint32_t process);
    // gateway_rings.cpp
    bool attach_rings(SocketRecord& rec, bool for_text);
    void publish_rings(SocketRecord& rec);
    void give_rings(SocketRecord& rec);
    void give_ring(Client& c, std::uint64_t offset, unsigned shift, bool touched);
    // gateway_cool.cpp
    void cool_rings();
    std::uint32_t serve_wanted_rings();
    void stop_wanting(SocketRecord& rec);
    void look_at_want(SocketRecord& rec);
    // gateway_idle.cpp
    SocketRecord* wake(Client& c, std::uint32_t slot);
    SocketRecord* wake_to_close(Client& c, std::uint32_t slot);
    SocketRecord* record_of(Client& c, std::uint32_t slot); // woken if it sleeps; null: nothing there, or no memory
    enum class Idleness : std::uint8_t { moving, never, asleep }; // never: not by waiting for it
    void watch_idle(SocketRecord& rec);
    void list_awake(SocketRecord& rec);
    void forget_idle(SocketRecord& rec);
    void sweep_idle();
    void hurry();
    Idleness look_idle(SocketRecord& rec);
    bool let_sleep(SocketRecord& rec);
    bool withdraw_send_ring(SocketRecord& rec);
    // gateway_join.cpp
    void finish_joined(Client& c, const SocketRecord& rec, std::uint32_t process);
    // gateway_wake.cpp
    // Which of a socket's waiters an event is for.
    enum class For : std::uint8_t {
        threads,  // an answer: epoll sets see no edge of the socket
        everyone, // epoll sets get their ready bit too
        sleepers, // and those that seem awake may sleep: who took their `sleeping` died before it woke them
    };
    void queue_event(Client& c, std::uint32_t slot, For whom = For::everyone);
    void collect_waiters(Client& c, std::uint32_t slot, For whom);
    void tell_waiters();
    void wake_client(Client& c);
    void fault(Client& c)
    {
        c.faults.fetch_add(1, std::memory_order_relaxed);
        base::count(counters_.faults);
    }

    static void request_dispatch(lwkt::Message& m);
    static void reply_dispatch(lwkt::Message& m);
    static void record_home_dispatch(lwkt::Message& m);
    friend class ReplyPort;

    struct EventRef {
        Client* client;
        std::uint32_t slot;
        For whom;
    };

    class IdleSweep final : public lwkt::Timer {
    public:
        explicit IdleSweep(GatewayCpu& of) : lwkt::Timer(fired), of_(of) {}

    private:
        static void fired(lwkt::Timer& t);
        GatewayCpu& of_;
    };
    class Cooling final : public lwkt::Timer {
    public:
        explicit Cooling(GatewayCpu& of) : lwkt::Timer(fired), of_(of) {}

    private:
        static void fired(lwkt::Timer& t);
        GatewayCpu& of_;
    };
    // The plant mark_cleared_late: marks are cleared (once more) after the offsets were read, so that one which was set
    // meanwhile is lost.
    struct LateMarks {
        std::uint32_t word = 0;
        std::uint64_t bits = 0;
    };
    using AwakeList = base::List<SocketRecord, &SocketRecord::awake_link>;

    GatewayShared& shared_;               // c
    protocols::SocketUser& user_;         // c
    lwkt::Cpu& cpu_;                      // c
    protocols::Domain& domain_;           // c: of this CPU
    const base::CpuId me_;                // c
    ReplyPort reply_port_;                // c
    PollSet families_;                    // o
    std::size_t first_ = 0;               // o: where the next poll starts, so that no family starves the others
    std::vector<EventRef> events_;        // o: sockets with news since the last roll-up
    std::vector<Client*> wakes_;          // o: families with waiters to look at
    RecordMemory records_;                // o
    std::vector<SocketRecord*> dead_;     // o: freed at the roll-up, when nobody above has them on its stack
    AwakeList awake_;                     // o: streams that may fall asleep; the one looked at longest ago in front
    std::vector<Client*> to_serve_;       // o: families whose writers wait, and rings came back since
    std::uint32_t wanting_ = 0;           // o: writers that wait for ring memory, of all families
    std::unique_ptr<IdleSweep> sweep_;    // o
    std::vector<Client*> to_cool_;        // o: families with free rings that have pages
    std::unique_ptr<Cooling> cooling_;    // o
    std::uint32_t round_ = 1;             // o: of the sweep
    std::vector<LateMarks> late_marks_;   // o: empty without the plant
    bool hurry_ = false;                  // o: rings ran out: the next round takes those of whatever is drained
    GatewayCounters counters_;            // s
    std::atomic<std::uint32_t> fence_{0}; // o: exchanged for its barrier (TSan knows no fences)
};

} // namespace gateway
