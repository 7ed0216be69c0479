// The connection state machine as a table (RFC 9293 3.3.2, figure 5). A state changes by apply() with an event that is
// legal in it and in no other way: assigning a state anywhere else fails the lint test.
//
//   closed --open_passive--> listen --got_syn--> syn_received --handshake_acked--> established
//   closed --open_active--> syn_sent --got_syn_ack--> established; --got_syn--> syn_received (simultaneous open)
//   close:     established -> fin_wait_1; close_wait -> last_ack (in syn_received it waits for the handshake)
//   fin_acked: fin_wait_1 -> fin_wait_2; closing -> time_wait; last_ack -> closed
//   got_fin:   syn_received, established -> close_wait; fin_wait_1 -> closing; fin_wait_2 -> time_wait
// Any state ends by `dead` (RST, abort, timeout). Owner: that of the object a StateCell lies in.
#pragma once

#include <cstdint>

#include "base/check.hpp"

namespace protocols::tcp {

enum class State : std::uint8_t {
    closed,
    listen,
    syn_sent,
    syn_received,
    established,
    fin_wait_1,
    fin_wait_2,
    close_wait,
    closing,
    last_ack,
    time_wait,
};
inline constexpr unsigned state_count = 11;

enum class Event : std::uint8_t {
    open_passive,
    open_active,
    got_syn,         // a SYN that synchronizes, without an ACK of ours
    got_syn_ack,     // SYN and ACK of our SYN
    handshake_acked, // our SYN is acknowledged
    close,           // the application's last byte is known
    got_fin,         // the peer's FIN is in order
    fin_acked,       // our FIN is acknowledged
    dead,            // RST, abort, timeout, 2 MSL
};
inline constexpr unsigned event_count = 9;

struct Transition {
    State from;
    Event event;
    State to;
};

inline constexpr Transition transitions[] = {
    {State::closed, Event::open_passive, State::listen},
    {State::closed, Event::open_active, State::syn_sent},
    {State::listen, Event::got_syn, State::syn_received},
    {State::syn_sent, Event::got_syn, State::syn_received},
    {State::syn_sent, Event::got_syn_ack, State::established},
    {State::syn_received, Event::handshake_acked, State::established},
    {State::established, Event::close, State::fin_wait_1},
    {State::established, Event::got_fin, State::close_wait},
    {State::close_wait, Event::close, State::last_ack},
    {State::fin_wait_1, Event::fin_acked, State::fin_wait_2},
    {State::fin_wait_1, Event::got_fin, State::closing},
    {State::fin_wait_2, Event::got_fin, State::time_wait},
    {State::closing, Event::fin_acked, State::time_wait},
    {State::last_ack, Event::fin_acked, State::closed},
};

// The state after `event`, or `from` itself when the event is not legal there (legal() tells).
constexpr State state_after(State from, Event event)
{
    if (event == Event::dead) {
        return State::closed;
    }
    for (const Transition& t : transitions) {
        if (t.from == from && t.event == event) {
            return t.to;
        }
    }
    return from;
}
constexpr bool legal(State from, Event event)
{
    return event == Event::dead || state_after(from, event) != from;
}

// Both sides know each other's sequence numbers (RFC 9293 3.4 "synchronized").
constexpr bool synchronized(State s)
{
    return s >= State::established;
}
// The application's side is still open for sending.
constexpr bool may_send(State s)
{
    return s == State::established || s == State::close_wait;
}
// The peer's FIN has been processed.
constexpr bool fin_received(State s)
{
    return s == State::close_wait || s == State::closing || s == State::last_ack || s == State::time_wait;
}

class StateCell {
public:
    constexpr operator State() const { return state_; }
    void apply(Event event)
    {
        INVARIANT(legal(state_, event));
        state_ = state_after(state_, event);
    }

private:
    State state_ = State::closed;
};

const char* state_name(State s);

} // namespace protocols::tcp
