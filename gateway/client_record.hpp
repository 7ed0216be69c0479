// What the gateway knows of a family and of each of its sockets, in private memory: the truth beside what the family
// can scribble over.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/list.hpp"
#include "gateway/listen_credits.hpp"
#include "gateway/ring_arena.hpp"
#include "gateway/segment.hpp"
#include "netmsg/socket_msg.hpp"
#include "protocols/socket/socket.hpp"

namespace gateway {

struct Client;
class GatewayCpu;

// Of each accept lane, whatever the backlog: of its address space one page is touched.
inline constexpr std::uint32_t accept_lane_entries = protocols::listen_backlog_max;
static_assert(std::has_single_bit(accept_lane_entries));

// What is behind an accept lane. Owner: its CPU while the listener listens, then the listener's.
struct alignas(base::apart) AcceptLane {
    std::atomic<std::uint32_t> produced{0}; // s: the truth of the lane's index
    std::atomic<std::uint32_t> reserved{0}; // s: places of connections that are not complete yet
};

// A socket of a family. Owner = the CPU in Client::owner[slot]; in transit: the control message. All fields o unless
// marked.
struct SocketRecord {
    protocols::Socket so;
    Client* client = nullptr;     // c
    std::uint32_t slot = 0;       // c
    std::uint32_t generation = 0; // c
    netmsg::SocketMsg msg;        // m: the one control operation in flight
    std::uint8_t snd_shift = 0;   // of its rings, whether they have memory now or not; 0 = not known yet
    std::uint8_t rcv_shift = 0;
    std::uint8_t lanes_shift = 0; // listener: its accept lanes
    bool busy = false;            // msg is in flight
    bool closing = false;         // disconnect or abort was posted; comes back as socket_detached
    bool close_wanted = false;    // close arrived while busy
    bool aborted = false;         // abort was posted
    bool abort_wanted = false;
    bool detached = false;                      // the protocols have let go; freed once msg is back
    base::CpuId rings_cpu = 0;                  // whose arena the rings came from
    std::uint32_t lane_at = 0;                  // accepted: position in accept_lane
    std::uint64_t lanes = 0;                    // listener: offset of its lanes, c once listening
    std::uint32_t backlog = 0;                  // listener: connections that may wait
    std::unique_ptr<ListenCredits> credits;     // listener, c once listening
    std::unique_ptr<AcceptLane[]> accept_lanes; // listener: element i = CPU i's
    SocketRecord* reserved_at = nullptr;        // accepted, not complete yet: the listener in whose lane it has a place
    base::ListLink awake_link;                  // in GatewayCpu::awake_ while it may fall asleep
    base::ListLink want_ring_link;              // in ClientCpu::want_rings while a writer waits for memory
    std::uint64_t moved = ~std::uint64_t{0};    // bytes that had moved when it was last looked at
    std::uint32_t round = 0;                    // ... and in which round that was
    std::uint32_t partner = 0;                  // joined pair: slot of the other end + 1, c once connected
    sockbuf::LaneHeader* accept_lane = nullptr; // accepted: the lane it was put into, for claims of the dead
};

// What a slot holds: a record, or what sleeps in a record's place, or what there is to say of a slot that has neither.
// One word, told apart by its lowest bits. Owner = the CPU in Client::owner[slot].
class Holding {
public:
    SocketRecord* record() const { return tag() == Tag::record ? reinterpret_cast<SocketRecord*>(word_) : nullptr; }
    protocols::IdleConnection* asleep() const
    {
        return tag() == Tag::asleep ? reinterpret_cast<protocols::IdleConnection*>(pointer()) : nullptr;
    }
    bool granted() const { return tag() == Tag::granted; } // handed out, no record
    std::uint32_t place() const { return value(); }        // granted: its position in the grant lane
    std::uint32_t next_free() const { return value(); }    // free: the free slot below it

