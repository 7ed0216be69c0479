// The planted bugs by name (base/plant.hpp), and the proof that the simulator finds each of them.
#pragma once

#include <cstdint>
#include <string>

namespace sim {

struct PlantTest {
    std::uint64_t seed = 1; // the first
    std::uint64_t seeds = 1;
    std::uint64_t steps = 1;
    unsigned part = 0; // of `parts`, which divide the plants
    unsigned parts = 1;
};

// False: there is no such plant, or this program's stack is the ordinary one.
bool switch_on(const std::string& plant);
void list_plants();
// Runs `run_seed` in a child for every plant until a seed fails; how many plants were not found.
int find_plants(const PlantTest& test, void (*run_seed)(std::uint64_t seed, std::uint64_t steps));

} // namespace sim
