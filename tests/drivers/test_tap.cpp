// The TAP driver against the kernel, in a network namespace of this process. Skipped (77) where that is not permitted.
#define CATCH_CONFIG_RUNNER
#include "driver_world.hpp"

#include <arpa/inet.h>
#include <linux/capability.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/endian.hpp"
#include "drivers/frame_flow.hpp"
#include "drivers/tap.hpp"
#include "drivers/tap_device.hpp"

using namespace driver_test;

namespace {

const base::MacAddr our_mac{{0x02, 0, 0, 0, 0, 0x01}};
constexpr std::uint32_t our_ip = 0x0a630002; // 10.99.0.2; the kernel is .1

int run(const std::string& command)
{
    return std::system(command.c_str());
}

// The kernel's address, and ours as a static neighbour.
void configure_kernel(const std::string& name)
{
    REQUIRE(run("ip addr add 10.99.0.1/24 dev " + name) == 0);
    REQUIRE(run("ip neigh replace 10.99.0.2 lladdr 02:00:00:00:00:01 nud permanent dev " + name) == 0);
}

std::string kernel_mac(const std::string& name)
{
    ifreq r{};
    std::strncpy(r.ifr_name, name.c_str(), IFNAMSIZ - 1);
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    REQUIRE(ioctl(s, SIOCGIFHWADDR, &r) == 0);
    close(s);
    return {r.ifr_hwaddr.sa_data, 6};
}

struct UdpSocket {
    UdpSocket() : fd(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0)) { REQUIRE(fd >= 0); }
    ~UdpSocket() { close(fd); }
    static sockaddr_in address(std::uint32_t ip, std::uint16_t port)
    {
        sockaddr_in a{};
        a.sin_family = AF_INET;
        a.sin_addr.s_addr = htonl(ip);
        a.sin_port = htons(port);
        return a;
    }
    void bind_any(std::uint16_t port) const
    {
        sockaddr_in a = address(0x0a630001, port);
        REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0);
    }
    void send(std::uint16_t port, const Bytes& data) const
    {
        sockaddr_in a = address(our_ip, port);
        REQUIRE(sendto(fd, data.data(), data.size(), 0, reinterpret_cast<sockaddr*>(&a), sizeof a) ==
                static_cast<ssize_t>(data.size()));
    }
    int fd;
};

