// The system calls of a TAP device, each with its error as text. Control threads; recovery on CPU 0.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/net_addr.hpp"

namespace drivers::tap_device {

// A non-blocking descriptor of /dev/net/tun; -1 with `error` set.
int open_control(std::string& error);
// Makes `fd` a queue of the device with the vnet header and offloads that the driver uses. `name` may hold %d and
// becomes the device's name. `udp_segments`: the kernel cuts and merges UDP too. A device that somebody else holds is
// waited for so long: the kernel closes the descriptors of a program that was killed only as it exits.
bool take_queue(int fd, std::string& name, bool multi_queue, bool& udp_segments, std::string& error,
    std::chrono::milliseconds patience = {});
// True while the descriptor is a queue of a device that exists.
bool is_queue(int fd);
bool exists(const std::string& name);
bool set_steering(int fd, int program_fd, std::string& error);
// Nothing that needs a privilege where it is so already: a device may have been made for its user.
bool set_mtu(const std::string& name, std::uint32_t mtu, std::string& error);
bool bring_up(const std::string& name, std::string& error);
bool hardware_address(const std::string& name, base::MacAddr& mac, std::string& error);

} // namespace drivers::tap_device
