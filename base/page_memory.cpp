// See page_memory.hpp.
#include "base/page_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/poison.hpp"

namespace base {

namespace {

constexpr std::size_t cache_line = 64;
constexpr std::size_t page = 4096;

// A sanitizer knows what lies in its own heap.
constexpr std::size_t mapped_from = poisons ? SIZE_MAX : std::size_t{128} * 1024;

std::size_t round_up(std::size_t n, std::size_t to)
{
    return (n + to - 1) / to * to;
}

void* from_heap(std::size_t bytes)
{
    void* memory = std::aligned_alloc(cache_line, round_up(bytes, cache_line));
    return memory != nullptr ? std::memset(memory, 0, bytes) : nullptr;
}

void* map(std::size_t bytes)
{
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? nullptr : memory;
}

// `bytes` are whole huge pages. What lies before and behind the aligned range goes back at once.
void* map_huge(std::size_t bytes)
{
    auto* all = static_cast<std::byte*>(map(bytes + huge_page_bytes));
    if (all == nullptr) {
        return nullptr;
    }
    std::size_t before = (huge_page_bytes - reinterpret_cast<std::uintptr_t>(all) % huge_page_bytes) % huge_page_bytes;
    if (before != 0) {
        munmap(all, before);
    }
    munmap(all + before + bytes, huge_page_bytes - before);
    madvise(all + before, bytes, MADV_HUGEPAGE); // what fails costs speed only
    return all + before;
}

} // namespace

PageBlock::PageBlock(std::size_t bytes)
{
    if (bytes < mapped_from) {
        memory_ = from_heap(bytes);
        return;
    }
    bool huge = bytes > huge_page_bytes / 2; // what is left of the last page is the price
    std::size_t whole = round_up(bytes, huge ? huge_page_bytes : page);
    memory_ = huge ? map_huge(whole) : map(whole);
    mapped_ = memory_ != nullptr ? whole : 0;
}

PageBlock::~PageBlock()
{
    if (mapped_ != 0) {
        munmap(memory_, mapped_);
    } else {
        std::free(memory_);
    }
}

void PageBlock::populate()
{
    if (mapped_ != 0) {
        madvise(memory_, mapped_, MADV_POPULATE_WRITE); // Linux 5.14; else they come when they are touched
    }
}

void* PageArena::take(std::size_t bytes, std::size_t alignment)
{
    void* at = next_;
    if (next_ == nullptr || std::align(alignment, bytes, at, left_) == nullptr) {
        std::size_t size = std::max(block_bytes_, bytes + alignment);
        PageBlock block(size);
        if (block.get() == nullptr) {
            return nullptr;
        }
        block_bytes_ = std::min(block_bytes_ * 4, huge_page_bytes);
        at = block.get();
        left_ = size;
        blocks_.push_back(std::move(block));
        std::align(alignment, bytes, at, left_);
    }
    next_ = static_cast<std::byte*>(at) + bytes;
    left_ -= bytes;
    return at;
}

} // namespace base
