// One end of a joined pair: two sockets of one user whose connection exchanges no segments. The applications move the
// bytes in shared memory; the protocol keeps what names and ends the connection. Owner: the Tcb's CPU; the pair's two
// ends may live on different CPUs and tell each other by messages that lie in the end that receives them, each sent at
// most once. An end lives until both applications have let go, so that neither can write into a slot or a ring that
// serves somebody else by then.
#pragma once

#include "lwkt/message.hpp"
#include "sockbuf/abi.hpp"

namespace protocols {

struct Tcb;

namespace tcp {

struct JoinedEnd;
struct PairMessage : lwkt::Message {
    JoinedEnd* to = nullptr; // m
    bool reset = false;      // m: the sender's application left in a way that TCP answers with RST
};

struct JoinedEnd {
    explicit JoinedEnd(Tcb& t) : tcb(t) {}

    Tcb& tcb;                                  // c
    JoinedEnd* other = nullptr;                // c once joined
    sockbuf::SocketSlot* other_slot = nullptr; // c once joined: in shared memory, numbers only are taken from it
    PairMessage fin;                           // m: from the other: it sends no more
    PairMessage end;                           // m: from the other, the last one: its application has let go
    bool fin_told = false;                     // o: to the other
    bool time_wait = false;                    // o: we closed first, the other end after us
    bool peer_gone = false;                    // o: `end` has arrived
};

} // namespace tcp
} // namespace protocols
