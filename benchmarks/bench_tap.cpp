// Plain readv/writev against io_uring on a TAP device: what drivers/frame_queue.cpp uses is decided by this. Needs a
// network namespace and /dev/net/tun; makes both itself. Prints a JSON line per row: the ratio is io_uring's frame rate
// to plain's, both sides alternating in every round.
//   bench-tap [ROUNDS]
#include <arpa/inet.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/check.hpp"
#include "base/endian.hpp"

namespace {

constexpr unsigned batch = 32;
constexpr unsigned frames_per_round = 256; // less than the device's queue of 1000
constexpr unsigned passes = 8;             // per round and side
constexpr std::size_t header_bytes = 12;
constexpr std::size_t buffer_bytes = 66 * 1024;
constexpr const char* device = "benchtap0";

using Frame = std::vector<unsigned char>;

// vnet header, Ethernet to a stranger (so that the kernel drops it at once), IPv4, TCP.
Frame make_frame(std::size_t payload)
{
    Frame f(header_bytes + 54 + payload, 0x5a);
    std::memset(f.data(), 0, header_bytes + 54);
    if (payload > 1460) {
        f[0] = 1;                                    // NEEDS_CSUM
        f[1] = 1;                                    // TCPv4
        std::uint16_t fields[] = {54, 1448, 34, 16}; // hdr_len, gso_size, csum_start, csum_offset
        std::memcpy(&f[2], fields, sizeof fields);
    }
    unsigned char* e = &f[header_bytes];
    std::memset(e, 0x02, 12);
    base::store_be16(e + 12, ETHERTYPE_IP);
    e[14] = 0x45;
    base::store_be16(e + 16, static_cast<std::uint16_t>(40 + payload));
    e[22] = 64;
    e[23] = 6;
    base::store_be32(e + 26, 0x0a630001);
    base::store_be32(e + 30, 0x0a630002);
    e[46] = 0x50;
    e[47] = 0x10;
    return f;
}

int open_tap()
{
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    ifreq r{};
    std::strncpy(r.ifr_name, device, IFNAMSIZ - 1);
    r.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    int size = header_bytes;
    if (fd < 0 || ioctl(fd, TUNSETIFF, &r) != 0 || ioctl(fd, TUNSETVNETHDRSZ, &size) != 0 ||
        ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) != 0) {
        std::perror("bench-tap: /dev/net/tun");
        std::exit(77);
    }
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    r.ifr_flags = IFF_UP;
    INVARIANT(ioctl(s, SIOCSIFFLAGS, &r) == 0);
    close(s);
    return fd;
}

