// Objects of one type of one domain, taken in chunks of the domain's arena and never given back while the domain lives,
// so that in the steady state nothing allocates. Bounded. Owner: the domain's CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#include "base/page_memory.hpp"
#include "base/poison.hpp"

namespace protocols::tcp {

template <typename T>
class Slab {
public:
    Slab(base::PageArena& arena, std::size_t limit) : arena_(arena), limit_(limit) {}
    Slab(const Slab&) = delete;
    Slab& operator=(const Slab&) = delete;

    // Null when `limit` objects are in use or there is no memory.
    template <typename... Args>
    T* make(Args&&... args)
    {
        if (in_use_ == limit_ || (free_ == nullptr && !add_chunk())) {
            return nullptr;
        }
        Cell* c = free_;
        free_ = c->next;
        ++in_use_;
        base::unpoison(c, sizeof *c);
        return ::new (static_cast<void*>(c)) T(std::forward<Args>(args)...);
    }
    void destroy(T& t)
    {
        t.~T();
        put_back(&t);
        --in_use_;
    }
    std::size_t in_use() const { return in_use_; }

private:
    static constexpr std::size_t chunk_objects = 32;
    union Cell {
        Cell() {}
        Cell* next = nullptr;
        alignas(T) std::byte memory[sizeof(T)];
    };

    void put_back(void* memory)
    {
        Cell* c = ::new (memory) Cell;
        c->next = free_;
        free_ = c;
        base::poison(&c->next + 1, sizeof *c - sizeof c->next);
    }
    bool add_chunk()
    {
        auto* cells = static_cast<Cell*>(arena_.take(chunk_objects * sizeof(Cell), alignof(Cell)));
        if (cells == nullptr) {
            return false;
        }
        for (std::size_t i = 0; i < chunk_objects; ++i) {
            put_back(cells + i);
        }
        return true;
    }

    base::PageArena& arena_;
    Cell* free_ = nullptr;
    std::size_t in_use_ = 0;
    std::size_t limit_;
};

} // namespace protocols::tcp
