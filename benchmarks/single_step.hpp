// Runs work in a traced child, instruction by instruction, and tells of every locked instruction (lock prefix, xchg
// with memory) and full fence: address of the operand, and what a thread-local of the child holds meanwhile. x86-64
// Linux; a few microseconds an instruction. For counting what costs cannot show.
#pragma once

#include <cstdint>
#include <functional>

namespace steady {

struct LockedInstruction {
    std::uint64_t operand = 0; // address; 0 for mfence
    std::uint64_t at = 0;      // of the instruction
    std::uint16_t context = 0; // the 16-bit word at `context` below, in the child
};

struct Stepped {
    bool good = false; // work returned true
    std::uint64_t instructions = 0;
};

// `work` runs in the child, `found` in the caller. `context`: an address in this thread, read in the child.
Stepped step_through(const std::function<bool()>& work, const std::uint16_t* context,
    const std::function<void(const LockedInstruction&)>& found);

} // namespace steady
