#include "benchmarks/lwip/lwip_port.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iterator>

#include <lwip/init.h>
#include <lwip/ip4.h>
#include <lwip/memp.h>
#include <lwip/netif.h>
#include <lwip/pbuf.h>
#include <lwip/priv/memp_priv.h>
#include <lwip/prot/tcp.h>
#include <lwip/sys.h>
#include <lwip/timeouts.h>

#include "protocols/wire/checksum.hpp"

namespace {

// ---- heap: lists of free blocks per size, in steps of 64 bytes up to a packet of 1,500, and a few larger sizes
// ----------

struct Block {
    Block* next;
};

constexpr std::size_t step_bytes = 64;
constexpr unsigned steps = 26;
constexpr std::size_t large_bytes[] = {4096, 16384, 66048};
constexpr std::size_t header_bytes = 16; // keeps the alignment; holds the size class
constexpr unsigned classes = steps + std::size(large_bytes);
bool fast_routines = true;
Block* free_blocks[classes];
std::uint64_t heap_used;

std::size_t class_bytes(unsigned c)
{
    return c < steps ? (c + 1) * step_bytes : large_bytes[c - steps];
}

unsigned size_class(std::size_t size)
{
    if (size <= steps * step_bytes) {
        return size == 0 ? 0 : static_cast<unsigned>((size - 1) / step_bytes);
    }
    unsigned c = steps;
    while (c < classes && class_bytes(c) < size) {
        ++c;
    }
    return c;
}

// Application threads free what they received.
struct HeapGuard {
#if NO_SYS
    HeapGuard()
    {
    }
#else
    HeapGuard() : level(sys_arch_protect())
    {
    }
    ~HeapGuard()
    {
        sys_arch_unprotect(level);
    }
    HeapGuard(const HeapGuard&) = delete;
    HeapGuard& operator=(const HeapGuard&) = delete;
    sys_prot_t level;
#endif
};

// ---- the wire
// -----------------------------------------------------------------------------------------------------------

constexpr std::uint32_t queue_packets = 1U << 17;
constexpr std::uint32_t batch_packets = 64;

netif wire_netif;
pbuf* queue[queue_packets];
std::uint32_t queue_in;
std::uint32_t queue_out;
std::uint32_t now_ms;
lwip_bench::Wire* the_wire;
std::uint64_t until_corrupt;

void corrupt(pbuf* p)
{
    constexpr unsigned tcp_payload = 40;
    if (until_corrupt == 0 || p->tot_len <= tcp_payload || --until_corrupt != 0) {
        return;
    }
    static_cast<std::uint8_t*>(p->payload)[tcp_payload] ^= 0x10;
    ++the_wire->counters.corrupted;
}

// The stack may keep the packet for retransmission, so the wire takes a copy, as a device does.
err_t transmit(netif*, pbuf* p, const ip4_addr_t*)
{
    lwip_bench::WireCounters& c = the_wire->counters;
    pbuf* copy = queue_in - queue_out < queue_packets ? pbuf_alloc(PBUF_RAW, p->tot_len, PBUF_RAM) : nullptr;
    if (copy == nullptr) {
        ++c.drops;
        return ERR_MEM;
    }
    auto* to = static_cast<char*>(copy->payload);
    for (const pbuf* q = p; q != nullptr; q = q->next) {
        std::memcpy(to, q->payload, q->len);
        to += q->len;
    }
    ++c.packets;
    c.bytes += p->tot_len;
    corrupt(copy);
    bool first = queue_in == queue_out;
    queue[queue_in++ % queue_packets] = copy;
    if (first && the_wire->options.on_first != nullptr) {
        the_wire->options.on_first();
    }
    return ERR_OK;
}

err_t attach(netif* n)
{
    n->name[0] = 'm';
    n->name[1] = 'w';
    n->output = transmit;
    n->flags |= NETIF_FLAG_LINK_UP;
    return ERR_OK;
}

} // namespace

// ---- what lwIP calls
// ----------------------------------------------------------------------------------------------------

