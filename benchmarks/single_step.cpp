// Decoding and stepping: see single_step.hpp. Compiled and used on x86-64 only.
#include "benchmarks/single_step.hpp"

#include <sched.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#if defined(__x86_64__)

namespace steady {

namespace {

// The memory operand of an instruction as the processor would compute it (Intel SDM 2A, 2.1.3 and 2.2.1): what locked
// instructions use, which is one ModRM byte behind a one or two byte opcode.
struct Decoded {
    bool locked = false;
    bool fence = false;
    std::uint64_t operand = 0;
};

std::uint64_t register_of(const user_regs_struct& r, unsigned n)
{
    const unsigned long long all[16] = {
        r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15};
    return all[n & 15];
}

std::int64_t load_signed(const std::uint8_t* p, unsigned bytes)
{
    std::uint32_t v = 0;
    for (unsigned i = 0; i < bytes; ++i) {
        v |= std::uint32_t{p[i]} << (8 * i);
    }
    return bytes == 1 ? static_cast<std::int8_t>(v) : static_cast<std::int32_t>(v);
}

// `modrm` points at the ModRM byte; `immediate` bytes follow the address (for rip-relative operands).
std::uint64_t operand_at(const std::uint8_t* modrm, std::uint8_t rex, unsigned immediate, const user_regs_struct& r)
{
    unsigned mod = *modrm >> 6;
    unsigned rm = *modrm & 7;
    const std::uint8_t* p = modrm + 1;
    std::uint64_t address = 0;
    unsigned displacement = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    if (rm == 4) {
        std::uint8_t sib = *p++;
        unsigned index = ((sib >> 3) & 7) | ((rex & 2U) << 2);
        unsigned base = (sib & 7) | ((rex & 1U) << 3);
        if (index != 4) {
            address += register_of(r, index) << (sib >> 6);
        }
        if ((sib & 7) == 5 && mod == 0) {
            displacement = 4;
        } else {
            address += register_of(r, base);
        }
    } else if (rm == 5 && mod == 0) {
        return reinterpret_cast<std::uint64_t>(p) + 4 + immediate + static_cast<std::uint64_t>(load_signed(p, 4));
    } else {
        address += register_of(r, rm | ((rex & 1U) << 3));
    }
    return displacement == 0 ? address : address + static_cast<std::uint64_t>(load_signed(p, displacement));
}

Decoded decode(const std::uint8_t* p, const user_regs_struct& r)
{
    Decoded d;
    bool fs = false;
    for (;; ++p) {
        if (*p == 0xf0) {
            d.locked = true;
        } else if (*p == 0x64) {
            fs = true;
        } else if (*p != 0x66 && *p != 0xf2 && *p != 0xf3 && *p != 0x2e && *p != 0x3e) {
            break;
        }
    }
    std::uint8_t rex = (*p & 0xf0) == 0x40 ? *p++ : std::uint8_t{0};
    if (p[0] == 0x0f && p[1] == 0xae && p[2] == 0xf0) {
        d.fence = true;
        return d;
    }
    bool exchange = (p[0] == 0x86 || p[0] == 0x87) && p[1] < 0xc0;
    d.locked = d.locked || exchange;
    if (d.locked) {
        bool two_bytes = p[0] == 0x0f;
        unsigned immediate = 0;
        if (p[0] == 0x83 || p[0] == 0x80 || (two_bytes && p[1] == 0xba)) {
            immediate = 1;
        } else if (p[0] == 0x81) {
            immediate = 4;
        }
        d.operand = operand_at(p + (two_bytes ? 2 : 1), rex, immediate, r) + (fs ? r.fs_base : 0);
    }
    return d;
}

// Parent and child on one CPU while it lasts: each step is two switches between them, and across CPUs each of those
// would be a wake-up of a sleeping one.
class OneCpu {
public:
    OneCpu()
    {
        cpu_set_t here;
        CPU_ZERO(&here);
        int cpu = sched_getcpu();
        good_ = cpu >= 0 && sched_getaffinity(0, sizeof before_, &before_) == 0;
        if (good_) {
            CPU_SET(static_cast<unsigned>(cpu), &here);
            sched_setaffinity(0, sizeof here, &here);
        }
    }
    ~OneCpu()
    {
        if (good_) {
            sched_setaffinity(0, sizeof before_, &before_);
        }
    }
    OneCpu(const OneCpu&) = delete;
    OneCpu& operator=(const OneCpu&) = delete;

private:
    cpu_set_t before_{};
    bool good_ = false;
};

} // namespace

Stepped step_through(const std::function<bool()>& work, const std::uint16_t* context,
    const std::function<void(const LockedInstruction&)>& found)
{
    Stepped result;
    OneCpu one_cpu;
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
        raise(SIGSTOP);
        _exit(work() ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    while (child > 0 && WIFSTOPPED(status)) {
        user_regs_struct r{};
        ptrace(PTRACE_GETREGS, child, nullptr, &r);
        // The child is a copy of this process: its code is ours, at the same place.
        Decoded d = decode(reinterpret_cast<const std::uint8_t*>(r.rip), r);
        if (d.locked || d.fence) {
            long word = ptrace(PTRACE_PEEKDATA, child, reinterpret_cast<std::uintptr_t>(context) & ~7UL, nullptr);
            unsigned shift = 8 * static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(context) & 7);
            found({d.fence ? 0 : d.operand, r.rip,
                static_cast<std::uint16_t>(static_cast<unsigned long>(word) >> shift)});
        }
        ++result.instructions;
        ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr);
        waitpid(child, &status, 0);
    }
    result.good = child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return result;
}

} // namespace steady

#else

namespace steady {

Stepped step_through(
    const std::function<bool()>&, const std::uint16_t*, const std::function<void(const LockedInstruction&)>&)
{
    return {};
}

} // namespace steady

#endif
