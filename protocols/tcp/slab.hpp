// Objects of one type of one domain, taken in chunks and never given back while the domain lives, so that in the steady
// state nothing allocates. Bounded. Owner: the domain's CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace protocols::tcp {

template <typename T>
class Slab {
public:
    explicit Slab(std::size_t limit) : limit_(limit) {}
    Slab(const Slab&) = delete;
    Slab& operator=(const Slab&) = delete;

    // Null when `limit` objects are in use.
    template <typename... Args>
    T* make(Args&&... args)
    {
        if (in_use_ == limit_) {
            return nullptr;
        }
        if (free_ == nullptr) {
            add_chunk();
        }
        Cell* c = free_;
        free_ = c->next;
        ++in_use_;
        return ::new (static_cast<void*>(c)) T(std::forward<Args>(args)...);
    }
    void destroy(T& t)
    {
        t.~T();
        auto* c = ::new (static_cast<void*>(&t)) Cell;
        c->next = free_;
        free_ = c;
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

    void add_chunk()
    {
        chunks_.push_back(std::make_unique<Cell[]>(chunk_objects));
        for (std::size_t i = 0; i < chunk_objects; ++i) {
            chunks_.back()[i].next = free_;
            free_ = &chunks_.back()[i];
        }
    }

    std::vector<std::unique_ptr<Cell[]>> chunks_;
    Cell* free_ = nullptr;
    std::size_t in_use_ = 0;
    std::size_t limit_;
};

} // namespace protocols::tcp
