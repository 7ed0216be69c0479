// Free rings beyond a few of each size give their pages back to the kernel (decision 0011): those that came back
// longest ago, some at a time, by a timer of class clock, so that no close waits for it and a ring that is soon taken
// again keeps its pages. Owner: this CPU's protocol thread.
#include <sys/mman.h>

#include "gateway/gateway_cpu.hpp"
#include "protocols/domain.hpp"

namespace gateway {

namespace {

constexpr std::size_t warm_rings = 64;  // free rings of a size that keep their pages
constexpr unsigned looked_at = 1024;    // free rings in one go
constexpr unsigned cooled_at_once = 64; // ... and system calls, twice as many
constexpr base::Micros breath{1000};    // between two goes
constexpr base::Micros rest{1'000'000}; // before the first: what is taken again by then keeps its pages

} // namespace

void GatewayCpu::Cooling::fired(lwkt::Timer& t)
{
    static_cast<Cooling&>(t).of_.cool_rings();
}

void GatewayCpu::give_ring(Client& c, std::uint64_t offset, unsigned shift, bool touched)
{
    ClientCpu& mine = c.cpu[me()];
    mine.arena.give(offset, shift, touched);
    if (!mine.to_serve && !mine.want_rings.empty()) {
        mine.to_serve = true;
        to_serve_.push_back(&c);
    }
    if (!mine.cooling && mine.arena.cools(shift, warm_rings)) {
        mine.cooling = true;
        to_cool_.push_back(&c);
        if (!cooling_->armed()) {
            domain().wheel.arm(*cooling_, cpu_.now() + rest);
        }
    }
}

// Holes in the segment; what fails costs memory only.
void GatewayCpu::cool_rings()
{
    base::assert_on(cpu_.owner());
    unsigned looks = looked_at;
    for (unsigned n = 0; n < cooled_at_once && looks != 0 && !to_cool_.empty();) {
        Client& c = *to_cool_.back();
        auto found = c.cpu[me()].arena.cool(warm_rings, looks);
        if (!found && looks != 0) {
            c.cpu[me()].cooling = false;
            to_cool_.pop_back();
        }
        if (!found) {
            continue;
        }
        ++n;
        if (found->ring) {
            madvise(c.view().base() + found->offset, std::size_t{1} << found->shift, MADV_REMOVE);
        }
        if (found->heads) {
            madvise(c.view().head_page(found->offset, found->shift), RingArena::head_page_bytes, MADV_REMOVE);
        }
    }
    if (!to_cool_.empty()) {
        domain().wheel.arm(*cooling_, cpu_.now() + breath);
    }
}

} // namespace gateway
