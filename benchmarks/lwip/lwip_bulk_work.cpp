// bulk on lwIP: one stream as fast as it goes. Bytes are counted, and the first ones of each packet compared with what
// stands at their place in the stream, which catches loss, repetition and wrong order. See lwip_work.hpp.
#include <cstring>
#include <vector>

#include <lwip/netif.h>
#include <lwip/tcp.h>

#include "benchmarks/lwip/lwip_port.hpp"
#include "benchmarks/lwip/lwip_work.hpp"

namespace lwip_bench {

namespace {

constexpr std::uint16_t sink_port = 5001;
constexpr std::size_t period = 65521; // a prime: a shift by whole segments shows

class Bulk final : public Work {
public:
    explicit Bulk(const WorkOptions& options)
        : write_bytes_(options.bytes), copy_(options.copy), stream_(period + 65536), sink_(65536)
    {
        std::uint32_t x = 1;
        for (std::size_t i = 0; i < stream_.size(); ++i) {
            x = x * 1664525 + 1013904223;
            stream_[i] = i < period ? static_cast<unsigned char>(x >> 24) : stream_[i - period];
        }
        tcp_pcb* l = tcp_new();
        sender_ = tcp_new();
        if (l == nullptr || sender_ == nullptr || tcp_bind(l, IP_ANY_TYPE, sink_port) != ERR_OK) {
            fail("no TCP PCB");
        }
        l = tcp_listen(l);
        tcp_arg(l, this);
        tcp_accept(l, accepted);
        tcp_arg(sender_, this);
        tcp_sent(sender_, acked);
        tcp_err(sender_, broken);
        if (tcp_connect(sender_, netif_ip_addr4(netif_default), sink_port, connected) != ERR_OK) {
            fail("tcp_connect failed");
        }
    }
    bool ready() const override { return operations != 0; }

private:
    static err_t accepted(void* argument, tcp_pcb* pcb, err_t)
    {
        tcp_arg(pcb, argument);
        tcp_recv(pcb, received);
        tcp_err(pcb, broken);
        return ERR_OK;
    }
    static err_t connected(void* argument, tcp_pcb*, err_t)
    {
        static_cast<Bulk*>(argument)->pump();
        return ERR_OK;
    }
    static err_t acked(void* argument, tcp_pcb*, u16_t)
    {
        static_cast<Bulk*>(argument)->pump();
        return ERR_OK;
    }
    // Whole writes only: tcp_write walks to the end of what is unsent, so few large ones are cheaper.
    void pump()
    {
        while (tcp_sndbuf(sender_) >= write_bytes_) {
            const unsigned char* from = stream_.data() + sent_ % period;
            if (tcp_write(sender_, from, static_cast<u16_t>(write_bytes_), copy_ ? TCP_WRITE_FLAG_COPY : 0) != ERR_OK) {
                return; // out of segments for now; acked() comes again
            }
            sent_ += write_bytes_;
        }
    }
    static err_t received(void* argument, tcp_pcb* pcb, pbuf* p, err_t)
    {
        if (p == nullptr) {
            fail("the stream ended");
        }
        auto& bulk = *static_cast<Bulk*>(argument);
        for (const pbuf* q = p; q != nullptr; q = q->next) {
            const unsigned char* expected = bulk.stream_.data() + bulk.operations % period;
            if (std::memcmp(q->payload, expected, q->len < 16 ? q->len : 16) != 0) {
                fail("wrong bytes at offset %llu of the stream", static_cast<unsigned long long>(bulk.operations));
            }
            if (bulk.copy_) {
                std::memcpy(bulk.sink_.data(), q->payload, q->len);
            }
            bulk.operations += q->len;
        }
        tcp_recved(pcb, p->tot_len);
        pbuf_free(p);
        return ERR_OK;
    }
    static void broken(void*, err_t e) { fail("the stream broke: lwIP error %d", e); }

    std::size_t write_bytes_;
    bool copy_;
    std::vector<unsigned char> stream_; // the period, and its beginning again
    std::vector<unsigned char> sink_;
    tcp_pcb* sender_ = nullptr;
    std::uint64_t sent_ = 0;
};

} // namespace

std::unique_ptr<Work> make_bulk_work(const WorkOptions& options)
{
    return std::make_unique<Bulk>(options);
}

} // namespace lwip_bench
