// Everything of one domain that a 4-tuple can name: connections, asleep or not, SYN cache entries and TIME-WAIT
// records, in two keyed tables, what packets are expected for and what rests. A line of a table is one cache line: tags
// and pointers of up to seven nodes, of which only those with the right tag are looked at; what comes on top hangs on
// the last one. Intrusive; grows by doubling and moves a few lines per insertion or removal, so no operation is
// long. Never iterated where order is visible. In front of both, what packets came for lately is found by their
// steering hash, which is known: whoever makes hashes collide is back at the keyed tables. Owner: its domain's CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/net_addr.hpp"
#include "base/page_memory.hpp"
#include "base/siphash.hpp"

namespace protocols::tcp {

// joined: a Tcb whose connection exchanges no segments (tcp_joined.cpp).
enum class NodeKind : std::uint8_t { tcb, syn, time_wait, idle, joined };

struct FlowNode {
    FlowNode(NodeKind k, const base::FourTuple& f) : kind(k), flow(f) {}
    FlowNode(const FlowNode&) = delete;
    FlowNode& operator=(const FlowNode&) = delete;

    FlowNode* table_next = nullptr; // o: the next of a full line
    std::uint64_t hash = 0;         // o: of `flow`; 0 = not computed yet
    NodeKind kind;                  // c
    base::FourTuple flow;           // c
    std::uint16_t recent_place = 0; // o: where FlowTable remembers it, if it does
};

// Lines of nodes by hash; what FlowTable is made of.
class FlowLines {
public:
    FlowLines();

    FlowNode* find(std::uint64_t hash, const base::FourTuple& flow) const;
    void fetch(std::uint64_t hash) const { __builtin_prefetch(&line_of(hash), 1); }
    void insert(FlowNode& n); // its hash is set
    void remove(FlowNode& n); // must be there
    std::size_t size() const { return size_; }

private:
    static constexpr unsigned places = 7;
    struct alignas(64) Line {
        std::uint8_t tags[places] = {}; // 0 = no node
        bool full = false;              // nodes hang on the last place
        FlowNode* nodes[places] = {};
    };
    static_assert(sizeof(Line) == 64);
    // Zeroed lines. Memory comes as pages of zeros that are touched when used, so that doubling is no long operation.
    class Lines {
    public:
        Lines() = default;
        explicit Lines(std::size_t n);
        std::size_t size() const { return size_; }
        bool empty() const { return size_ == 0; }
        Line& operator[](std::size_t i) { return static_cast<Line*>(memory_.get())[i]; }
        const Line& operator[](std::size_t i) const { return static_cast<const Line*>(memory_.get())[i]; }

    private:
        base::PageBlock memory_;
        std::size_t size_ = 0;
    };

    static void put(Line& line, FlowNode& n);
    static bool take(Line& line, FlowNode& n);
    const Line& line_of(std::uint64_t hash) const;
    Line& line_of(std::uint64_t hash) { return const_cast<Line&>(std::as_const(*this).line_of(hash)); }
    void move_some()
    {
        if (!before_.empty()) {
            move_lines();
        }
    }
    void move_lines();

    Lines now_;             // o
    Lines before_;          // o: the smaller table while its lines move over
    std::size_t moved_ = 0; // o: lines of before_ already moved
    std::size_t size_ = 0;  // o
};

class FlowTable {
public:
    explicit FlowTable(base::SipKey key);

    std::uint64_t hash_of(const base::FourTuple& flow) const;
    FlowNode* find(const base::FourTuple& flow) const { return find(flow, hash_of(flow)); }
    FlowNode* find(const base::FourTuple& flow, std::uint64_t hash) const;
    // What packets of this flow came for lately, by their steering hash; null says nothing.
    FlowNode* recent(const base::FourTuple& flow, std::uint32_t steering_hash) const
    {
        FlowNode* n = recent_[steering_hash % recent_places];
        return n != nullptr && n->flow == flow ? n : nullptr;
    }
    void remember(FlowNode& n, std::uint32_t steering_hash); // n is in the table
    // One that rests, with this hash, is inserted or removed soon.
    void fetch_resting(std::uint64_t hash) const { resting_.fetch(hash); }
    void insert(FlowNode& n); // its flow must not be there
    void remove(FlowNode& n); // must be there
    std::size_t size() const { return active_.size() + resting_.size(); }
    // Connections and TIME-WAIT records whose local port this is: what a bind without SO_REUSEADDR conflicts with.
    std::uint32_t uses_of_port(std::uint16_t local_port) const { return port_uses_[local_port]; }

private:
    static constexpr unsigned recent_places = 4096;

    void forget(const FlowNode& n)
    {
        if (recent_[n.recent_place] == &n) {
            recent_[n.recent_place] = nullptr;
        }
    }
    FlowLines& lines_for(NodeKind kind) { return kind == NodeKind::tcb || kind == NodeKind::syn ? active_ : resting_; }

    base::SipKey key_;                     // c
    FlowLines active_;                     // o: what packets are expected for
    FlowLines resting_;                    // o: by the million, and few packets: looked at second, so that it does not
                                           //    push the lines of the active out of the cache
    std::vector<std::uint32_t> port_uses_; // o: by local port
    std::vector<FlowNode*> recent_;        // o: all of them in one of the two above
};

} // namespace protocols::tcp
