// Marks (sockbuf::set_mark against gateway_marks.cpp), explored exhaustively: see explorer.hpp.
#include <catch2/catch.hpp>

#include "tests/lwkt/explorer.hpp"

namespace {

using namespace explorer;

constexpr std::uint8_t messages = 2;

// Two writers to one socket against its owner CPU (sockbuf::set_mark, gateway_marks.cpp): the summary bit stays set
// while the word of marks is in use, and a writer that finds it set does not touch it.
enum : std::uint8_t { published0, published1, mark, summary, word_o, event_o };
enum : std::uint8_t { saw0, saw1, found }; // owner
enum : std::uint8_t { count, seen };       // writer

enum class Slip : std::uint8_t { none, no_second_look, summary_seen_before_mark, offset_read_before_clear };

Program marking_writer(std::uint8_t published, Slip slip)
{
    bool early = slip == Slip::summary_seen_before_mark;
    return {
        /* 0 */ inc(count),
        store_reg(published, count),
        fence(),
        early ? load(seen, summary) : add(mark),
        early ? add(mark) : load(seen, summary),
        /* 5 */ jump_ne(seen, 0, 7),
        add(summary),
        /* 7 look */ load(seen, word_o),
        jump_eq(seen, 0, 12),
        clear(seen, word_o),
        jump_eq(seen, 0, 12),
        add(event_o),
        /* 12 */ jump_ne(count, messages, 0),
        halt(),
    };
}

Program marks_owner(Slip slip)
{
    bool late = slip == Slip::offset_read_before_clear;
    return {
        /* 0 round */ load(found, summary),
        jump_eq(found, 0, 8),
        load(found, mark),
        jump_ne(found, 0, 17),
        /* 4 forget */ clear(found, summary),
        slip == Slip::no_second_look ? jump(8) : load(found, mark),
        jump_eq(found, 0, 8),
        add(summary),
        /* 8 arm */ store(word_o, 1),
        fence(),
        /* 10 check */ load(found, summary),
        jump_eq(found, 0, 14),
        load(found, mark),
        jump_ne(found, 0, 15),
        /* 14 */ wait(event_o),
        /* 15 awake */ store(word_o, 0),
        jump(0),
        /* 17 take */ late ? load(saw0, published0) : clear(found, mark),
        load(late ? saw1 : saw0, late ? published1 : published0),
        late ? clear(found, mark) : load(saw1, published1),
        jump(0),
    };
}

bool mark_is_lost(Slip slip)
{
    Explorer explorer({marks_owner(slip), marking_writer(published0, slip), marking_writer(published1, slip)});
    return explorer.loses([](const State& s) {
        return s.thread[0].reg[saw0] == s.memory[published0] && s.thread[0].reg[saw1] == s.memory[published1];
    });
}

} // namespace

TEST_CASE("mark model: a summary bit that stays set, and is forgotten, loses no mark")
{
    REQUIRE_FALSE(mark_is_lost(Slip::none));
    REQUIRE(mark_is_lost(Slip::no_second_look));
    REQUIRE(mark_is_lost(Slip::summary_seen_before_mark));
    REQUIRE(mark_is_lost(Slip::offset_read_before_clear));
}
