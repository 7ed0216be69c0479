// libnetd: a TCP/IP stack inside your process. Make a Stack, give it interfaces, start it, open Sockets:
// docs/examples/two_stacks.cpp is a whole program. Drivers are in drivers/ (loopback, tap, sim_link).
#pragma once

#include "embed/events.hpp"
#include "embed/join.hpp"
#include "embed/simulation.hpp"
#include "embed/socket.hpp"
#include "embed/stack.hpp"
