// Control operations: a request to netd and, but for close, its reply. Internal to client/.
//
// One request of a slot is outstanding at a time (ctl_lock). Signals stay blocked and cancellation off from the lock to
// the reply, as the kernel would not run a handler inside setsockopt either; a control call costs a round trip between
// threads anyway. The data path never comes here.
#pragma once

#include "base/net_addr.hpp"
#include "client/signal_guard.hpp"
#include "client/slot_access.hpp"

namespace client {

// A request for `k` with everything the operation does not use set to 0.
sockbuf::Request make_request(SocketSlot& slot, Sock k, sockbuf::Op op, std::int32_t value = 0);
void set_endpoint(sockbuf::Request& r, const base::Endpoint& e);

struct ReplyBuffer {
    void* data = nullptr;
    std::uint32_t capacity = 0;
    std::uint32_t size = 0; // bytes the reply had, cut to capacity
};

// Nobody else's request for the slot comes between what is asked within this scope.
class ControlTurn {
public:
    ControlTurn(Session& s, SocketSlot& slot) : no_handlers_(s.defer_signals), lock_(s, slot.share.ctl_lock) {}
    int error() const { return lock_.error(); }

private:
    SignalGuard no_handlers_;
    SideGuard lock_;
};

// The result: 0 or a negative errno; -ENETDOWN when netd is gone.
int ask_netd(
    const ControlTurn& turn, Session& s, SocketSlot& slot, Sock k, sockbuf::Request& r, ReplyBuffer* reply = nullptr);
// The same, in a turn of its own.
int call_netd(Session& s, SocketSlot& slot, Sock k, sockbuf::Request& r, ReplyBuffer* reply = nullptr);
// Without waiting for an answer (there is none): close, a connect that does not block.
int post_to_netd(Session& s, SocketSlot& slot, sockbuf::Request& r);

// Tells CPU `cpu` to look at this process's requests and at the lanes it fills, without a request.
void poke_netd(Session& s, std::uint32_t cpu);

} // namespace client
