// The byte ring and its head: every offset within a ring's length has a place of its own, whatever the start.
#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>
#include <set>
#include <vector>

#include "base/random.hpp"
#include "sockbuf/segment_view.hpp"

using namespace sockbuf;

namespace {

constexpr unsigned shift = 12;
constexpr std::uint32_t size = 1U << shift;

struct Memory {
    std::vector<std::byte> ring = std::vector<std::byte>(size);
    std::vector<std::byte> heads = std::vector<std::byte>(std::size_t{2} * RingView::head_bytes);

    RingView view(std::uint32_t start, std::uint32_t home)
    {
        return {ring.data(), shift, start, home, heads.data() + RingView::head_bytes / 2};
    }
    bool holds(const iovec& v) const
    {
        const auto* at = static_cast<const std::byte*>(v.iov_base);
        auto within = [&](const std::vector<std::byte>& m) {
            return at >= m.data() && at + v.iov_len <= m.data() + m.size();
        };
        return within(ring) || within(heads);
    }
};

std::uint64_t total(const iovec* v, unsigned n)
{
    return std::accumulate(
        v, v + n, std::uint64_t{0}, [](std::uint64_t sum, const iovec& one) { return sum + one.iov_len; });
}

} // namespace

TEST_CASE("what lies within one ring's length does not overlap, and goes in and out in pieces of any size")
{
    base::Random random(7);
    Memory m;
    for (int round = 0; round < 2000; ++round) {
        std::uint32_t home = random.below(64) * 64;
        auto start = static_cast<std::uint32_t>(random.next());
        RingView ring = m.view(start, home);
        // Often where what was written since the start comes round.
        std::uint64_t from = random.below(2) != 0
                                 ? std::uint64_t{start} + home + (std::uint64_t{1} << 32) - random.below(2 * size)
                                 : random.next() >> 8;
        std::vector<unsigned char> text(size);
        for (auto& c : text) {
            c = static_cast<unsigned char>(random.next());
        }
        for (std::uint32_t at = 0; at < size;) {
            std::uint32_t n = std::min(size - at, 1 + random.below(700));
            ring.copy_in(from + at, text.data() + at, n);
            at += n;
        }
        std::vector<unsigned char> got(size);
        ring.copy_out(from, got.data(), size);
        REQUIRE(got == text);
        iovec v[RingView::pieces_max + 1] = {};
        std::uint32_t at = random.below(size);
        std::uint32_t n = random.below(size - at + 1);
        unsigned pieces = ring.pieces(from + at, n, v);
        REQUIRE(pieces <= RingView::pieces_max);
        REQUIRE(v[RingView::pieces_max].iov_base == nullptr);
        REQUIRE(total(v, pieces) == n);
        REQUIRE(std::all_of(v, v + pieces, [&](const iovec& one) { return m.holds(one); }));
    }
}

TEST_CASE("a message that fits lies in the head alone, a longer one in the ring alone")
{
    Memory m;
    RingView ring = m.view(0, 640);
    for (std::uint64_t bytes : {0U, 1U, 64U, 200U, 256U, 257U, 1000U, 4096U}) {
        CAPTURE(bytes);
        std::uint64_t offset = 123456789;
        ring.restart(offset, bytes);
        iovec v[RingView::pieces_max];
        unsigned n = ring.pieces(offset, bytes, v);
        CHECK(total(v, n) == bytes);
        for (unsigned i = 0; i < n; ++i) {
            const auto* at = static_cast<const std::byte*>(v[i].iov_base);
            bool in_ring = at >= m.ring.data() && at < m.ring.data() + size;
            CHECK(in_ring == (bytes > RingView::head_bytes));
        }
        CHECK(n <= (bytes > RingView::head_bytes ? 2U : 1U));
    }
}

TEST_CASE("without a head everything lies in the ring")
{
    Memory m;
    RingView ring(m.ring.data(), shift, 77, 0);
    ring.restart(5000, 10);
    iovec v[RingView::pieces_max];
    REQUIRE(ring.pieces(5000, 10, v) == 1);
    CHECK(v[0].iov_base == m.ring.data());
}

TEST_CASE("rings of one size have heads of their own, side by side")
{
    SegmentHeader layout{};
    lay_out(layout, 2, 64, std::uint64_t{64} << 20);
    SegmentView view(reinterpret_cast<std::byte*>(std::uintptr_t{1} << 30), layout); // never looked at
    std::set<std::byte*> heads;
    for (unsigned s : {12U, 19U, 24U}) {
        for (std::uint64_t n = 0; n < 4; ++n) {
            // Cut behind a smaller one, as arenas do.
            std::byte* head = view.head(layout.rings + 4096 + (n << s), s);
            heads.insert(head);
            CHECK(head == view.head(layout.rings + 4096, s) + n * RingView::head_bytes);
            CHECK(head + RingView::head_bytes <= view.base() + layout.rings);
        }
    }
    CHECK(heads.size() == 12);
}