    void hold(SocketRecord* rec) { word_ = reinterpret_cast<std::uintptr_t>(rec); }
    void hold(protocols::IdleConnection* idle) { set(Tag::asleep, reinterpret_cast<std::uintptr_t>(idle)); }
    void grant(std::uint32_t place) { set(Tag::granted, std::uint64_t{place} << 32); }
    void free(std::uint32_t next) { set(Tag::free, std::uint64_t{next} << 32); }

private:
    enum class Tag : std::uint8_t { record, asleep, free, granted };
    Tag tag() const { return static_cast<Tag>(word_ & 3); }
    std::uintptr_t pointer() const { return word_ & ~std::uintptr_t{3}; }
    std::uint32_t value() const { return static_cast<std::uint32_t>(word_ >> 32); }
    void set(Tag tag, std::uint64_t rest) { word_ = rest | static_cast<std::uint64_t>(tag); }

    std::uint64_t word_ = 0;
};
static_assert(alignof(SocketRecord) >= 4);

// The free slots of a CPU, the last one freed on top.
class SlotStack {
public:
    bool empty() const { return top_ == none; }
    void push(Holding* slots, std::uint32_t slot)
    {
        slots[slot].free(top_);
        top_ = slot;
    }
    std::uint32_t pop(const Holding* slots) // not when empty; whoever pops has it hold something else
    {
        std::uint32_t slot = top_;
        top_ = slots[slot].next_free();
        return slot;
    }

private:
    static constexpr std::uint32_t none = 0xffffffff;
    std::uint32_t top_ = none;
};

inline constexpr std::uint16_t in_transit =
    0xffff; // Client::owner: a control message moves the socket, nobody touches it

// Marks that were taken and not looked at within the budget: of one summary word, and of one word of marks in it. And
// which words had marks lately, so that summary goes on naming them.
struct MarksLeft {
    std::uint64_t summary = 0;
    std::uint64_t bits = 0;
    std::uint32_t summary_at = 0; // which summary word
    std::uint32_t word = 0;       // which word of marks
    std::uint32_t rounds = 0;     // polls since `used` was cleared
    std::uint64_t used[15] = {};  // as MarkLine::summary: words that had marks in these rounds

