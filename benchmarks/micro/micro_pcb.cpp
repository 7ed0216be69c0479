// The connection table with 1,000 to 10 million connections: found, not found, put in and taken out. The 4-tuples are
// computed from their number, so that only the table and its nodes are read.
#include <memory>
#include <new>

#include "benchmarks/micro/micro.hpp"
#include "protocols/tcp/flow_table.hpp"

namespace micro {
namespace {

using protocols::tcp::FlowNode;
using protocols::tcp::FlowTable;
using protocols::tcp::NodeKind;

// Peers as a server has them: many addresses, a port each.
base::FourTuple flow_of(std::uint64_t i)
{
    base::FourTuple flow;
    flow.local = {base::IpAddr::v4(0x0a000001), 80};
    flow.peer = {base::IpAddr::v4(static_cast<std::uint32_t>(0x0b000000 + i / 50'000)),
        static_cast<std::uint16_t>(10'000 + i % 50'000)};
    return flow;
}

} // namespace

void pcbs()
{
    for (std::size_t n : sizes()) {
        FlowTable table({1, 2});
        std::allocator<FlowNode> memory;
        FlowNode* nodes = memory.allocate(n);
        for (std::size_t i = 0; i < n; ++i) {
            table.insert(*::new (static_cast<void*>(nodes + i)) FlowNode(NodeKind::tcb, flow_of(i)));
        }
        auto figure = [n](const char* what, const char* why) {
            return Figure{.name = text("micro.pcb.%s.%zu", what, n), .why = why, .of = text("pcb: %s", what), .at = n};
        };
        Figure found = figure("found", "a connection at random");
        Figure absent = figure("absent", "a 4-tuple that is not there");
        Figure change = figure("change", "one connection out and in again");
        std::size_t operations = quick ? 100'000 : 500'000;
        auto each = [operations](auto&& operation) {
            double start = cpu_seconds_now();
            for (std::size_t op = 0; op < operations; ++op) {
                operation(op * 0x9e3779b97f4a7c15ULL >> 20);
            }
            return (cpu_seconds_now() - start) / static_cast<double>(operations) * 1e9;
        };
        for (Rounds r; r.another();) {
            found.values.push_back(each([&](std::uint64_t draw) { use(table.find(flow_of(draw % n))); }));
            absent.values.push_back(each([&](std::uint64_t draw) { use(table.find(flow_of(n + draw % n))); }));
            change.values.push_back(each([&](std::uint64_t draw) {
                FlowNode& node = nodes[draw % n];
                table.remove(node);
                table.insert(node);
            }));
        }
        for (const Figure* f : {&found, &absent, &change}) {
            f->print();
        }
        for (std::size_t i = 0; i < n; ++i) {
            table.remove(nodes[i]);
            nodes[i].~FlowNode();
        }
        memory.deallocate(nodes, n);
    }
}

} // namespace micro