extern "C" {

// Of inet_chksum.c, which declares it nowhere.
std::uint16_t lwip_standard_chksum(const void* data, int size);

std::uint16_t bench_lwip_checksum(const void* data, int size)
{
    constexpr int worth_vectors = 96; // below it lwIP's own is as fast, being short and called directly
    if (!fast_routines || size < worth_vectors) {
        return lwip_standard_chksum(data, size);
    }
    protocols::wire::Checksum sum;
    sum.add(data, static_cast<std::size_t>(size));
    return __builtin_bswap16(sum.folded()); // lwIP wants it as the words lie in memory
}

void* bench_lwip_malloc(std::size_t size)
{
    if (!fast_routines) {
        return std::malloc(size);
    }
    unsigned c = size_class(size);
    if (c == classes) {
        return nullptr;
    }
    HeapGuard guard;
    heap_used += class_bytes(c);
    Block* b = free_blocks[c];
    if (b != nullptr) {
        free_blocks[c] = b->next;
        return b;
    }
    auto* raw = static_cast<char*>(std::malloc(header_bytes + class_bytes(c)));
    if (raw == nullptr) {
        heap_used -= class_bytes(c);
        return nullptr;
    }
    std::memcpy(raw, &c, sizeof c);
    return raw + header_bytes;
}

void* bench_lwip_calloc(std::size_t count, std::size_t size)
{
    void* p = bench_lwip_malloc(count * size);
    return p == nullptr ? nullptr : std::memset(p, 0, count * size);
}

void bench_lwip_free(void* block)
{
    if (!fast_routines) {
        std::free(block);
        return;
    }
    if (block == nullptr) {
        return;
    }
    unsigned c = 0;
    std::memcpy(&c, static_cast<char*>(block) - header_bytes, sizeof c);
    HeapGuard guard;
    heap_used -= class_bytes(c);
    auto* b = static_cast<Block*>(block);
    b->next = free_blocks[c];
    free_blocks[c] = b;
}

u32_t sys_now()
{
#if NO_SYS
    return now_ms; // as tick_ns() read it
#else
    return static_cast<u32_t>(lwip_bench::now_ns() / 1'000'000);
#endif
}

} // extern "C"

namespace lwip_bench {

void fail(const char* format, ...)
{
    std::fputs("bench-lwip: ", stderr);
    va_list arguments;
    va_start(arguments, format);
    std::vfprintf(stderr, format, arguments);
    va_end(arguments);
    std::fputc('\n', stderr);
    std::exit(1);
}

std::uint64_t now_ns()
{
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(t.tv_nsec);
}

Wire::Wire(const WireOptions& wanted) : options(wanted)
{
    the_wire = this;
    fast_routines = options.fast_routines;
    until_corrupt = options.corrupt_nth;
    now_ms = static_cast<std::uint32_t>(now_ns() / 1'000'000);
#if NO_SYS
    lwip_init();
#endif
    ip4_addr_t address{};
    ip4_addr_t mask{};
    ip4_addr_t gateway{};
    IP4_ADDR(&address, 10, 0, 0, 1);
    IP4_ADDR(&mask, 255, 0, 0, 0);
    if (netif_add(&wire_netif, &address, &mask, &gateway, nullptr, attach, ip4_input) == nullptr) {
        fail("netif_add failed");
    }
    wire_netif.mtu = static_cast<std::uint16_t>(options.mss + IP_HLEN + TCP_HLEN);
    NETIF_SET_CHECKSUM_CTRL(&wire_netif, options.checksums ? NETIF_CHECKSUM_ENABLE_ALL : NETIF_CHECKSUM_DISABLE_ALL);
    netif_set_default(&wire_netif);
    netif_set_up(&wire_netif);
}

bool Wire::turn()
{
    std::uint32_t there = queue_in - queue_out;
    if (there == 0) {
        return false;
    }
    for (std::uint32_t n = there < batch_packets ? there : batch_packets; n != 0; --n) {
        pbuf* p = queue[queue_out++ % queue_packets];
        if (ip4_input(p, &wire_netif) != ERR_OK) {
            pbuf_free(p);
        }
    }
    return true;
}

bool Wire::pending() const
{
    return queue_in != queue_out;
}

std::uint64_t tick_ns()
{
    std::uint64_t now = now_ns();
    now_ms = static_cast<std::uint32_t>(now / 1'000'000);
    sys_check_timeouts();
    return now;
}

unsigned pool_used(int pool)
{
    unsigned free_elements = 0;
    for (const memp* m = *memp_pools[pool]->tab; m != nullptr; m = m->next) {
        ++free_elements;
    }
    return memp_pools[pool]->num - free_elements;
}

unsigned pool_element_bytes(int pool)
{
    return memp_pools[pool]->size;
}

void limit_tcp_pcbs(unsigned count)
{
    for (unsigned spare = memp_pools[MEMP_TCP_PCB]->num - pool_used(MEMP_TCP_PCB); spare > count; --spare) {
        memp_malloc(MEMP_TCP_PCB);
    }
}

std::uint64_t heap_used_bytes()
{
    return heap_used;
}

} // namespace lwip_bench
