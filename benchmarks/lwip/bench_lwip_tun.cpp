// bench-lwip-tun: lwIP on a TUN device of the kernel, as a server that echoes or discards; its clients are the
// kernel's. Callbacks of its raw API in the one thread that reads the device: the fastest lwIP there is, without a
// program's hop.
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include <CLI/CLI.hpp>
#include <lwip/init.h>
#include <lwip/ip4.h>
#include <lwip/netif.h>
#include <lwip/pbuf.h>
#include <lwip/tcp.h>

#include "benchmarks/lwip/lwip_port.hpp"

namespace {

using lwip_bench::fail;

constexpr unsigned mtu = 1500;
constexpr unsigned batch_packets = 64; // between two looks at the clock
constexpr int nap_ms = 10;             // what lwIP's timers wait at most

struct Options {
    std::string device;
    std::string address;
    std::uint16_t port = 0;
    bool discards = false;
    unsigned spin_us = 0;
};

// ---- the device

int tun = -1;

void open_tun(const std::string& name)
{
    tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    ifreq wanted{};
    wanted.ifr_flags = IFF_TUN | IFF_NO_PI;
    name.copy(wanted.ifr_name, IFNAMSIZ - 1);
    if (tun < 0 || ioctl(tun, TUNSETIFF, &wanted) != 0) {
        fail("TUN device %s: %s", name.c_str(), std::strerror(errno));
    }
}

err_t transmit(netif*, pbuf* p, const ip4_addr_t*)
{
    iovec pieces[64];
    int count = 0;
    for (const pbuf* q = p; q != nullptr && count < 64; q = q->next) {
        pieces[count++] = {q->payload, q->len};
    }
    return writev(tun, pieces, count) == static_cast<ssize_t>(p->tot_len) ? ERR_OK : ERR_MEM; // else TCP sends it again
}

err_t attach(netif* n)
{
    n->name[0] = 't';
    n->name[1] = 'n';
    n->output = transmit;
    n->mtu = mtu;
    n->flags |= NETIF_FLAG_LINK_UP;
    return ERR_OK;
}

// Hands in what is there, up to a batch of it. False: there was nothing.
bool receive(netif& n)
{
    unsigned done = 0;
    for (; done < batch_packets; ++done) {
        unsigned char bytes[mtu];
        ssize_t size = read(tun, bytes, sizeof bytes);
        if (size < 0 && errno != EAGAIN && errno != EINTR) {
            fail("read: %s", std::strerror(errno));
        }
        if (size <= 0) {
            break;
        }
        pbuf* p = pbuf_alloc(PBUF_RAW, static_cast<u16_t>(size), PBUF_RAM);
        if (p == nullptr) {
            break; // lost, as in a full queue
        }
        std::memcpy(p->payload, bytes, static_cast<std::size_t>(size));
        if (ip4_input(p, &n) != ERR_OK) {
            pbuf_free(p);
        }
    }
    return done != 0;
}

// ---- the server

bool discards = false;

void on_error(void*, err_t)
{
    // The connection is gone already.
}

err_t on_received(void*, tcp_pcb* pcb, pbuf* p, err_t)
{
    if (p == nullptr) {
        tcp_recv(pcb, nullptr);
        return tcp_close(pcb);
    }
    for (const pbuf* q = p; q != nullptr && !discards; q = q->next) {
        if (tcp_write(pcb, q->payload, q->len, TCP_WRITE_FLAG_COPY) != ERR_OK) {
            fail("the client sends more than it reads"); // an echo without a queue of its own
        }
    }
    tcp_recved(pcb, p->tot_len);
    pbuf_free(p);
    if (discards) {
        return ERR_OK;
    }
    return tcp_output(pcb);
}

err_t on_accept(void*, tcp_pcb* pcb, err_t error)
{
    if (error != ERR_OK || pcb == nullptr) {
        return ERR_VAL;
    }
    tcp_nagle_disable(pcb);
    tcp_recv(pcb, on_received);
    tcp_err(pcb, on_error);
    return ERR_OK;
}

void listen_on(const ip4_addr_t& address, std::uint16_t port)
{
    tcp_pcb* pcb = tcp_new();
    if (pcb == nullptr || tcp_bind(pcb, &address, port) != ERR_OK || (pcb = tcp_listen(pcb)) == nullptr) {
        fail("cannot listen on port %u", port);
    }
    tcp_accept(pcb, on_accept);
}

// Looks at the device for a while before it sleeps there.
void await(std::uint64_t& idle_since, std::uint64_t now, unsigned spin_us)
{
    if (idle_since == 0) {
        idle_since = now;
    }
    if (now - idle_since >= std::uint64_t{spin_us} * 1000) {
        pollfd p{tun, POLLIN, 0};
        poll(&p, 1, nap_ms);
        idle_since = 0;
    }
}

Options parse(int argc, char** argv)
{
    Options o;
    CLI::App app("bench-lwip-tun: lwIP as a server on a TUN device");
    app.add_option("device", o.device, "of the kernel; made if it is not there")->required();
    app.add_option("address", o.address, "of lwIP; its network has 24 bits")->required();
    app.add_option("port", o.port, "that it serves")->required();
    app.add_flag("--discard", o.discards, "reads and forgets; else it echoes");
    app.add_option("--spin", o.spin_us, "microseconds that it looks at the device before it sleeps there");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        std::exit(app.exit(e) == 0 ? 0 : 64);
    }
    return o;
}

} // namespace

int main(int argc, char** argv)
{
    Options o = parse(argc, argv);
    discards = o.discards;
    lwip_init();
    ip4_addr_t address{};
    ip4_addr_t mask{};
    ip4_addr_t gateway{};
    if (ip4addr_aton(o.address.c_str(), &address) == 0) {
        fail("%s is no address", o.address.c_str());
    }
    IP4_ADDR(&mask, 255, 255, 255, 0);
    open_tun(o.device);
    netif device{};
    if (netif_add(&device, &address, &mask, &gateway, nullptr, attach, ip4_input) == nullptr) {
        fail("netif_add failed");
    }
    NETIF_SET_CHECKSUM_CTRL(&device, NETIF_CHECKSUM_ENABLE_ALL);
    netif_set_default(&device);
    netif_set_up(&device);
    listen_on(address, o.port);
    for (std::uint64_t idle_since = 0;;) {
        bool busy = receive(device);
        std::uint64_t now = lwip_bench::tick_ns();
        if (busy) {
            idle_since = 0;
        } else {
            await(idle_since, now, o.spin_us);
        }
    }
}