// This thread may not configure interfaces, as a user who has a device made for him.
class WithoutNetAdmin {
public:
    WithoutNetAdmin()
    {
        REQUIRE(syscall(SYS_capget, &header_, before_) == 0);
        __user_cap_data_struct less[2] = {before_[0], before_[1]};
        less[0].effective &= ~(1U << CAP_NET_ADMIN);
        REQUIRE(syscall(SYS_capset, &header_, less) == 0);
    }
    ~WithoutNetAdmin() { syscall(SYS_capset, &header_, before_); }
    WithoutNetAdmin(const WithoutNetAdmin&) = delete;
    WithoutNetAdmin& operator=(const WithoutNetAdmin&) = delete;

private:
    __user_cap_header_struct header_{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct before_[2] = {};
};

// Steps until `done` or two seconds of no progress: a bound for failures, not a measurement.
template <typename Done>
bool step_until(World& w, Done done)
{
    for (int idle = 0; idle < 2000; ++idle) {
        if (done()) {
            return true;
        }
        if (!w.set->step()) {
            usleep(1000);
        }
    }
    return done();
}

bool is_udp(const Bytes& frame)
{
    return frame.size() > 42 && frame[12] == 0x08 && frame[13] == 0 && frame[23] == 17;
}

std::size_t udp_count(const World& w)
{
    std::size_t n = 0;
    for (const Received& r : w.received) {
        n += is_udp(r.bytes) ? 1 : 0;
    }
    return n;
}

// UDP from us to the kernel, checksum left to it.
Bytes udp_frame(const std::string& to_mac, std::uint16_t port, const Bytes& payload)
{
    Bytes f(42 + payload.size());
    std::copy_n(to_mac.begin(), 6, f.begin());
    std::copy(our_mac.bytes.begin(), our_mac.bytes.end(), f.begin() + 6);
    base::store_be16(&f[12], 0x0800);
    f[14] = 0x45;
    base::store_be16(&f[16], static_cast<std::uint16_t>(f.size() - 14));
    f[22] = 64;
    f[23] = 17;
    base::store_be32(&f[26], our_ip);
    base::store_be32(&f[30], 0x0a630001);
    std::uint32_t sum = 0;
    for (unsigned i = 14; i < 34; i += 2) {
        sum += base::load_be16(&f[i]);
    }
    sum = (sum >> 16) + (sum & 0xffff);
    base::store_be16(&f[24], static_cast<std::uint16_t>(~(sum + (sum >> 16))));
    base::store_be16(&f[34], 7);
    base::store_be16(&f[36], port);
    base::store_be16(&f[38], static_cast<std::uint16_t>(8 + payload.size()));
    std::uint32_t pseudo = 17 + 8 + static_cast<std::uint32_t>(payload.size());
    for (unsigned i = 26; i < 34; i += 2) {
        pseudo += base::load_be16(&f[i]);
    }
    pseudo = (pseudo >> 16) + (pseudo & 0xffff);
    base::store_be16(&f[40], static_cast<std::uint16_t>(pseudo + (pseudo >> 16)));
    std::copy(payload.begin(), payload.end(), f.begin() + 42);
    return f;
}

drivers::TapOptions options(const char* name)
{
    drivers::TapOptions o;
    o.name = name;
    o.mac = our_mac;
    return o;
}

} // namespace

TEST_CASE("datagrams go both ways, with checksums left to the other side")
{
    lwkt::RealClock clock;
    World w(clock);
    drivers::Tap tap(options("drvtest0"));
    w.attach(tap);
    configure_kernel("drvtest0");
    UdpSocket s;
    s.bind_any(5000);
    Bytes small = pattern(100, 1);
    s.send(6000, small);
    REQUIRE(step_until(w, [&] { return udp_count(w) == 1; }));
    for (const Received& r : w.received) {
        if (is_udp(r.bytes)) {
            CHECK(Bytes(r.bytes.begin() + 42, r.bytes.end()) == small);
            CHECK(r.csum == netmsg::Csum::valid);
        }
    }
    w.prepare = [](netmsg::Packet& p) {
        p.csum = netmsg::Csum::partial;
        p.csum_start = 34;
        p.csum_offset = 6;
    };
    Bytes answer = pattern(1300, 2);
    w.send(tap, udp_frame(kernel_mac("drvtest0"), 5000, answer));
    Bytes got(2000);
    ssize_t n = -1;
    REQUIRE(step_until(w, [&] { return (n = recv(s.fd, got.data(), got.size(), 0)) > 0; }));
    got.resize(static_cast<std::size_t>(n));
    CHECK(got == answer);
    CHECK(tap.counters(0).errors.load() == 0);
    tap.detach();
    CHECK(w.in_use() == 0);
}

