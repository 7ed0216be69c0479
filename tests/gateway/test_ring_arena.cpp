// Rings cut from a range and given back, and which pages of heads nobody uses.
#include <catch2/catch.hpp>
#include <vector>

#include "gateway/ring_arena.hpp"

using gateway::RingArena;

namespace {

constexpr std::uint64_t rings = 4096 * 7; // where a segment's rings begin
constexpr std::uint64_t heads = 4096 / sockbuf::RingView::head_bytes;

} // namespace

TEST_CASE("a ring that came back is handed out first, and none beyond the range")
{
    RingArena a(rings, rings + 8 * 4096, rings);
    auto first = a.take(13);
    auto second = a.take(13);
    REQUIRE(first);
    REQUIRE(second);
    CHECK(*second == *first + 8192);
    a.give(*first, 13);
    CHECK(a.take(13) == first);
    CHECK_FALSE(a.take(15));
    CHECK_FALSE(a.take(12, 4 * 4096)); // would leave less than is kept
    CHECK(a.take(14));
    CHECK_FALSE(a.take(12));
    CHECK(a.in_use() == a.total());
}

TEST_CASE("a page of heads is unused once every ring of it came back")
{
    RingArena a(rings, rings + (4 * heads << 12), rings);
    std::vector<std::uint64_t> taken;
    for (std::uint64_t i = 0; i < heads + 1; ++i) {
        taken.push_back(*a.take(12));
    }
    for (std::uint64_t i = 0; i + 1 < heads; ++i) {
        a.give(taken[i], 12);
        CHECK_FALSE(a.heads_unused(taken[i], 12));
    }
    a.give(taken[heads - 1], 12);
    CHECK(a.heads_unused(taken[0], 12));
    CHECK_FALSE(a.heads_unused(taken[heads], 12)); // in the next page
}

TEST_CASE("a page of heads that another CPU's rings share is never unused")
{
    std::uint64_t half = heads / 2 << 12;
    RingArena a(rings + half, rings + 4 * half, rings); // from the middle of one page to the end of the next
    std::uint64_t shared = *a.take(12);
    a.give(shared, 12);
    CHECK_FALSE(a.heads_unused(shared, 12));
    std::vector<std::uint64_t> taken;
    for (std::uint64_t i = 0; i < heads; ++i) {
        taken.push_back(*a.take(12));
    }
    for (std::uint64_t offset : taken) {
        a.give(offset, 12);
    }
    CHECK(a.heads_unused(taken.back(), 12));
    CHECK_FALSE(a.heads_unused(taken.front(), 12));
}
