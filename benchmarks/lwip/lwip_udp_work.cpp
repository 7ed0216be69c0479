// udp on lwIP: K sockets, each with one datagram on its way to the server, which sends it back in the buffer it came
// in. See lwip_work.hpp.
#include <cstring>
#include <vector>

#include <lwip/netif.h>
#include <lwip/udp.h>

#include "benchmarks/lwip/lwip_port.hpp"
#include "benchmarks/lwip/lwip_work.hpp"

namespace lwip_bench {

namespace {

constexpr std::uint16_t echo_port = 5002;

class Datagrams;

struct Flow {
    Datagrams* work = nullptr;
    udp_pcb* pcb = nullptr;
    std::uint64_t stamp = 0;
};

udp_pcb* new_pcb()
{
    udp_pcb* pcb = udp_new();
    if (pcb == nullptr) {
        fail("lwIP is out of UDP PCBs");
    }
    return pcb;
}

class Datagrams final : public Work {
public:
    explicit Datagrams(const WorkOptions& options) : message_(options.bytes), flows_(options.concurrency)
    {
        udp_pcb* server = new_pcb();
        if (udp_bind(server, IP_ANY_TYPE, echo_port) != ERR_OK) {
            fail("udp_bind failed");
        }
        udp_recv(server, echo, nullptr);
        for (Flow& f : flows_) {
            f.work = this;
            f.pcb = new_pcb();
            if (udp_connect(f.pcb, netif_ip_addr4(netif_default), echo_port) != ERR_OK) {
                fail("udp_connect failed");
            }
            udp_recv(f.pcb, received, &f);
        }
        for (Flow& f : flows_) {
            request(f);
        }
    }

private:
    static void echo(void*, udp_pcb* pcb, pbuf* p, const ip_addr_t* from, u16_t port)
    {
        if (udp_sendto(pcb, p, from, port) != ERR_OK) {
            fail("udp_sendto failed");
        }
        pbuf_free(p);
    }
    void request(Flow& f)
    {
        f.stamp = ++stamp_;
        pbuf* p = pbuf_alloc(PBUF_TRANSPORT, static_cast<u16_t>(message_.size()), PBUF_RAM);
        if (p == nullptr) {
            fail("no memory for a datagram");
        }
        std::memcpy(p->payload, message_.with(f.stamp), message_.size());
        if (udp_send(f.pcb, p) != ERR_OK) {
            fail("udp_send failed");
        }
        pbuf_free(p);
    }
    static void received(void* argument, udp_pcb*, pbuf* p, const ip_addr_t*, u16_t)
    {
        auto& f = *static_cast<Flow*>(argument);
        Datagrams& work = *f.work;
        if (p->tot_len != work.message_.size() ||
            std::memcmp(p->payload, work.message_.with(f.stamp), work.message_.size()) != 0) {
            fail("a response has wrong bytes");
        }
        pbuf_free(p);
        ++work.operations;
        work.request(f);
    }

    Message message_;
    std::vector<Flow> flows_;
    std::uint64_t stamp_ = 0;
};

} // namespace

std::unique_ptr<Work> make_udp_work(const WorkOptions& options)
{
    return std::make_unique<Datagrams>(options);
}

} // namespace lwip_bench