    bool any() const { return (summary | bits) != 0; }
};

// What a CPU keeps of a family. Owner: that CPU.
struct alignas(base::apart) ClientCpu {
    RingArena arena;                                              // o
    SlotStack free_slots;                                         // o: slots whose home is this CPU
    std::uint32_t grants = sockbuf::grant_lane_entries;           // c: capacity of the grant lane
    std::uint32_t grants_produced = 0;                            // o: the truth of the grant lane's index
    std::uint64_t processes_left = 0;                             // o: request rings not drained within the budget
    std::uint32_t next_process = 0;                               // o: whose ring is drained first
    MarksLeft marks_left;                                         // o
    std::uint32_t requests_consumed[sockbuf::max_processes] = {}; // o: the truth of each request ring's index
    std::uint64_t wake[2] = {0, 0};                               // o: waiters to wake at this roll-up
    std::uint64_t wake_anyway[2] = {0, 0};                        // o: of these, also those that seem awake
    bool wake_queued = false;                                     // o
    bool cooling = false;                                         // o: in GatewayCpu::to_cool_
    bool to_serve = false;                                        // o: in GatewayCpu::to_serve_
    base::List<SocketRecord, &SocketRecord::want_ring_link>
        want_rings;                              // o: writers that wait; first come, first served
    std::atomic<std::uint64_t> records_made{0};  // s: records that this CPU has made
    std::atomic<std::uint64_t> records_ended{0}; // o stores (release), the control thread acquires
};
static_assert(sizeof(std::uint64_t[2]) * 8 == sockbuf::max_waiters);

// A waiter's way to be woken. Written by the control thread while no CPU uses it (between call_all rounds).
struct WaiterRecord {
    std::atomic<int> write_fd{-1};      // control thread writes; CPUs read
    std::atomic<std::uint32_t> kind{0}; // sockbuf::WaiterKind; 0 = free
    std::uint32_t process = 0;          // control thread
    std::uint32_t generation = 0;       // control thread
};

using WaiterSet = std::array<std::uint64_t, 2>; // a bit a waiter, as in SlotAppLine
static_assert(sizeof(WaiterSet) * 8 == sockbuf::max_waiters);

// What becomes of a family's sockets: they are closed as exit(2) would (detached), or aborted (poisoned).
enum class Ending : std::uint8_t { none, close, abort };

// A family. Slots have their home CPU in runs of up to 64, so that no line and no page of what is kept by slot, here
// and in shared memory, lies beside that of another CPU's: neighbours are fetched along (docs/performance/stack.md). A
// slot's record is touched by owner[s] only.
struct Client {
    std::uint32_t id = 0;                                // c
    Segment segment;                                     // c
    std::uint32_t cpus = 0;                              // c
    std::uint32_t run_shift = 0;                         // c: log2 of the slots in a row that have one home
    std::uint32_t pid = 0;                               // c: of the process that attached
    std::uint32_t uid = 0;                               // c: its effective user when it attached
    GatewayCpu* const* gateway_cpus = nullptr;           // c: element i runs on CPU i
    std::uint64_t processes = 0;                         // control thread: indices in use
    std::unique_ptr<ClientCpu[]> cpu;                    // element i: owner CPU i
    std::unique_ptr<Holding[]> slots;                    // element s: owner[s]
    std::unique_ptr<std::uint32_t[]> generations;        // element s: home CPU (current use of the slot)
    std::unique_ptr<std::atomic<std::uint16_t>[]> owner; // element s: the owner stores (release), anyone loads
    // Element s: a request to close it is on its way in a message of no pool, which there is one of per slot. Any CPU.
    std::unique_ptr<std::atomic<bool>[]> close_under_way;
    WaiterRecord waiters[sockbuf::max_waiters];
    // What the control thread has decided, for control operations that were on their way meanwhile. It stores, CPUs
    // load.
    std::atomic<Ending> ending{Ending::none};
    std::atomic<std::uint64_t> gone{0};   // processes that ended; a bit is cleared when its index is given out again
    std::atomic<std::uint64_t> faults{0}; // s: requests and offsets that made no sense
    alignas(base::apart) std::atomic<std::uint32_t> on_the_way{0}; // requests between two CPUs; any CPU
    std::atomic<std::uint32_t> pooled{0};                          // of these in messages of the pool; any CPU
    // A sleeping connection that nobody holds could not be woken to be closed, for lack of memory: CPUs store.
    std::atomic<bool> sleeper_left{false};
    bool detached = false; // control thread

    const sockbuf::SegmentView& view() const { return segment.view(); }
    // Records that exist or sleep. One that is made on one CPU may end on another, so those that ended are read first:
    // 0 is said only when all that were made by then had ended.
    std::uint64_t live() const
    {
        std::uint64_t ended = 0;
        std::uint64_t made = 0;
        for (std::uint32_t i = 0; i < cpus; ++i) {
            ended += cpu[i].records_ended.load(std::memory_order_acquire);
        }
        for (std::uint32_t i = 0; i < cpus; ++i) {
            made += cpu[i].records_made.load(std::memory_order_acquire);
        }
        return made - ended;
    }
    base::CpuId home(std::uint32_t slot) const { return static_cast<base::CpuId>((slot >> run_shift) % cpus); }
};

// The lane of a listener on CPU `cpu`.
inline sockbuf::LaneHeader& lane_of(const SocketRecord& listener, std::uint32_t cpu)
{
    return listener.client->view().accept_lane(listener.lanes, accept_lane_entries, cpu);
}

// How a slot names a ring that has memory.
inline std::uint32_t page_of(const Client& c, const sockbuf::RingView& ring)
{
    return static_cast<std::uint32_t>(static_cast<std::uint64_t>(ring.base() - c.view().base()) >> sockbuf::page_shift);
}

} // namespace gateway