// A packet socket through which frames reach the device as the kernel's stack would send them.
int open_feeder()
{
    int s = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    int one = 1;
    INVARIANT(s >= 0 && setsockopt(s, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) == 0);
    sockaddr_ll a{};
    a.sll_family = AF_PACKET;
    a.sll_ifindex = static_cast<int>(if_nametoindex(device));
    INVARIANT(bind(s, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0);
    return s;
}

struct Bench {
    int tap = open_tap();
    int feeder = open_feeder();
    io_uring ring{};
    std::vector<unsigned char> memory = std::vector<unsigned char>(batch * buffer_bytes);
    iovec parts[batch];

    Bench()
    {
        INVARIANT(io_uring_queue_init(batch * 2, &ring, 0) == 0);
        INVARIANT(io_uring_register_files(&ring, &tap, 1) == 0);
        for (unsigned i = 0; i < batch; ++i) {
            parts[i] = {&memory[i * buffer_bytes], buffer_bytes};
        }
    }
    ~Bench() { io_uring_queue_exit(&ring); }

    void feed(const Frame& f) const
    {
        // The short header of packet sockets has no num_buffers.
        iovec io[2] = {{const_cast<unsigned char*>(f.data()), 10},
            {const_cast<unsigned char*>(f.data()) + header_bytes, f.size() - header_bytes}};
        for (unsigned i = 0; i < frames_per_round; ++i) {
            INVARIANT(writev(feeder, io, 2) > 0);
        }
    }
    unsigned receive_plain()
    {
        unsigned got = 0;
        for (;;) {
            if (readv(tap, &parts[got % batch], 1) < 0) {
                INVARIANT(errno == EAGAIN);
                return got;
            }
            ++got;
        }
    }
    unsigned receive_uring()
    {
        unsigned got = 0;
        for (bool dry = false; !dry;) {
            for (unsigned i = 0; i < batch; ++i) {
                io_uring_sqe* sqe = io_uring_get_sqe(&ring);
                io_uring_prep_readv2(sqe, 0, &parts[i], 1, 0, RWF_NOWAIT); // else it would wait for a frame
                sqe->flags |= IOSQE_FIXED_FILE;
            }
            got += complete(dry);
        }
        return got;
    }
    void send_plain(const Frame& f) const
    {
        iovec io = {const_cast<unsigned char*>(f.data()), f.size()};
        for (unsigned i = 0; i < frames_per_round; ++i) {
            INVARIANT(writev(tap, &io, 1) > 0);
        }
    }
    void send_uring(const Frame& f)
    {
        iovec io = {const_cast<unsigned char*>(f.data()), f.size()};
        for (unsigned sent = 0; sent < frames_per_round; sent += batch) {
            for (unsigned i = 0; i < batch; ++i) {
                io_uring_sqe* sqe = io_uring_get_sqe(&ring);
                io_uring_prep_writev(sqe, 0, &io, 1, 0);
                sqe->flags |= IOSQE_FIXED_FILE;
            }
            bool refused = false;
            INVARIANT(complete(refused) == batch && !refused);
        }
    }

private:
    // Submits a batch in one call and counts what succeeded.
    unsigned complete(bool& refused)
    {
        INVARIANT(io_uring_submit_and_wait(&ring, batch) == static_cast<int>(batch));
        unsigned good = 0;
        for (unsigned i = 0; i < batch; ++i) {
            io_uring_cqe* cqe = nullptr;
            INVARIANT(io_uring_wait_cqe(&ring, &cqe) == 0);
            INVARIANT(cqe->res > 0 || cqe->res == -EAGAIN);
            good += cqe->res > 0 ? 1 : 0;
            refused |= cqe->res < 0;
            io_uring_cqe_seen(&ring, cqe);
        }
        return good;
    }
};

double timed(const std::function<void()>& f)
{
    auto start = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void report(
    const char* name, unsigned rounds, const std::function<double()>& plain, const std::function<double()>& uring)
{
    std::vector<double> ratios;
    double plain_ns = 0;
    for (unsigned r = 0; r < rounds + 1; ++r) {
        double p = plain(); // the best of a few short passes each: a pass that was interrupted says nothing
        double u = uring();
        for (unsigned i = 1; i < passes; ++i) {
            p = std::min(p, plain());
            u = std::min(u, uring());
        }
        if (r != 0) { // the first one warms up
            ratios.push_back(p / u);
            plain_ns += p * 1e9 / frames_per_round / rounds;
        }
    }
    std::sort(ratios.begin(), ratios.end());
    std::printf(
        "{\"name\": \"%s\", \"value\": %.3f, \"unit\": \"ratio\", \"low\": %.3f, \"high\": %.3f, \"runs\": %zu, "
        "\"why\": \"plain: %.0f ns a frame\"}\n",
        name, ratios[ratios.size() / 2], ratios.front(), ratios.back(), ratios.size(), plain_ns);
}

} // namespace

int main(int argc, char** argv)
{
    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
        std::perror("bench-tap: a network namespace of its own");
        return 77;
    }
    unsigned rounds = argc > 1 ? static_cast<unsigned>(std::max(5, std::atoi(argv[1]))) : 9;
    Bench b;
    b.receive_plain(); // what the kernel sent when the device came up
    for (bool super : {false, true}) {
        Frame f = make_frame(super ? 64000 : 100);
        std::string kind = super ? "_super" : "_small";
        auto receive = [&](bool uring) {
            b.feed(f);
            unsigned got = 0;
            double t = timed([&] { got = uring ? b.receive_uring() : b.receive_plain(); });
            INVARIANT(got >= frames_per_round);
            return t;
        };
        report(("ratio.tap_uring_vs_plain_recv" + kind).c_str(), rounds, [&] { return receive(false); },
            [&] { return receive(true); });
        report(("ratio.tap_uring_vs_plain_send" + kind).c_str(), rounds,
            [&] { return timed([&] { b.send_plain(f); }); }, [&] { return timed([&] { b.send_uring(f); }); });
    }
    return 0;
}
