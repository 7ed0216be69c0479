// Memory of socket records: what is kept, and how much of it.
#include <catch2/catch.hpp>

#include <memory>
#include <vector>

#include "gateway/record_memory.hpp"

using gateway::RecordMemory;
using gateway::SocketRecord;

TEST_CASE("the memory of a record that ended is that of the next one, which is as new")
{
    RecordMemory memory;
    SocketRecord* first = memory.make();
    REQUIRE(first != nullptr);
    first->slot = 7;
    first->closing = true;
    first->accept_lanes = std::make_unique<gateway::AcceptLane[]>(2); // ends with it
    memory.end(*first);
    SocketRecord* second = memory.make();
    CHECK(static_cast<void*>(second) == static_cast<void*>(first));
    CHECK(second->slot == 0);
    CHECK_FALSE(second->closing);
    CHECK(second->accept_lanes == nullptr);
    memory.end(*second);
}

TEST_CASE("records that end on another CPU than the one that made them, and more than are kept")
{
    RecordMemory made;
    RecordMemory ended;
    std::vector<SocketRecord*> records;
    for (unsigned i = 0; i < RecordMemory::kept_max + 10; ++i) {
        records.push_back(made.make());
        records.back()->slot = i;
    }
    for (unsigned i = 0; i < records.size(); ++i) {
        CHECK(records[i]->slot == i);
        ended.end(*records[i]);
    }
    CHECK(ended.kept() == RecordMemory::kept_max);
    CHECK(made.kept() == 0);
}
