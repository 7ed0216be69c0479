// Rings cut from a range and given back, and which pages of heads nobody uses.
#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "base/random.hpp"
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

TEST_CASE("memory that was cut in one size serves every other once it came back")
{
    constexpr std::uint64_t pages = 11; // of no power of two
    RingArena a(rings, rings + pages * 4096, rings);
    auto all_of = [&a](unsigned shift) {
        std::vector<std::uint64_t> taken;
        while (auto offset = a.take(shift)) {
            taken.push_back(*offset);
        }
        return taken;
    };
    auto give_all = [&a](const std::vector<std::uint64_t>& taken, unsigned shift) {
        for (std::uint64_t offset : taken) {
            a.give(offset, shift);
        }
    };
    for (int round = 0; round < 3; ++round) {
        for (unsigned shift : {13U, 12U, 14U, 15U, 13U, 14U, 12U}) {
            INFO("round " << round << ", size 2^" << shift);
            std::vector<std::uint64_t> taken = all_of(shift);
            CHECK(taken.size() == pages * 4096 >> shift);
            std::sort(taken.begin(), taken.end());
            for (std::size_t i = 0; i < taken.size(); ++i) {
                CHECK(taken[i] >= rings + (i << shift));
                CHECK(taken[i] + (std::uint64_t{1} << shift) <= rings + pages * 4096);
                CHECK((i == 0 || taken[i] - taken[i - 1] >= std::uint64_t{1} << shift));
            }
            give_all(taken, shift);
            REQUIRE(a.in_use() == 0);
        }
    }
    auto odd = a.take(13);
    CHECK(a.take(12));
    CHECK(a.take(14));
    REQUIRE(odd);
}

TEST_CASE("rings of all sizes, taken and given at random: none overlaps another, and all comes together again")
{
    constexpr std::uint64_t range = std::uint64_t{1} << 22;
    struct Ring {
        std::uint64_t offset;
        unsigned shift;
    };
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        INFO("seed " << seed);
        base::Random random(seed);
        RingArena a(rings, rings + range, rings);
        std::vector<Ring> taken;
        std::vector<bool> used(range >> 12);
        bool good = true;
        auto mark = [&](const Ring& r, bool as) {
            for (std::uint64_t page = 0; page < std::uint64_t{1} << (r.shift - 12); ++page) {
                auto at = used[((r.offset - rings) >> 12) + page];
                good = good && at != as;
                at = as;
            }
        };
        for (int i = 0; i < 20'000; ++i) {
            if (random.below(2) == 0 || taken.empty()) {
                unsigned shift = 12 + static_cast<unsigned>(random.below(random.chance(0.1) ? 11 : 4));
                if (auto offset = a.take(shift)) {
                    taken.push_back({*offset, shift});
                    mark(taken.back(), true);
                }
            } else {
                std::size_t at = random.below(static_cast<std::uint32_t>(taken.size()));
                mark(taken[at], false);
                a.give(taken[at].offset, taken[at].shift);
                taken[at] = taken.back();
                taken.pop_back();
            }
        }
        for (const Ring& r : taken) {
            mark(r, false);
            a.give(r.offset, r.shift);
        }
        CHECK(good);
        CHECK(a.in_use() == 0);
        CHECK(a.take(22));
    }
}
