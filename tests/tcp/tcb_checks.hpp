// What holds of every connection whenever its CPU has done its work: order of the sequence numbers and offsets, window,
// scoreboard, timers. For the simulator and the fuzzers; the caller is on the CPU, or nothing runs. Null: all is well.
#pragma once

#include "protocols/tcp/tcp_domain.hpp"

namespace tcp_test {

const char* wrong_with_connection(const protocols::Tcb& t);
// Of one that has nothing to do until something comes: what may go has gone, and the peer has the ACK that it may ask
// for. Not where the stack had no memory for a segment.
const char* waits_needlessly(const protocols::Tcb& t);
// What is half open is counted by its listener.
const char* wrong_with_listeners(protocols::TcpState& tcp);

} // namespace tcp_test
