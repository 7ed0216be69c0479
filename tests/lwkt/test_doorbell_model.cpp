// The doorbell protocol of lwkt/cpu_impl.hpp, explored exhaustively: every interleaving of small programs on a machine
// with store buffers (as x86 has them). A state in which nobody can go on must have everything delivered; the protocol
// passes, and each of the tempting wrong orders is shown to lose a wake-up.
#include <catch2/catch.hpp>

#include "tests/lwkt/explorer.hpp"

namespace {

using namespace explorer;

// Memory: what each sender published, the sleep word, the eventfd.
enum : std::uint8_t { tail0, tail1, word, event };
// Registers of the sleeper: what it consumed of each, and scratch.
enum : std::uint8_t { head0, head1, scratch };
// Registers of a sender.
enum : std::uint8_t { count, seen };

constexpr std::uint8_t messages = 2;

Program sleeper()
{
    return {
        /* 0 round */ load(head0, tail0),
        /* 1 */ load(head1, tail1),
        /* 2 arm */ store(word, 1),
        /* 3 */ fence(),
        /* 4 check */ load(scratch, tail0),
        /* 5 */ jump_ne_reg(scratch, head0, 9),
        /* 6 */ load(scratch, tail1),
        /* 7 */ jump_ne_reg(scratch, head1, 9),
        /* 8 */ wait(event),
        /* 9 awake */ store(word, 0),
        /* 10 */ fence(),
        /* 11 */ jump(0),
    };
}

Program checks_before_arming()
{
    return {
        load(head0, tail0),
        load(head1, tail1),
        /* 2 check */ load(scratch, tail0),
        jump_ne_reg(scratch, head0, 0),
        load(scratch, tail1),
        jump_ne_reg(scratch, head1, 0),
        /* 6 arm */ store(word, 1),
        fence(),
        wait(event),
        store(word, 0),
        fence(),
        jump(0),
    };
}

// Reads the eventfd between arming and waiting, to get rid of an old ring.
Program resets_after_arming()
{
    return {
        load(head0, tail0),
        load(head1, tail1),
        store(word, 1),
        fence(),
        /* 4 check */ load(scratch, tail0),
        jump_ne_reg(scratch, head0, 10),
        load(scratch, tail1),
        jump_ne_reg(scratch, head1, 10),
        /* 8 */ clear(scratch, event),
        wait(event),
        /* 10 */ store(word, 0),
        fence(),
        jump(0),
    };
}

Program arms_without_fence()
{
    Program p = sleeper();
    p[3] = load(scratch, word); // in place of the fence; keeps the addresses
    return p;
}

Program sender(std::uint8_t tail)
{
    return {
        /* 0 */ inc(count),
        store_reg(tail, count), // publish
        /* 2 */ fence(),
        /* 3 look */ load(seen, word),
        jump_eq(seen, 0, 8),
        /* 5 */ clear(seen, word),
        jump_eq(seen, 0, 8),
        /* 7 ring */ add(event),
        /* 8 */ jump_ne(count, messages, 0),
        halt(),
    };
}

Program sends_without_fence(std::uint8_t tail)
{
    Program p = sender(tail);
    p[2] = load(seen, word);
    return p;
}

Program rings_before_clearing(std::uint8_t tail)
{
    Program p = sender(tail);
    p[5] = add(event);
    p[6] = store(word, 0);
    p[7] = fence();
    return p;
}

// Another process maps the word read-only: it looks and rings, and cannot clear.
Program read_only_sender(std::uint8_t tail)
{
    return {
        inc(count),
        store_reg(tail, count),
        fence(),
        load(seen, word),
        jump_eq(seen, 0, 6),
        add(event),
        /* 6 */ jump_ne(count, messages, 0),
        halt(),
    };
}

bool loses_wakeup(Program owner, Program first, Program second)
{
    Explorer explorer({owner, first, second});
    return explorer.loses([](const State& s) {
        return s.thread[0].reg[head0] == s.memory[tail0] && s.thread[0].reg[head1] == s.memory[tail1];
    });
}

} // namespace

TEST_CASE("doorbell model: publish, fence, look against arm, fence, check loses nothing")
{
    REQUIRE_FALSE(loses_wakeup(sleeper(), sender(tail0), sender(tail1)));
    REQUIRE_FALSE(loses_wakeup(sleeper(), sender(tail0), read_only_sender(tail1)));
    REQUIRE_FALSE(loses_wakeup(sleeper(), read_only_sender(tail0), read_only_sender(tail1)));
}

TEST_CASE("doorbell model: the wrong orders lose wake-ups")
{
    REQUIRE(loses_wakeup(checks_before_arming(), sender(tail0), sender(tail1)));
    REQUIRE(loses_wakeup(sleeper(), rings_before_clearing(tail0), sender(tail1)));
    REQUIRE(loses_wakeup(resets_after_arming(), sender(tail0), sender(tail1)));
    REQUIRE(loses_wakeup(arms_without_fence(), sender(tail0), sender(tail1)));
    REQUIRE(loses_wakeup(sleeper(), sends_without_fence(tail0), sender(tail1)));
}

