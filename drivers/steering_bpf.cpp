// See steering_bpf.hpp. Assembled here, so that the build needs no BPF compiler. Registers: r6 the frame, r7 the map
// value (hash tables, then the indirection table), r8 the hash, r9 the offset of the ports.
#include "drivers/steering_bpf.hpp"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "base/check.hpp"

namespace drivers {
namespace {

constexpr unsigned hash_positions = 36;
constexpr std::int32_t row_bytes = 256 * sizeof(std::uint32_t);

struct MapValue {
    std::uint32_t byte_hash[hash_positions * 256];
    std::uint32_t table[netmsg::steering_entries];
};
static_assert((netmsg::steering_entries & (netmsg::steering_entries - 1)) == 0, "the program masks the hash");

enum Reg : std::uint8_t { r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, fp };

// Appends instructions; jumps to labels are patched by bind().
class Assembler {
public:
    using Label = std::vector<std::size_t>; // jumps that wait for it

    void mov(Reg dst, Reg src) { emit(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0); }
    void mov(Reg dst, std::int32_t imm) { emit(BPF_ALU64 | BPF_MOV | BPF_K, dst, r0, 0, imm); }
    void add(Reg dst, Reg src) { emit(BPF_ALU64 | BPF_ADD | BPF_X, dst, src, 0, 0); }
    void add(Reg dst, std::int32_t imm) { emit(BPF_ALU64 | BPF_ADD | BPF_K, dst, r0, 0, imm); }
    void and_(Reg dst, std::int32_t imm) { emit(BPF_ALU64 | BPF_AND | BPF_K, dst, r0, 0, imm); }
    void shift_left(Reg dst, std::int32_t imm) { emit(BPF_ALU64 | BPF_LSH | BPF_K, dst, r0, 0, imm); }
    void xor32(Reg dst, Reg src) { emit(BPF_ALU | BPF_XOR | BPF_X, dst, src, 0, 0); }
    void load8(Reg dst, Reg base, std::int16_t off) { emit(BPF_LDX | BPF_MEM | BPF_B, dst, base, off, 0); }
    void load16(Reg dst, Reg base, std::int16_t off) { emit(BPF_LDX | BPF_MEM | BPF_H, dst, base, off, 0); }
    void load32(Reg dst, Reg base, std::int16_t off) { emit(BPF_LDX | BPF_MEM | BPF_W, dst, base, off, 0); }
    void store32(Reg base, std::int16_t off, std::int32_t imm) { emit(BPF_ST | BPF_MEM | BPF_W, base, r0, off, imm); }
    void load_map(Reg dst, int map_fd)
    {
        emit(BPF_LD | BPF_DW | BPF_IMM, dst, static_cast<Reg>(BPF_PSEUDO_MAP_FD), 0, map_fd);
        emit(0, r0, r0, 0, 0);
    }
    void call(std::int32_t helper) { emit(BPF_JMP | BPF_CALL, r0, r0, 0, helper); }
    void exit() { emit(BPF_JMP | BPF_EXIT, r0, r0, 0, 0); }
    void jump(Label& to) { jump_if(BPF_JA, r0, 0, to); }
    void jump_eq(Reg reg, std::int32_t imm, Label& to) { jump_if(BPF_JEQ, reg, imm, to); }
    void jump_ne(Reg reg, std::int32_t imm, Label& to) { jump_if(BPF_JNE, reg, imm, to); }
    void bind(const Label& label)
    {
        for (std::size_t at : label) {
            code_[at].off = static_cast<std::int16_t>(code_.size() - at - 1);
        }
    }
    const std::vector<bpf_insn>& code() const { return code_; }

private:
    void emit(int op, Reg dst, Reg src, std::int16_t off, std::int32_t imm)
    {
        bpf_insn insn{};
        insn.code = static_cast<std::uint8_t>(op);
        insn.dst_reg = static_cast<std::uint8_t>(dst & 0xf);
        insn.src_reg = static_cast<std::uint8_t>(src & 0xf);
        insn.off = off;
        insn.imm = imm;
        code_.push_back(insn);
    }
    void jump_if(int condition, Reg reg, std::int32_t imm, Label& to)
    {
        to.push_back(code_.size());
        emit(BPF_JMP | condition | BPF_K, reg, r0, 0, imm);
    }
    std::vector<bpf_insn> code_;
};

constexpr std::int16_t stack_key = -4;
constexpr std::int16_t stack_ports = -16;
constexpr std::int16_t stack_header = -64; // 40 bytes

constexpr std::int32_t wire16(unsigned host_order)
{
    return static_cast<std::int32_t>((host_order >> 8 | host_order << 8) & 0xffff);
}

// Copies frame bytes to the stack; goes to `missing` when the frame is shorter. The offset is in r2.
void load_frame(Assembler& a, std::int16_t stack, std::int32_t bytes, Assembler::Label& missing)
{
    a.mov(r1, r6);
    a.mov(r3, fp);
    a.add(r3, stack);
    a.mov(r4, bytes);
    a.call(BPF_FUNC_skb_load_bytes);
    a.jump_ne(r0, 0, missing);
}

// r8 ^= contributions of stack bytes, which stand at `position` of the hash's input.
void hash_stack(Assembler& a, std::int16_t stack, unsigned bytes, unsigned position)
{
    for (unsigned i = 0; i < bytes; ++i) {
        a.load8(r1, fp, static_cast<std::int16_t>(stack + static_cast<int>(i)));
        a.shift_left(r1, 2);
        a.mov(r2, r7);
        a.add(r2, static_cast<std::int32_t>(position + i) * row_bytes);
        a.add(r2, r1);
        a.load32(r1, r2, 0);
        a.xor32(r8, r1);
    }
}

// Hashes the ports at frame offset r9 when the protocol byte says TCP or UDP.
void hash_ports(Assembler& a, std::int16_t protocol_at, unsigned position, Assembler::Label& finish)
{
    Assembler::Label has_ports;
    a.load8(r1, fp, protocol_at);
    a.jump_eq(r1, 6, has_ports);
    a.jump_ne(r1, 17, finish);
    a.bind(has_ports);
    a.mov(r2, r9);
    load_frame(a, stack_ports, 4, finish);
    hash_stack(a, stack_ports, 4, position);
    a.jump(finish);
}

std::vector<bpf_insn> assemble(int map_fd)
{
    Assembler a;
    Assembler::Label found, v4, v6, finish, other;
    a.mov(r6, r1);
    a.store32(fp, stack_key, 0);
    a.mov(r2, fp);
    a.add(r2, stack_key);
    a.load_map(r1, map_fd);
    a.call(BPF_FUNC_map_lookup_elem);
    a.jump_eq(r0, 0, other);
    a.mov(r7, r0);
    a.mov(r8, 0);
    a.mov(r2, 12);
    load_frame(a, stack_header, 2, other);
    a.load16(r1, fp, stack_header);
    a.jump_eq(r1, wire16(0x0800), v4);
    a.jump_eq(r1, wire16(0x86dd), v6);
    a.jump(other);

    a.bind(v4);
    a.mov(r2, 14);
    load_frame(a, stack_header, 20, other);
    hash_stack(a, stack_header + 12, 8, 0);
    a.load16(r1, fp, stack_header + 6);
    a.and_(r1, wire16(0x3fff)); // more fragments, or an offset
    a.jump_ne(r1, 0, finish);
    a.load8(r9, fp, stack_header);
    a.and_(r9, 0xf);
    a.shift_left(r9, 2);
    a.add(r9, 14);
    hash_ports(a, stack_header + 9, 8, finish);

    a.bind(v6);
    a.mov(r2, 14);
    load_frame(a, stack_header, 40, other);
    hash_stack(a, stack_header + 8, 32, 0);
    a.mov(r9, 14 + 40);
    hash_ports(a, stack_header + 6, 32, finish);

    a.bind(finish);
    a.and_(r8, static_cast<std::int32_t>(netmsg::steering_entries - 1));
    a.shift_left(r8, 2);
    a.mov(r2, r7);
    a.add(r2, static_cast<std::int32_t>(hash_positions) * row_bytes);
    a.add(r2, r8);
    a.load32(r0, r2, 0);
    a.exit();
    a.bind(other);
    a.mov(r0, 0);
    a.exit();
    return a.code();
}

int make_map(const netmsg::Steering& steering)
{
    LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_RDONLY_PROG);
    int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "netd_steering", sizeof(std::uint32_t), sizeof(MapValue), 1, &options);
    if (fd < 0) {
        return fd;
    }
    auto value = std::make_unique<MapValue>();
    std::memcpy(value->byte_hash, steering.byte_hash(), sizeof value->byte_hash);
    for (unsigned i = 0; i < netmsg::steering_entries; ++i) {
        value->table[i] = steering.table()[i];
    }
    std::uint32_t key = 0;
    if (int failed = bpf_map_update_elem(fd, &key, value.get(), BPF_ANY); failed < 0) {
        close(fd);
        return failed;
    }
    return fd;
}

} // namespace

std::unique_ptr<SteeringProgram> SteeringProgram::load(const netmsg::Steering& steering, std::string& error)
{
    int map_fd = make_map(steering);
    if (map_fd < 0) {
        error = std::string("eBPF map: ") + strerror(-map_fd);
        return nullptr;
    }
    std::vector<bpf_insn> code = assemble(map_fd);
    int program_fd =
        bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, "netd_steering", "Dual BSD/GPL", code.data(), code.size(), nullptr);
    if (program_fd < 0) {
        error = std::string("eBPF program: ") + strerror(-program_fd);
        close(map_fd);
        return nullptr;
    }
    return std::unique_ptr<SteeringProgram>(new SteeringProgram(map_fd, program_fd)); // the constructor is private
}

SteeringProgram::~SteeringProgram()
{
    close(program_fd_);
    close(map_fd_);
}

} // namespace drivers
