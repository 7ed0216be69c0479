// See tap_device.hpp and Documentation/networking/tuntap.rst of Linux.
#include "drivers/tap_device.hpp"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "drivers/vnet_header.hpp"

namespace drivers::tap_device {
namespace {

// TUN_F_USO4 and TUN_F_USO6 of Linux 6.2, which the headers of 6.1 do not have.
constexpr unsigned offload_uso = 0x20 | 0x40;

std::string failed(const std::string& what)
{
    return what + ": " + strerror(errno);
}

ifreq request(const std::string& name)
{
    ifreq r{};
    std::strncpy(r.ifr_name, name.c_str(), IFNAMSIZ - 1);
    return r;
}

// One ioctl on a socket of the current network namespace.
bool interface_ioctl(unsigned long code, ifreq& r, const char* what, std::string& error)
{
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool good = s >= 0 && ioctl(s, code, &r) == 0;
    if (!good) {
        error = failed(std::string(r.ifr_name) + ": " + what);
    }
    if (s >= 0) {
        close(s);
    }
    return good;
}

// False with errno set.
bool set_interface(int fd, ifreq& r, std::chrono::milliseconds patience)
{
    constexpr std::chrono::milliseconds nap{5};
    auto deadline = std::chrono::steady_clock::now() + patience;
    while (ioctl(fd, TUNSETIFF, &r) != 0) {
        if (errno != EBUSY || std::chrono::steady_clock::now() >= deadline) {
            return false;
        }
        std::this_thread::sleep_for(nap);
    }
    return true;
}

} // namespace

int open_control(std::string& error)
{
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        error = failed("/dev/net/tun");
    }
    return fd;
}

bool take_queue(int fd, std::string& name, bool multi_queue, bool& udp_segments, std::string& error,
    std::chrono::milliseconds patience)
{
    if (name.empty() || name.size() >= IFNAMSIZ) {
        error = "'" + name + "': not an interface name";
        return false;
    }
    ifreq r = request(name);
    r.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (multi_queue ? IFF_MULTI_QUEUE : 0));
    if (!set_interface(fd, r, patience)) {
        bool kind_differs = errno == EINVAL;
        error = failed(name);
        if (kind_differs && exists(name)) {
            error += multi_queue ? " (the device exists: is it a TAP made with multi_queue?)"
                                 : " (the device exists: is it a TAP made without multi_queue?)";
        }
        return false;
    }
    name = r.ifr_name;
    int header = vnet_header_bytes;
    if (ioctl(fd, TUNSETVNETHDRSZ, &header) != 0) {
        error = failed(name + ": vnet header");
        return false;
    }
    constexpr unsigned tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    udp_segments = ioctl(fd, TUNSETOFFLOAD, tcp | offload_uso) == 0;
    if (!udp_segments && ioctl(fd, TUNSETOFFLOAD, tcp) != 0) {
        error = failed(name + ": offloads");
        return false;
    }
    return true;
}

bool is_queue(int fd)
{
    ifreq r{};
    return ioctl(fd, TUNGETIFF, &r) == 0;
}

bool exists(const std::string& name)
{
    return if_nametoindex(name.c_str()) != 0;
}

bool set_steering(int fd, int program_fd, std::string& error)
{
    if (ioctl(fd, TUNSETSTEERINGEBPF, &program_fd) != 0) {
        error = failed("TUNSETSTEERINGEBPF");
        return false;
    }
    return true;
}

bool set_mtu(const std::string& name, std::uint32_t mtu, std::string& error)
{
    ifreq r = request(name);
    if (!interface_ioctl(SIOCGIFMTU, r, "get mtu", error)) {
        return false;
    }
    if (r.ifr_mtu == static_cast<int>(mtu)) {
        return true;
    }
    r.ifr_mtu = static_cast<int>(mtu);
    return interface_ioctl(SIOCSIFMTU, r, "set mtu", error);
}

bool bring_up(const std::string& name, std::string& error)
{
    ifreq r = request(name);
    if (!interface_ioctl(SIOCGIFFLAGS, r, "get flags", error)) {
        return false;
    }
    if ((r.ifr_flags & IFF_UP) != 0) {
        return true;
    }
    r.ifr_flags = static_cast<short>(r.ifr_flags | IFF_UP);
    return interface_ioctl(SIOCSIFFLAGS, r, "bring up", error);
}

bool hardware_address(const std::string& name, base::MacAddr& mac, std::string& error)
{
    ifreq r = request(name);
    if (!interface_ioctl(SIOCGIFHWADDR, r, "hardware address", error)) {
        return false;
    }
    std::memcpy(mac.bytes.data(), r.ifr_hwaddr.sa_data, mac.bytes.size());
    return true;
}

} // namespace drivers::tap_device