namespace {

// An application's waiter of one end of a joined pair, against the writer at the other end (client/joined.cpp): it
// looks for a while with nothing armed, so that nobody rings it, then says that it sleeps, arms the socket, and looks
// again.
enum : std::uint8_t { offset, asleep, armed, pipe_bytes };
enum : std::uint8_t { had, looked };

enum class Mistake : std::uint8_t { none, trusts_its_look, does_not_arm };

Program looking_reader(Mistake m)
{
    return {
        /* 0 look */ load(looked, offset),
        jump_ne_reg(looked, had, 11),
        load(looked, offset),
        jump_ne_reg(looked, had, 11),
        /* 4 arm */ store(asleep, 1),
        fence(),
        m == Mistake::does_not_arm ? load(looked, armed) : store(armed, 1),
        fence(),
        /* 8 check */ m == Mistake::trusts_its_look ? load(looked, asleep) : load(looked, offset),
        m == Mistake::trusts_its_look ? jump(10) : jump_ne_reg(looked, had, 11),
        /* 10 */ wait(pipe_bytes),
        /* 11 awake */ store(asleep, 0),
        fence(),
        load(had, offset),
        jump(0),
    };
}

Program telling_writer()
{
    return {
        /* 0 */ inc(count),
        store_reg(offset, count),
        fence(),
        load(seen, armed),
        jump_eq(seen, 0, 10),
        /* 5 */ clear(seen, armed), // before the look at the waiter
        load(seen, asleep),
        jump_eq(seen, 0, 10),
        clear(seen, asleep),
        jump_ne(seen, 0, 12),
        /* 10 */ jump_ne(count, messages, 0),
        halt(),
        /* 12 ring */ add(pipe_bytes),
        jump(10),
    };
}

bool reader_misses(Mistake m)
{
    Explorer explorer({looking_reader(m), telling_writer()});
    return explorer.loses([](const State& s) { return s.thread[0].reg[had] == s.memory[offset]; });
}

} // namespace

TEST_CASE("doorbell model: a reader that looks, arms and looks again is woken or has seen it")
{
    REQUIRE_FALSE(reader_misses(Mistake::none));
    REQUIRE(reader_misses(Mistake::trusts_its_look));
    REQUIRE(reader_misses(Mistake::does_not_arm));
}

namespace {

// A producer with more messages than the ring holds (one slot), against its consumer. Both sleep.
enum : std::uint8_t { ring_tail, ring_head, want, word_p, event_p, word_c, event_c };
enum : std::uint8_t { sent, room, other }; // producer
enum : std::uint8_t { taken, look, flag }; // consumer

// `asks`: sets want before it sleeps on the spill.
Program spilling_producer(bool asks)
{
    return {
        /* 0 flush */ load(room, ring_head),
        jump_ne_reg(room, sent, 7), // one slot: room when all was taken
        /* 2 push */ inc(sent),
        store_reg(ring_tail, sent),
        fence(),
        load(other, word_c),
        jump_ne(other, 0, 18),
        /* 7 done? */ jump_eq(sent, 3, 17),
        /* 8 arm */ store(word_p, 1),
        asks ? store(want, 1) : load(room, want),
        fence(),
        /* 11 retry */ load(room, ring_head),
        jump_ne_reg(room, sent, 14),
        jump(15),
        /* 14 */ wait(event_p),
        /* 15 awake */ store(word_p, 0),
        jump(0),
        /* 17 */ halt(),
        /* 18 ring */ clear(other, word_c),
        jump_eq(other, 0, 7),
        add(event_c),
        jump(7),
    };
}

// `looks`: takes a request for space into account before it sleeps.
Program ring_consumer(bool looks)
{
    return {
        /* 0 take */ load(taken, ring_tail),
        store_reg(ring_head, taken),
        /* 2 round's look, relaxed */ load(flag, want),
        jump_ne(flag, 0, 15),
        /* 4 arm */ store(word_c, 1),
        fence(),
        /* 6 check */ load(look, ring_tail),
        jump_ne_reg(look, taken, 12),
        /* 8 */ looks ? load(flag, want) : load(look, want),
        jump_ne(flag, 0, 12),
        jump(11),
        /* 11 */ wait(event_c),
        /* 12 awake */ store(word_c, 0),
        fence(),
        jump(0),
        /* 15 grant */ clear(flag, want),
        jump_eq(flag, 0, 4),
        clear(flag, word_p),
        jump_eq(flag, 0, 4),
        add(event_p),
        load(flag, ring_head), // flag is scratch again
        store(word_c, 0),
        fence(),
        jump(0),
    };
}

bool stuck(Program producer, Program consumer)
{
    Explorer explorer({producer, consumer});
    return explorer.loses([](const State& s) { return s.thread[0].reg[sent] == 3 && s.thread[1].reg[taken] == 3; });
}

} // namespace

TEST_CASE("doorbell model: a producer that sleeps on a full ring is woken for space")
{
    REQUIRE_FALSE(stuck(spilling_producer(true), ring_consumer(true)));
    REQUIRE(stuck(spilling_producer(false), ring_consumer(true)));
    REQUIRE(stuck(spilling_producer(true), ring_consumer(false)));
}
