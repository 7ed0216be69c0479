// Everything of one domain that a 4-tuple can name: connections, SYN cache entries and TIME-WAIT records share one
// keyed table, so a segment costs one lookup. Intrusive; grows by doubling and moves a few buckets per insertion or
// removal, so no operation is long (rule 13). Never iterated where order is visible. Owner: its domain's CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/net_addr.hpp"
#include "base/siphash.hpp"

namespace protocols::tcp {

enum class NodeKind : std::uint8_t { tcb, syn, time_wait };

struct FlowNode {
    FlowNode(NodeKind k, const base::FourTuple& f) : kind(k), flow(f) {}
    FlowNode(const FlowNode&) = delete;
    FlowNode& operator=(const FlowNode&) = delete;

    FlowNode* table_next = nullptr; // o: while in the table
    std::uint64_t hash = 0;         // o
    NodeKind kind;                  // c
    base::FourTuple flow;           // c
};

class FlowTable {
public:
    explicit FlowTable(base::SipKey key);

    std::uint64_t hash_of(const base::FourTuple& flow) const;
    FlowNode* find(const base::FourTuple& flow) const;
    void insert(FlowNode& n); // its flow must not be there
    void remove(FlowNode& n); // must be there
    std::size_t size() const { return size_; }
    // Connections and TIME-WAIT records whose local port this is: what a bind without SO_REUSEADDR conflicts with.
    std::uint32_t uses_of_port(std::uint16_t local_port) const { return port_uses_[local_port]; }

private:
    using Buckets = std::vector<FlowNode*>;
    FlowNode* const& head(std::uint64_t hash) const;
    FlowNode*& head(std::uint64_t hash) { return const_cast<FlowNode*&>(std::as_const(*this).head(hash)); }
    void move_some();

    base::SipKey key_;                     // c
    Buckets now_;                          // o
    Buckets before_;                       // o: the smaller table while its buckets move over
    std::size_t moved_ = 0;                // o: buckets of before_ already moved
    std::size_t size_ = 0;                 // o
    std::vector<std::uint32_t> port_uses_; // o: by local port
};

} // namespace protocols::tcp
