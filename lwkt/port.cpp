// Delivery of replies, by the kind of the port.
#include "lwkt/port.hpp"

#include "base/check.hpp"
#include "lwkt/cpu.hpp"
#include "lwkt/cpu_set.hpp"
#include "lwkt/futex.hpp"

namespace lwkt {
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
    futex_wake(done_, 1);
}

void CompletionPort::wait()
{
    while (!done()) {
        futex_wait(done_, 0);
    }
}

void NoReplyPort::deliver(Message&)
{
    constexpr bool anybody_may_reply = false;
    INVARIANT(anybody_may_reply);
}

} // namespace lwkt