TEST_CASE("the steering program chooses the queue that Steering chooses")
{
    lwkt::RealClock clock;
    World w(clock, 4);
    base::Random random(42);
    netmsg::Steering steering(4, random);
    drivers::TapOptions o = options("drvtest1");
    o.steering = &steering;
    drivers::Tap tap(o);
    w.attach(tap);
    INFO(tap.describe());
    if (tap.describe().find("steering by eBPF") == std::string::npos) {
        WARN("not permitted here: " << tap.describe());
        return;
    }
    configure_kernel("drvtest1");
    unsigned per_queue[4] = {};
    for (std::uint16_t port = 1; port <= 400; ++port) {
        UdpSocket s;
        s.bind_any(static_cast<std::uint16_t>(20000 + port * 3));
        s.send(static_cast<std::uint16_t>(30000 + port * 7), pattern(20, port));
        REQUIRE(step_until(w, [&] { return udp_count(w) == port; }));
    }
    UdpSocket big; // in fragments: by address pair
    big.send(4000, pattern(5000, 1));
    REQUIRE(step_until(w, [&] { return udp_count(w) == 404; }));
    for (const Received& r : w.received) {
        if (!is_udp(r.bytes)) {
            continue;
        }
        w.set->call(0, [&](lwkt::Cpu&) {
            netmsg::Packet* p = w.pool->allocate();
            std::copy(r.bytes.begin(), r.bytes.end(),
                reinterpret_cast<unsigned char*>(p->put(static_cast<std::uint32_t>(r.bytes.size()))));
            REQUIRE(drivers::frame_queue(steering, *p, 14) == r.cpu);
            p->free();
        });
        ++per_queue[r.cpu];
    }
    for (unsigned n : per_queue) {
        CHECK(n > 50);
    }
    tap.detach();
    CHECK(w.in_use() == 0);
}

