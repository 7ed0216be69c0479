// See flow_table.hpp.
#include "protocols/tcp/flow_table.hpp"

#include <utility>

#include "base/check.hpp"

namespace protocols::tcp {

namespace {

constexpr std::size_t lines_at_start = 64;
constexpr std::size_t nodes_per_line = 4; // on average, when the table grows
constexpr std::size_t lines_moved_at_once = 2;
static_assert(sizeof(base::FourTuple) == 36, "hashed as bytes: no padding");

// The line is chosen by the low bits, the tag is made of the high ones.
std::uint8_t tag_of(std::uint64_t hash)
{
    auto tag = static_cast<std::uint8_t>(hash >> 56);
    return tag == 0 ? 1 : tag;
}

} // namespace

FlowLines::Lines::Lines(std::size_t n) : memory_(n * sizeof(Line)), size_(n)
{
    INVARIANT(memory_.get() != nullptr); // as operator new would
}

FlowLines::FlowLines() : now_(lines_at_start)
{
}

FlowTable::FlowTable(base::SipKey key) : key_(key), port_uses_(65536), recent_(recent_places)
{
}

std::uint64_t FlowTable::hash_of(const base::FourTuple& flow) const
{
    if (flow.local.addr.is_v4() && flow.peer.addr.is_v4()) {
        std::uint64_t addresses = std::uint64_t{flow.local.addr.v4()} << 32 | flow.peer.addr.v4();
        std::uint64_t ports = std::uint64_t{flow.local.port} << 16 | flow.peer.port;
        return base::siphash13(key_, addresses, ports);
    }
    return base::siphash(key_, &flow, sizeof flow);
}

const FlowLines::Line& FlowLines::line_of(std::uint64_t hash) const
{
    if (!before_.empty()) {
        std::size_t old = hash & (before_.size() - 1);
        if (old >= moved_) {
            return before_[old];
        }
    }
    return now_[hash & (now_.size() - 1)];
}

FlowNode* FlowLines::find(std::uint64_t hash, const base::FourTuple& flow) const
{
    const Line& line = line_of(hash);
    std::uint8_t tag = tag_of(hash);
    for (unsigned i = 0; i < places; ++i) {
        if (line.tags[i] == tag && line.nodes[i]->hash == hash && line.nodes[i]->flow == flow) {
            return line.nodes[i];
        }
    }
    if (line.full) {
        for (FlowNode* n = line.nodes[places - 1]->table_next; n != nullptr; n = n->table_next) {
            if (n->hash == hash && n->flow == flow) {
                return n;
            }
        }
    }
    return nullptr;
}

void FlowLines::put(Line& line, FlowNode& n)
{
    n.table_next = nullptr;
    for (unsigned i = 0; i < places; ++i) {
        if (line.tags[i] == 0) {
            line.tags[i] = tag_of(n.hash);
            line.nodes[i] = &n;
            return;
        }
    }
    n.table_next = std::exchange(line.nodes[places - 1]->table_next, &n);
    line.full = true;
}

// What hangs on the last place moves up. False when the node is not there.
bool FlowLines::take(Line& line, FlowNode& n)
{
    FlowNode*& hanging = line.nodes[places - 1];
    for (unsigned i = 0; i < places; ++i) {
        if (line.tags[i] == 0 || line.nodes[i] != &n) {
            continue;
        }
        if (!line.full) {
            line.tags[i] = 0;
            line.nodes[i] = nullptr;
            return true;
        }
        FlowNode* up = hanging->table_next;
        FlowNode* rest = up->table_next;
        line.tags[i] = tag_of(up->hash);
        line.nodes[i] = up;
        up->table_next = nullptr;
        hanging->table_next = rest;
        line.full = rest != nullptr;
        n.table_next = nullptr;
        return true;
    }
    if (!line.full) {
        return false;
    }
    for (FlowNode** at = &hanging->table_next; *at != nullptr; at = &(*at)->table_next) {
        if (*at == &n) {
            *at = std::exchange(n.table_next, nullptr);
            line.full = hanging->table_next != nullptr;
            return true;
        }
    }
    return false;
}

void FlowLines::insert(FlowNode& n)
{
    if (before_.empty() && size_ >= now_.size() * nodes_per_line) {
        before_ = std::exchange(now_, Lines(now_.size() * 2));
        moved_ = 0;
    }
    move_some();
    put(line_of(n.hash), n);
    ++size_;
}

void FlowLines::remove(FlowNode& n)
{
    INVARIANT(take(line_of(n.hash), n));
    --size_;
    move_some();
}

void FlowLines::move_lines()
{
    for (std::size_t i = 0; i < lines_moved_at_once && !before_.empty(); ++i) {
        Line line = std::exchange(before_[moved_++], Line{});
        for (FlowNode* n : line.nodes) {
            while (n != nullptr) {
                FlowNode* next = n->table_next; // of the last place only
                put(now_[n->hash & (now_.size() - 1)], *n);
                n = next;
            }
        }
        if (moved_ == before_.size()) {
            before_ = Lines();
        }
    }
}

FlowNode* FlowTable::find(const base::FourTuple& flow, std::uint64_t hash) const
{
    FlowNode* n = active_.find(hash, flow);
    bool may_rest = n == nullptr && port_uses_[flow.local.port] != 0; // an ephemeral port that is drawn: hardly ever
    return may_rest ? resting_.find(hash, flow) : n;
}

void FlowTable::insert(FlowNode& n)
{
    if (n.hash == 0) {
        n.hash = hash_of(n.flow);
    }
    lines_for(n.kind).insert(n);
    port_uses_[n.flow.local.port] += n.kind != NodeKind::syn;
}

void FlowTable::remember(FlowNode& n, std::uint32_t steering_hash)
{
    forget(n);
    n.recent_place = static_cast<std::uint16_t>(steering_hash % recent_places);
    recent_[n.recent_place] = &n;
}

void FlowTable::remove(FlowNode& n)
{
    forget(n);
    lines_for(n.kind).remove(n);
    port_uses_[n.flow.local.port] -= n.kind != NodeKind::syn;
}

} // namespace protocols::tcp
