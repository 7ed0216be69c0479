// The rings between threads and processes, explored exhaustively (explorer.hpp): CPU x CPU rings and byte rings, the
// wish for space, waiters and their pipes, lanes and the death of who takes from them, rings that are taken away from
// idle sockets. Each with the wrong orders that tempt, which must be found.
#include <catch2/catch.hpp>

#include "tests/lwkt/explorer.hpp"

using namespace explorer;

// ---- A ring of one slot (lwkt/ipiq.hpp; a byte ring, whose produced and acked offsets are tail and head)
// -------------

namespace ring {
namespace {

enum : std::uint8_t { slot, tail, head };
enum : std::uint8_t { sent, seen };          // producer
enum : std::uint8_t { taken, found, value }; // consumer
constexpr std::uint8_t elements = 3;

enum class Slip : std::uint8_t { none, tail_before_slot, head_before_read, room_not_looked_at, tail_not_looked_at };

Program producer(Slip slip)
{
    bool early = slip == Slip::tail_before_slot;
    return {
        /* 0 room? */ load(seen, head),
        slip == Slip::room_not_looked_at ? jump(2) : jump_ne_reg(seen, sent, 0),
        /* 2 */ inc(sent),
        store_reg(early ? tail : slot, sent),
        store_reg(early ? slot : tail, sent),
        jump_ne(sent, elements, 0),
        halt(),
    };
}

// Stops at the first element that is not the next one.
Program consumer(Slip slip)
{
    bool early = slip == Slip::head_before_read;
    return {
        /* 0 anything? */ load(found, tail),
        slip == Slip::tail_not_looked_at ? jump(2) : jump_ne_reg(found, taken, 3),
        /* 2 */ slip == Slip::tail_not_looked_at ? jump(3) : jump(0),
        /* 3 */ inc(taken),
        early ? store_reg(head, taken) : load(value, slot),
        early ? load(value, slot) : jump(6),
        /* 6 */ jump_ne_reg(value, taken, 9),
        early ? jump(8) : store_reg(head, taken),
        /* 8 */ jump_ne(taken, elements, 0),
        /* 9 */ halt(),
    };
}

bool breaks(Slip slip)
{
    Explorer explorer({producer(slip), consumer(slip)});
    return explorer.loses(
        [](const State& s) { return s.thread[1].reg[taken] == elements && s.thread[1].reg[value] == elements; });
}

} // namespace
} // namespace ring

TEST_CASE("ring model: every element arrives once, whole and in order")
{
    REQUIRE_FALSE(ring::breaks(ring::Slip::none));
    REQUIRE(ring::breaks(ring::Slip::tail_before_slot));
    REQUIRE(ring::breaks(ring::Slip::head_before_read));
    REQUIRE(ring::breaks(ring::Slip::room_not_looked_at));
    REQUIRE(ring::breaks(ring::Slip::tail_not_looked_at));
}

// ---- Waiting for an offset that the other side moves: a reader for bytes, a writer for space (SlotAppLine::waiters,
// want_space, Waiter::sleeping; gateway_wake.cpp)
// ------------------------------------------------------------------------

namespace waiting {
namespace {

enum : std::uint8_t { offset, wanted, asleep, pipe_bytes };
enum : std::uint8_t { had, looked };       // waiter
enum : std::uint8_t { moved, saw_wanted }; // owner
constexpr std::uint8_t moves = 2;

enum class Slip : std::uint8_t {
    none,
    no_second_look,
    wish_after_look,
    wish_read_before_offset,
    no_fence,
    wakes_before_clear
};

Program waiter(Slip slip)
{
    bool late = slip == Slip::wish_after_look;
    return {
        /* 0 */ load(looked, offset),
        jump_ne_reg(looked, had, 10),
        late ? load(looked, offset) : store(wanted, 1),
        store(asleep, 1),
        /* 4 */ fence(),
        slip == Slip::no_second_look ? jump(8) : load(looked, offset),
        jump_ne_reg(looked, had, 10),
        late ? store(wanted, 1) : jump(8),
        /* 8 */ wait(pipe_bytes),
        jump(10),
        /* 10 awake */ store(asleep, 0),
        fence(),
        load(had, offset),
        jump(0),
    };
}

Program owner(Slip slip)
{
    bool early = slip == Slip::wish_read_before_offset;
    bool hasty = slip == Slip::wakes_before_clear;
    return {
        /* 0 */ early ? load(saw_wanted, wanted) : inc(moved),
        early ? inc(moved) : store_reg(offset, moved),
        early                    ? store_reg(offset, moved)
        : slip == Slip::no_fence ? load(saw_wanted, offset)
                                 : fence(),
        early ? jump(4) : load(saw_wanted, wanted),
        /* 4 */ jump_eq(saw_wanted, 0, 9),
        hasty ? load(saw_wanted, asleep) : clear(saw_wanted, asleep),
        jump_eq(saw_wanted, 0, 9),
        /* 7 */ add(pipe_bytes),
        hasty ? store(asleep, 0) : jump(9),
        /* 9 */ jump_ne(moved, moves, 0),
        halt(),
    };
}

bool misses(Slip slip)
{
    Explorer explorer({waiter(slip), owner(slip)});
    return explorer.loses([](const State& s) { return s.thread[0].reg[had] == s.memory[offset]; });
}

} // namespace
} // namespace waiting

