// conn, rr and idle on lwIP: clients that send a request and wait for the response on a new connection each time, or
// on K that stay; the server sends back what it gets. See lwip_work.hpp.
#include <cstring>
#include <vector>

#include <lwip/netif.h>
#include <lwip/tcp.h>

#include "benchmarks/lwip/lwip_port.hpp"
#include "benchmarks/lwip/lwip_work.hpp"

namespace lwip_bench {

namespace {

constexpr std::uint16_t server_port = 5000;

class Requests;

struct Client {
    Requests* work = nullptr;
    tcp_pcb* pcb = nullptr;
    std::uint64_t stamp = 0;
    std::size_t got = 0;
};

void must(err_t e, const char* what)
{
    if (e != ERR_OK) {
        fail("%s: lwIP error %d", what, e);
    }
}

tcp_pcb* new_pcb()
{
    tcp_pcb* pcb = tcp_new();
    if (pcb == nullptr) {
        fail("lwIP is out of TCP PCBs");
    }
    return pcb;
}

class Requests final : public Work {
public:
    Requests(const WorkOptions& options)
        : kind_(options.workload), message_(options.bytes), clients_(options.concurrency)
    {
        if (kind_ == "conn") {
            // Client and server of each operation, and a few TIME-WAITs before the oldest is used again.
            limit_tcp_pcbs(2 * options.concurrency + 16);
        }
        tcp_pcb* l = new_pcb();
        must(tcp_bind(l, IP_ANY_TYPE, server_port), "tcp_bind");
        l = tcp_listen(l);
        if (l == nullptr) {
            fail("tcp_listen: no memory");
        }
        tcp_arg(l, this);
        tcp_accept(l, accepted);
        for (Client& c : clients_) {
            c.work = this;
            waiting_.push_back(&c);
        }
        next_.reserve(clients_.size());
        waiting_.reserve(clients_.size());
    }

    void refill() override
    {
        next_.swap(waiting_);
        for (Client* c : next_) {
            connect(*c);
        }
        next_.clear();
    }
    bool ready() const override { return kind_ == "conn" || open_ == clients_.size(); }

private:
    bool stays() const { return kind_ != "conn"; }

    // ---- server
    // ---------------------------------------------------------------------------------------------------------

    static err_t accepted(void* argument, tcp_pcb* pcb, err_t e)
    {
        must(e, "accept");
        auto& work = *static_cast<Requests*>(argument);
        tcp_nagle_disable(pcb);
        if (work.stays()) {
            tcp_recv(pcb, echo);
        } else {
            tcp_arg(pcb, reinterpret_cast<void*>(work.message_.size()));
            tcp_recv(pcb, echo_and_close);
        }
        tcp_err(pcb, broken);
        return ERR_OK;
    }
    static std::size_t send_back(tcp_pcb* pcb, pbuf* p)
    {
        std::size_t size = p->tot_len;
        tcp_recved(pcb, p->tot_len);
        for (const pbuf* q = p; q != nullptr; q = q->next) {
            must(tcp_write(pcb, q->payload, q->len, TCP_WRITE_FLAG_COPY), "tcp_write of the server");
        }
        pbuf_free(p);
        return size;
    }
    static err_t echo(void*, tcp_pcb* pcb, pbuf* p, err_t e)
    {
        must(e, "server's receive");
        if (p == nullptr) {
            fail("a client closed a connection that should stay");
        }
        send_back(pcb, p);
        return ERR_OK;
    }
    // The argument is the number of bytes that are missing yet. The server closes first, so that the TIME-WAIT is its.
    static err_t echo_and_close(void* argument, tcp_pcb* pcb, pbuf* p, err_t e)
    {
        must(e, "server's receive");
        if (p == nullptr) {
            fail("a client closed before it had sent its request");
        }
        auto left = reinterpret_cast<std::size_t>(argument);
        left -= send_back(pcb, p);
        if (left == 0) {
            close(pcb);
        } else {
            tcp_arg(pcb, reinterpret_cast<void*>(left));
        }
        return ERR_OK;
    }

    // ---- client
    // ---------------------------------------------------------------------------------------------------------

    void connect(Client& c)
    {
        c.pcb = new_pcb();
        c.got = 0;
        tcp_nagle_disable(c.pcb);
        tcp_arg(c.pcb, &c);
        tcp_recv(c.pcb, received);
        tcp_err(c.pcb, broken);
        must(tcp_connect(c.pcb, netif_ip_addr4(netif_default), server_port, connected), "tcp_connect");
    }
    static err_t connected(void* argument, tcp_pcb*, err_t e)
    {
        must(e, "connect");
        auto& c = *static_cast<Client*>(argument);
        ++c.work->open_;
        c.work->request(c);
        return ERR_OK;
    }
    void request(Client& c)
    {
        c.stamp = ++stamp_;
        c.got = 0;
        must(tcp_write(c.pcb, message_.with(c.stamp), static_cast<u16_t>(message_.size()), TCP_WRITE_FLAG_COPY),
            "tcp_write");
    }
    static err_t received(void* argument, tcp_pcb* pcb, pbuf* p, err_t e)
    {
        must(e, "receive");
        auto& c = *static_cast<Client*>(argument);
        Requests& work = *c.work;
        if (p == nullptr) { // the server's FIN
            if (work.stays() || c.got != work.message_.size()) {
                fail("the server closed after %zu bytes", c.got);
            }
            close(pcb);
            c.pcb = nullptr;
            ++work.operations;
            work.waiting_.push_back(&c);
            return ERR_OK;
        }
        const unsigned char* expected = work.message_.with(c.stamp);
        if (c.got + p->tot_len > work.message_.size()) {
            fail("a response is longer than its request");
        }
        for (const pbuf* q = p; q != nullptr; q = q->next) {
            if (std::memcmp(q->payload, expected + c.got, q->len) != 0) {
                fail("a response has wrong bytes");
            }
            c.got += q->len;
        }
        tcp_recved(pcb, p->tot_len);
        pbuf_free(p);
        if (work.stays() && c.got == work.message_.size()) {
            ++work.operations;
            if (work.kind_ == "rr") {
                work.request(c);
            }
        }
        return ERR_OK;
    }

    // ---- both
    // -----------------------------------------------------------------------------------------------------------

    static void close(tcp_pcb* pcb)
    {
        tcp_arg(pcb, nullptr);
        tcp_recv(pcb, nullptr);
        tcp_err(pcb, nullptr);
        must(tcp_close(pcb), "tcp_close");
    }
    static void broken(void*, err_t e) { fail("a connection broke: lwIP error %d", e); }

    std::string kind_;
    Message message_;
    std::vector<Client> clients_;
    std::vector<Client*> waiting_; // to connect
    std::vector<Client*> next_;
    std::uint64_t stamp_ = 0;
    std::size_t open_ = 0; // connections opened so far
};

} // namespace

Message::Message(std::size_t bytes) : size_(bytes), bytes_(std::make_unique<unsigned char[]>(bytes))
{
    for (std::size_t i = 0; i < bytes; ++i) {
        bytes_[i] = static_cast<unsigned char>(i * 37 + 11);
    }
}

const unsigned char* Message::with(std::uint64_t stamp)
{
    std::memcpy(bytes_.get(), &stamp, size_ < sizeof stamp ? size_ : sizeof stamp);
    return bytes_.get();
}

std::unique_ptr<Work> make_tcp_work(const WorkOptions& options)
{
    return std::make_unique<Requests>(options);
}

} // namespace lwip_bench
