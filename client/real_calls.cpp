#include "client/real_calls.hpp"

#include <fcntl.h>
#include <unistd.h>

namespace client {

RealCalls real_calls{
    &::read, &::write, &::close, &::ppoll, &::fcntl, &::socket, &::connect, &::sendmsg, &::recvmsg, &::syscall};

} // namespace client
