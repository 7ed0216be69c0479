// Ports: where replies go. What happens on reply is the kind of the port, not a convention of its users.
#pragma once

#include <atomic>
#include <cstdint>

#include "lwkt/message.hpp"

namespace lwkt {

class Cpu;
class CpuSet;

// deliver() may be called on any protocol thread; it takes over as holder.
class Port {
public:
    virtual ~Port() = default;
    virtual void deliver(Message& m) = 0;
};

// Replies are dispatched on one CPU: deliver() sends the message there with `on_reply` as its dispatch function.
class CpuPort final : public Port {
public:
    CpuPort(Cpu& cpu, Message::Dispatch on_reply) : cpu_(cpu), on_reply_(on_reply) {}
    void deliver(Message& m) override;

private:
    Cpu& cpu_;                   // c
    Message::Dispatch on_reply_; // c
};

// A thread that is no protocol thread waits for one reply at a time (a "call"). wait() blocks on a futex word; in a set
// that is stepped by hand, CpuSet::call() steps instead of waiting.
class CompletionPort final : public Port {
public:
    void deliver(Message& m) override;
    bool done() const { return done_.load(std::memory_order_acquire) != 0; }
    void wait();
    void reset() { done_.store(0, std::memory_order_relaxed); }

private:
    std::atomic<std::uint32_t> done_{0}; // p: deliver (release); q: the waiting thread
};

// Nobody may reply to this message (a received packet, for one): a reply aborts.
class NoReplyPort : public Port {
public:
    void deliver(Message& m) final;
};

} // namespace lwkt
