// Zeroed memory for what is many and touched at random: connections, records, tables. Large blocks are aligned to 2 MiB
// and asked to be huge pages (transparent ones, madvise(2)), so that thousands of connections are a few dozen TLB
// entries; where the kernel gives none they are ordinary memory. Not thread safe. Owner: that of the object.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace base {

inline constexpr std::size_t huge_page_bytes = std::size_t{2} * 1024 * 1024;

// Memory of its own, aligned to a cache line at least. Pages come when they are touched.
class PageBlock {
public:
    PageBlock() = default;
    explicit PageBlock(std::size_t bytes); // get() is null: there is no memory
    ~PageBlock();
    PageBlock(PageBlock&& other) noexcept { *this = std::move(other); }
    PageBlock& operator=(PageBlock&& other) noexcept
    {
        std::swap(memory_, other.memory_);
        std::swap(mapped_, other.mapped_);
        return *this;
    }

    void* get() const { return memory_; }
    void populate(); // its pages come now

private:
    void* memory_ = nullptr;
    std::size_t mapped_ = 0; // bytes; 0: of the heap
};

// Pieces of memory that live as long as the arena. Its first blocks are small: few connections cost little.
class PageArena {
public:
    PageArena() = default;
    PageArena(const PageArena&) = delete;
    PageArena& operator=(const PageArena&) = delete;

    void* take(std::size_t bytes, std::size_t alignment); // null: there is no memory

private:
    static constexpr std::size_t first_block = 32768; // each further one is 4 times as large, up to a huge page

    std::vector<PageBlock> blocks_;
    std::byte* next_ = nullptr;
    std::size_t left_ = 0;
    std::size_t block_bytes_ = first_block;
};

} // namespace base
