// Delivery of replies, by the kind of the port.
#include "lwkt/port.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.hpp"
#include "lwkt/cpu.hpp"
#include "lwkt/cpu_set.hpp"

namespace lwkt {
namespace {

static_assert(sizeof(std::atomic<std::uint32_t>) == 4, "a futex word is 32 bits");

void futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value)
{
    syscall(SYS_futex, &word, operation | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr, 0);
}

} // namespace

void reply(Message& m)
{
    INVARIANT(m.reply_port != nullptr);
    m.reply_port->deliver(m);
}

void CpuPort::deliver(Message& m)
{
    m.dispatch = on_reply_;
    Cpu* here = Cpu::current();
    if (here != nullptr && &here->set() == &cpu_.set()) {
        here->send(cpu_.id(), m);
    } else {
        cpu_.set().post(cpu_.id(), m); // two stacks in one process: the replier runs in another set
    }
}

void CompletionPort::deliver(Message&)
{
    // The waiter may return and free the port right after the store; the wake then hits an address nobody waits on.
    done_.store(1, std::memory_order_release);
    futex(done_, FUTEX_WAKE, 1);
}

void CompletionPort::wait()
{
    while (!done()) {
        futex(done_, FUTEX_WAIT, 0);
    }
}

void NoReplyPort::deliver(Message&)
{
    constexpr bool anybody_may_reply = false;
    INVARIANT(anybody_may_reply);
}

} // namespace lwkt
