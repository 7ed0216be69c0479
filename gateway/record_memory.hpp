// Memory of socket records: that of the last ones that ended is kept for the next ones, since connections come and go
// by the dozen and malloc itself keeps seven of a size at hand. Owner: one CPU; a record may end on another than the
// one that made it.
//
// Invariants: all records come from here; at most kept_max places are kept, and nothing else of a record that ended.
#pragma once

#include <cstddef>
#include <new>

#include "base/poison.hpp"
#include "gateway/client_record.hpp"

namespace gateway {

class RecordMemory {
public:
    static constexpr unsigned kept_max = 256;

    RecordMemory() = default;
    ~RecordMemory()
    {
        while (first_ != nullptr) {
            delete pop();
        }
    }
    RecordMemory(const RecordMemory&) = delete;
    RecordMemory& operator=(const RecordMemory&) = delete;

    // Null: no memory.
    SocketRecord* make()
    {
        Place* p = first_ != nullptr ? pop() : new (std::nothrow) Place;
        return p != nullptr ? new (static_cast<void*>(p)) SocketRecord : nullptr;
    }
    void end(SocketRecord& rec)
    {
        rec.~SocketRecord();
        auto* p = new (static_cast<void*>(&rec)) Place;
        if (kept_ == kept_max) {
            delete p;
            return;
        }
        p->next = first_;
        first_ = p;
        ++kept_;
        base::poison(p->before, sizeof p->before);
    }

    unsigned kept() const { return kept_; }

private:
    // Of those that are kept. The link lies at the end, since a stale reference reads the beginning first.
    struct alignas(SocketRecord) Place {
        std::byte before[sizeof(SocketRecord) - sizeof(Place*)];
        Place* next;
    };
    static_assert(sizeof(Place) == sizeof(SocketRecord));

    Place* pop()
    {
        Place* p = first_;
        first_ = p->next;
        --kept_;
        base::unpoison(p->before, sizeof p->before);
        return p;
    }

    Place* first_ = nullptr; // o
    unsigned kept_ = 0;      // o
};

} // namespace gateway
