// Zeroed blocks and the arena that is made of them.
#include "base/page_memory.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/poison.hpp"

namespace {

bool all_zero(const void* memory, std::size_t bytes)
{
    const auto* p = static_cast<const unsigned char*>(memory);
    return std::all_of(p, p + bytes, [](unsigned char c) { return c == 0; });
}

} // namespace

TEST_CASE("a block of any size is zeroed memory of its own")
{
    for (std::size_t bytes : {std::size_t{1}, std::size_t{4096}, std::size_t{200'000}, base::huge_page_bytes,
             3 * base::huge_page_bytes / 2}) {
        base::PageBlock a(bytes);
        base::PageBlock b(bytes);
        b.populate();
        REQUIRE(a.get() != nullptr);
        REQUIRE(b.get() != nullptr);
        CHECK(reinterpret_cast<std::uintptr_t>(a.get()) % 64 == 0);
        CHECK(all_zero(a.get(), bytes));
        std::memset(a.get(), 0xff, bytes);
        CHECK(all_zero(b.get(), bytes));
    }
}

TEST_CASE("a block that moves keeps its memory")
{
    base::PageBlock a(base::huge_page_bytes);
    void* memory = a.get();
    base::PageBlock b(std::move(a));
    CHECK(b.get() == memory);
    base::PageBlock c(100);
    c = std::move(b);
    CHECK(c.get() == memory);
    std::memset(memory, 1, base::huge_page_bytes);
}

TEST_CASE("an arena's pieces are aligned, zeroed and apart")
{
    base::PageArena arena;
    struct Piece {
        unsigned char* at;
        std::size_t bytes;
    };
    std::vector<Piece> pieces;
    std::size_t total = 0;
    for (unsigned i = 0; total < 5 * base::huge_page_bytes; ++i) {
        std::size_t alignment = std::size_t{8} << (i % 5);
        std::size_t bytes = i == 40 ? 2 * base::huge_page_bytes : 8 + i * 31 % 60'000;
        auto* at = static_cast<unsigned char*>(arena.take(bytes, alignment));
        REQUIRE(at != nullptr);
        CHECK(reinterpret_cast<std::uintptr_t>(at) % alignment == 0);
        CHECK(all_zero(at, bytes));
        std::memset(at, static_cast<int>(1 + i % 255), bytes);
        pieces.push_back({at, bytes});
        total += bytes;
    }
    std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.at < b.at; });
    for (std::size_t i = 1; i < pieces.size(); ++i) {
        CHECK(pieces[i - 1].at + pieces[i - 1].bytes <= pieces[i].at);
    }
}

TEST_CASE("memory that there is not is no memory")
{
    if (base::poisons) {
        return; // AddressSanitizer ends the process instead
    }
    base::PageBlock block(std::size_t{1} << 60);
    CHECK(block.get() == nullptr);
    base::PageArena arena;
    CHECK(arena.take(std::size_t{1} << 60, 64) == nullptr);
    CHECK(arena.take(64, 64) != nullptr);
}