TEST_CASE("a device that goes down or away does not spin, and works again when it is back")
{
    lwkt::RealClock clock;
    World w(clock, 2);
    REQUIRE(run("ip tuntap add dev drvtest2 mode tap multi_queue vnet_hdr") == 0);
    std::vector<std::string> log;
    drivers::TapOptions o = options("drvtest2");
    o.log = [&log](const std::string& text) { log.push_back(text); };
    drivers::Tap tap(o);
    w.attach(tap);

    std::string mac = kernel_mac("drvtest2");
    REQUIRE(run("ip link set drvtest2 down") == 0);
    for (int i = 0; i < 5; ++i) {
        w.send(tap, udp_frame(mac, 5000, pattern(50, 0)));
        w.set->step();
    }
    CHECK(log.size() == 1); // told once
    CHECK(tap.counters(0).out_dropped.load() == 5);
    REQUIRE(run("ip link set drvtest2 up") == 0);
    w.send(tap, udp_frame(mac, 5000, pattern(50, 0)));
    w.set->step();
    CHECK(log.size() == 2);
    CHECK(tap.counters(0).out_packets.load() == 1);

    REQUIRE(run("ip link delete drvtest2") == 0);
    w.received.clear();
    w.set->step();
    CHECK(log.size() == 4); // both queues
    auto errors = tap.counters(0).errors.load();
    for (int i = 0; i < 100; ++i) {
        w.set->step();
    }
    CHECK(tap.counters(0).errors.load() == errors);
    CHECK(w.set->next_deadline() < base::never);

    REQUIRE(run("ip tuntap add dev drvtest2 mode tap multi_queue vnet_hdr") == 0);
    for (int i = 0; i < 300 && log.size() < 6; ++i) {
        usleep(10'000);
        w.set->step();
    }
    REQUIRE(log.size() == 6);
    configure_kernel("drvtest2");
    UdpSocket s;
    s.send(6000, pattern(64, 3));
    CHECK(step_until(w, [&] { return udp_count(w) == 1; }));
    tap.detach();
    run("ip link delete drvtest2");
    CHECK(w.in_use() == 0);
}

TEST_CASE("a device that comes back unusable is taken when it is usable, with all that it needs")
{
    lwkt::RealClock clock;
    World w(clock, 2);
    REQUIRE(run("ip tuntap add dev drvtest5 mode tap multi_queue vnet_hdr") == 0);
    std::vector<std::string> log;
    drivers::TapOptions o = options("drvtest5");
    o.log = [&log](const std::string& text) { log.push_back(text); };
    drivers::Tap tap(o);
    w.attach(tap);
    REQUIRE(run("ip link delete drvtest5") == 0);
    w.set->step();
    REQUIRE(log.size() == 2); // both queues
    REQUIRE(run("ip tuntap add dev drvtest5 mode tap multi_queue vnet_hdr") == 0);
    REQUIRE(run(("ip link set drvtest5 address " + base::to_string(tap.info().mac)).c_str()) == 0);
    for (int i = 0; i < 250; ++i) { // it is looked at twice, or more
        usleep(10'000);
        w.set->step();
    }
    REQUIRE(log.size() == 3); // and what is wrong with it is told once
    CHECK(log[2].find("is the kernel's") != std::string::npos);
    REQUIRE(run("ip link set drvtest5 address 02:00:00:00:00:99") == 0);
    for (int i = 0; i < 300 && log.size() < 5; ++i) {
        usleep(10'000);
        w.set->step();
    }
    REQUIRE(log.size() == 5);
    configure_kernel("drvtest5");
    UdpSocket s;
    s.send(6000, pattern(64, 3));
    CHECK(step_until(w, [&] { return udp_count(w) == 1; }));
    tap.detach();
    run("ip link delete drvtest5");
    CHECK(w.in_use() == 0);
}

TEST_CASE("what cannot be opened is refused with a reason")
{
    lwkt::RealClock clock;
    World w(clock, 2);
    std::string error;
    drivers::Tap loopback_name(options("lo"));
    CHECK_FALSE(loopback_name.attach(*w.set, *w.pool, &World::input, &w, error));
    CHECK(error.find("lo") != std::string::npos);
    REQUIRE(run("ip tuntap add dev drvtest3 mode tap") == 0); // single queue, no vnet header
    drivers::Tap tap(options("drvtest3"));
    CHECK_FALSE(tap.attach(*w.set, *w.pool, &World::input, &w, error));
    CHECK(error.find("multi_queue") != std::string::npos);
    run("ip link delete drvtest3");
}

TEST_CASE("a device that is made for its user, up and as wide as it should be needs no privilege")
{
    std::string user = std::to_string(geteuid());
    REQUIRE(run("ip tuntap add dev drvtest6 mode tap vnet_hdr user " + user) == 0);
    REQUIRE(run("ip link set drvtest6 up mtu 1400") == 0);
    lwkt::RealClock clock;
    World w(clock, 1);
    std::string error;
    {
        WithoutNetAdmin unprivileged;
        drivers::Tap wider(options("drvtest6"));
        CHECK_FALSE(wider.attach(*w.set, *w.pool, &World::input, &w, error));
        CHECK(error.find("set mtu") != std::string::npos);
        drivers::TapOptions o = options("drvtest6");
        o.mtu = 1400;
        drivers::Tap tap(o);
        error.clear();
        CHECK(tap.attach(*w.set, *w.pool, &World::input, &w, error));
        CHECK(error == "");
        tap.detach();
    }
    run("ip link delete drvtest6");
}

TEST_CASE("a device that somebody is about to let go of is waited for")
{
    REQUIRE(run("ip tuntap add dev drvtest4 mode tap vnet_hdr") == 0);
    std::string name = "drvtest4";
    std::string error;
    bool udp_segments = false;
    int held = drivers::tap_device::open_control(error);
    REQUIRE(drivers::tap_device::take_queue(held, name, false, udp_segments, error));

    lwkt::RealClock clock;
    World w(clock, 1);
    drivers::Tap never(options("drvtest4"));
    CHECK_FALSE(never.attach(*w.set, *w.pool, &World::input, &w, error)); // still held
    CHECK(error.find("busy") != std::string::npos);

    std::thread other([held] {
        std::this_thread::sleep_for(std::chrono::milliseconds{50});
        close(held);
    });
    drivers::Tap tap(options("drvtest4"));
    CHECK(tap.attach(*w.set, *w.pool, &World::input, &w, error));
    other.join();
    tap.detach();
    run("ip link delete drvtest4");
}

int main(int argc, char** argv)
{
    if ((unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) ||
        access("/dev/net/tun", R_OK | W_OK) != 0 || run("ip link set lo up") != 0) {
        std::puts("skipped: no network namespace or no /dev/net/tun here");
        return 77;
    }
    return Catch::Session().run(argc, argv);
}