TEST_CASE("waiter model: who sets its bit, says that it sleeps and looks again is woken or has seen it")
{
    REQUIRE_FALSE(waiting::misses(waiting::Slip::none));
    REQUIRE(waiting::misses(waiting::Slip::no_second_look));
    REQUIRE(waiting::misses(waiting::Slip::wish_after_look));
    REQUIRE(waiting::misses(waiting::Slip::wish_read_before_offset));
    REQUIRE(waiting::misses(waiting::Slip::no_fence));
    REQUIRE(waiting::misses(waiting::Slip::wakes_before_clear));
}

// ---- A slot in a lane (grant or accept): a live process takes it while the owner CPU sweeps after the death of
// another one; and a taker that dies at any of its steps (sockbuf/abi.hpp LaneHeader, gateway_slots.cpp sweep_slot)
// -------------

namespace lane {
namespace {

enum : std::uint8_t { holder, consumed, closed, died };
enum : std::uint8_t { out_of_lane, held };

enum class Slip : std::uint8_t { none, holder_looked_at_first, consumed_before_holder };

Program taker(Slip slip)
{
    if (slip == Slip::consumed_before_holder) {
        return {store(consumed, 1), add(holder), halt()};
    }
    return {add(holder), store(consumed, 1), halt()};
}

Program sweeper(Slip slip)
{
    bool first = slip == Slip::holder_looked_at_first;
    return {
        load(first ? held : out_of_lane, first ? holder : consumed),
        load(first ? out_of_lane : held, first ? consumed : holder),
        jump_eq(out_of_lane, 0, 5), // waits in its lane for somebody else
        jump_ne(held, 0, 5),
        /* 4 nobody's */ store(closed, 1),
        /* 5 */ halt(),
    };
}

bool takes_what_is_held(Slip slip)
{
    Explorer explorer({taker(slip), sweeper(slip)});
    return explorer.loses([](const State& s) { return s.memory[closed] == 0 || s.memory[holder] == 0; });
}

// Dies after `steps`; the sweep then removes its bit and sees what is left.
bool orphaned(unsigned steps)
{
    Program dying = taker(Slip::none);
    dying.resize(steps);
    dying.push_back(add(died));
    dying.push_back(halt());
    Program after{
        wait(died),
        load(out_of_lane, consumed),
        clear(held, holder),
        jump_eq(out_of_lane, 0, 5),
        store(closed, 1),
        /* 5 */ halt(),
    };
    Explorer explorer({dying, after});
    return explorer.loses(
        [](const State& s) { return s.memory[closed] == s.memory[consumed] && s.memory[holder] == 0; });
}

} // namespace
} // namespace lane

TEST_CASE("lane model: a sweep closes nothing that somebody has just taken, and all that nobody has")
{
    REQUIRE_FALSE(lane::takes_what_is_held(lane::Slip::none));
    REQUIRE(lane::takes_what_is_held(lane::Slip::holder_looked_at_first));
    REQUIRE(lane::takes_what_is_held(lane::Slip::consumed_before_holder));
    for (unsigned steps = 0; steps <= 2; ++steps) {
        REQUIRE_FALSE(lane::orphaned(steps));
    }
}

// ---- The send ring of a socket that falls asleep: taken away unless a writer is in it (gateway_idle.cpp
// withdraw_send_ring, client/stream_send.cpp)
// ---------------------------------------------------------------------------

namespace withdrawal {
namespace {

enum : std::uint8_t { no_page, lock, produced, freed };
enum : std::uint8_t { saw };

enum class Slip : std::uint8_t { none, no_fence, lock_seen_first, page_read_before_lock, produced_not_looked_at };

Program writer(Slip slip)
{
    bool early = slip == Slip::page_read_before_lock;
    return {
        early ? load(saw, no_page) : add(lock),
        early ? add(lock) : load(saw, no_page),
        jump_ne(saw, 0, 4),
        /* 3 into the ring */ store(produced, 1),
        /* 4 */ store(lock, 0),
        halt(),
    };
}

Program owner(Slip slip)
{
    bool early = slip == Slip::lock_seen_first;
    return {
        early ? load(saw, lock) : store(no_page, 1),
        early                    ? store(no_page, 1)
        : slip == Slip::no_fence ? load(saw, no_page)
                                 : fence(),
        early ? fence() : load(saw, lock),
        jump_ne(saw, 0, 7),
        slip == Slip::produced_not_looked_at ? jump(6) : load(saw, produced),
        jump_ne(saw, 0, 7),
        /* 6 */ store(freed, 1),
        /* 7 */ halt(),
    };
}

bool writes_into_nothing(Slip slip)
{
    Explorer explorer({writer(slip), owner(slip)});
    return explorer.loses([](const State& s) { return s.memory[produced] == 0 || s.memory[freed] == 0; });
}

} // namespace
} // namespace withdrawal

TEST_CASE("withdrawal model: no ring is taken from a writer that is in it, or with bytes in it")
{
    REQUIRE_FALSE(withdrawal::writes_into_nothing(withdrawal::Slip::none));
    REQUIRE(withdrawal::writes_into_nothing(withdrawal::Slip::no_fence));
    REQUIRE(withdrawal::writes_into_nothing(withdrawal::Slip::lock_seen_first));
    REQUIRE(withdrawal::writes_into_nothing(withdrawal::Slip::page_read_before_lock));
    REQUIRE(withdrawal::writes_into_nothing(withdrawal::Slip::produced_not_looked_at));
}
