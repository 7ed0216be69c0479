// See flow_table.hpp.
#include "protocols/tcp/flow_table.hpp"

#include <utility>

#include "base/check.hpp"

namespace protocols::tcp {

namespace {
constexpr std::size_t buckets_at_start = 256;
constexpr std::size_t buckets_moved_at_once = 8;
static_assert(sizeof(base::FourTuple) == 36, "hashed as bytes: no padding");
} // namespace

FlowTable::FlowTable(base::SipKey key) : key_(key), now_(buckets_at_start, nullptr), port_uses_(65536)
{
}

std::uint64_t FlowTable::hash_of(const base::FourTuple& flow) const
{
    return base::siphash(key_, &flow, sizeof flow);
}

FlowNode* const& FlowTable::head(std::uint64_t hash) const
{
    if (!before_.empty()) {
        std::size_t old = hash & (before_.size() - 1);
        if (old >= moved_) {
            return before_[old];
        }
    }
    return now_[hash & (now_.size() - 1)];
}

FlowNode* FlowTable::find(const base::FourTuple& flow) const
{
    std::uint64_t hash = hash_of(flow);
    for (FlowNode* n = head(hash); n != nullptr; n = n->table_next) {
        if (n->hash == hash && n->flow == flow) {
            return n;
        }
    }
    return nullptr;
}

void FlowTable::insert(FlowNode& n)
{
    if (before_.empty() && size_ >= now_.size()) {
        before_ = std::exchange(now_, Buckets(now_.size() * 2, nullptr));
        moved_ = 0;
    }
    move_some();
    n.hash = hash_of(n.flow);
    FlowNode*& first = head(n.hash);
    n.table_next = first;
    first = &n;
    ++size_;
    port_uses_[n.flow.local.port] += n.kind != NodeKind::syn;
}

void FlowTable::remove(FlowNode& n)
{
    FlowNode** at = &head(n.hash);
    while (*at != &n) {
        INVARIANT(*at != nullptr);
        at = &(*at)->table_next;
    }
    *at = n.table_next;
    n.table_next = nullptr;
    --size_;
    port_uses_[n.flow.local.port] -= n.kind != NodeKind::syn;
    move_some();
}

void FlowTable::move_some()
{
    for (std::size_t i = 0; i < buckets_moved_at_once && !before_.empty(); ++i) {
        FlowNode* n = std::exchange(before_[moved_++], nullptr);
        while (n != nullptr) {
            FlowNode* next = n->table_next;
            FlowNode*& first = now_[n->hash & (now_.size() - 1)];
            n->table_next = first;
            first = n;
            n = next;
        }
        if (moved_ == before_.size()) {
            Buckets().swap(before_);
        }
    }
}

} // namespace protocols::tcp
