// A machine with store buffers, as x86 has them, on which small programs run in every interleaving: for models of the
// protocols between threads that share words. A model states what holds when nobody can go on; a wrong order of its
// steps must be found to break it.
#pragma once

#include <catch2/catch.hpp>

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace explorer {

inline constexpr unsigned vars = 8;
inline constexpr unsigned registers = 6;
inline constexpr unsigned threads_max = 3;
inline constexpr unsigned buffer_max = 3;

struct Op {
    enum Kind : std::uint8_t {
        store,
        load,
        exchange,
        add,
        fence,
        jump_eq,
        jump_ne,
        jump_ne_reg,
        jump,
        inc,
        store_reg,
        wait,
        halt
    };
    Kind kind;
    std::uint8_t a = 0; // variable, or register of a jump
    std::uint8_t b = 0; // value, register, or second operand of a jump
    std::uint8_t target = 0;
};
using Program = std::vector<Op>;

// Programs are written with these.
inline Op store(std::uint8_t var, std::uint8_t value)
{
    return {Op::store, var, value};
}
inline Op store_reg(std::uint8_t var, std::uint8_t reg)
{
    return {Op::store_reg, var, reg};
}
inline Op load(std::uint8_t reg, std::uint8_t var)
{
    return {Op::load, var, reg};
}
inline Op clear(std::uint8_t reg, std::uint8_t var)
{
    return {Op::exchange, var, reg};
} // reg = exchange(var, 0)
inline Op add(std::uint8_t var)
{
    return {Op::add, var};
}
inline Op fence()
{
    return {Op::fence};
}
inline Op jump_eq(std::uint8_t reg, std::uint8_t value, std::uint8_t to)
{
    return {Op::jump_eq, reg, value, to};
}
inline Op jump_ne(std::uint8_t reg, std::uint8_t value, std::uint8_t to)
{
    return {Op::jump_ne, reg, value, to};
}
inline Op jump_ne_reg(std::uint8_t reg, std::uint8_t other, std::uint8_t to)
{
    return {Op::jump_ne_reg, reg, other, to};
}
inline Op jump(std::uint8_t to)
{
    return {Op::jump, 0, 0, to};
}
inline Op inc(std::uint8_t reg)
{
    return {Op::inc, reg};
}
inline Op wait(std::uint8_t var)
{
    return {Op::wait, var};
} // blocks until var > 0, then sets it to 0, as an eventfd does
inline Op halt()
{
    return {Op::halt};
}

struct Thread {
    std::uint8_t pc = 0;
    std::array<std::uint8_t, registers> reg{};
    std::array<std::uint8_t, buffer_max> buffered_var{};
    std::array<std::uint8_t, buffer_max> buffered_value{};
    std::uint8_t buffered = 0;
    bool operator==(const Thread&) const = default;
};
struct State {
    std::array<std::uint8_t, vars> memory{};
    std::array<Thread, threads_max> thread{};
    bool operator==(const State&) const = default;
};
static_assert(std::has_unique_object_representations_v<State>); // hashed as bytes
struct HashState {
    std::size_t operator()(const State& s) const
    {
        return std::hash<std::string_view>{}({reinterpret_cast<const char*>(&s), sizeof s});
    }
};

class Explorer {
public:
    explicit Explorer(std::vector<Program> programs) : programs_(std::move(programs)) {}

    // True when a final state is reached in which `delivered` does not hold.
    template <typename Delivered>
    bool loses(Delivered delivered)
    {
        std::vector<State> open{State{}};
        seen_.insert(State{});
        std::size_t finals = 0;
        while (!open.empty()) {
            State s = open.back();
            open.pop_back();
            bool moved = false;
            for (unsigned t = 0; t < programs_.size(); ++t) {
                State next = s;
                if (flush(next, t)) {
                    visit(next, open);
                    moved = true;
                }
                next = s;
                if (step(next, t)) {
                    visit(next, open);
                    moved = true;
                }
            }
            if (!moved && !delivered(s)) {
                return true;
            }
            finals += moved ? 0 : 1;
        }
        REQUIRE(finals > 0);
        return false;
    }

private:
    void visit(const State& s, std::vector<State>& open)
    {
        if (seen_.insert(s).second) {
            open.push_back(s);
        }
    }
    // The oldest buffered store reaches memory.
    static bool flush(State& s, unsigned t)
    {
        Thread& th = s.thread[t];
        if (th.buffered == 0) {
            return false;
        }
        s.memory[th.buffered_var[0]] = th.buffered_value[0];
        for (unsigned i = 1; i < buffer_max; ++i) {
            th.buffered_var[i - 1] = th.buffered_var[i];
            th.buffered_value[i - 1] = th.buffered_value[i];
        }
        th.buffered_var[buffer_max - 1] = th.buffered_value[buffer_max - 1] = 0;
        --th.buffered;
        return true;
    }
    static std::uint8_t read(const State& s, unsigned t, std::uint8_t var)
    {
        const Thread& th = s.thread[t];
        for (unsigned i = th.buffered; i-- > 0;) {
            if (th.buffered_var[i] == var) {
                return th.buffered_value[i];
            }
        }
        return s.memory[var];
    }
    bool step(State& s, unsigned t) const
    {
        Thread& th = s.thread[t];
        const Op& op = programs_[t][th.pc];
        bool locked = op.kind == Op::exchange || op.kind == Op::add || op.kind == Op::fence || op.kind == Op::wait;
        if (op.kind == Op::halt || (locked && th.buffered != 0)) {
            return false;
        }
        std::uint8_t pc = th.pc;
        th.pc = static_cast<std::uint8_t>(pc + 1);
        switch (op.kind) {
        case Op::store:
        case Op::store_reg:
            if (th.buffered == buffer_max) {
                return false;
            }
            th.buffered_var[th.buffered] = op.a;
            th.buffered_value[th.buffered] = op.kind == Op::store ? op.b : th.reg[op.b];
            ++th.buffered;
            return true;
        case Op::load:
            th.reg[op.b] = read(s, t, op.a);
            return true;
        case Op::exchange:
            th.reg[op.b] = s.memory[op.a];
            s.memory[op.a] = 0;
            return true;
        case Op::add:
            s.memory[op.a] = 1; // an event counter: only zero or not matters
            return true;
        case Op::jump_eq:
            th.pc = th.reg[op.a] == op.b ? op.target : th.pc;
            return true;
        case Op::jump_ne:
            th.pc = th.reg[op.a] != op.b ? op.target : th.pc;
            return true;
        case Op::jump_ne_reg:
            th.pc = th.reg[op.a] != th.reg[op.b] ? op.target : th.pc;
            return true;
        case Op::jump:
            th.pc = op.target;
            return true;
        case Op::inc:
            ++th.reg[op.a];
            return true;
        case Op::wait:
            if (s.memory[op.a] == 0) {
                th.pc = pc;
                return false;
            }
            s.memory[op.a] = 0;
            return true;
        case Op::fence:
            return true;
        case Op::halt:
            break;
        }
        return false;
    }

    std::vector<Program> programs_;
    std::unordered_set<State, HashState> seen_;
};

} // namespace explorer
