// The kernel's side of steering: an eBPF program that computes netmsg::Steering's hash and indirection for frames that
// the kernel sends to a multi-queue TAP, and returns the queue. Made and released on a control thread.
#pragma once

#include <memory>
#include <string>

#include "netmsg/steering.hpp"

namespace drivers {

class SteeringProgram {
public:
    // Null with a reason where the kernel does not permit it (no CAP_BPF, a user namespace).
    static std::unique_ptr<SteeringProgram> load(const netmsg::Steering& steering, std::string& error);
    ~SteeringProgram();
    SteeringProgram(const SteeringProgram&) = delete;
    SteeringProgram& operator=(const SteeringProgram&) = delete;

    int fd() const { return program_fd_; }

private:
    SteeringProgram(int map_fd, int program_fd) : map_fd_(map_fd), program_fd_(program_fd) {}
    int map_fd_;     // c: key tables; a secret, readable with CAP_BPF only
    int program_fd_; // c
};

} // namespace drivers
