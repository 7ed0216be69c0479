#include "benchmarks/lwip/lwip_side.hpp"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>

#include <lwip/netif.h>
#include <lwip/tcpip.h>

namespace bench {

namespace {

constexpr std::size_t entries_max = 65536;
constexpr std::size_t entries_each = 32768; // of a worker
constexpr std::size_t report_at = 65536;    // bytes read before lwIP is told, as its own window update threshold
constexpr std::size_t small_bytes = 4096;   // messages, which are always copied; of bulk the plan says

std::vector<LwipEntry>& table()
{
    static std::vector<LwipEntry> all(entries_max);
    return all;
}
std::atomic<std::size_t> inboxes{0};
thread_local LwipInbox* of_this_thread = nullptr;

lwip_bench::Wire* wire;
tcpip_callback_msg* drain_message;
bool drain_posted = false; // under lwIP's lock, or its thread's
unsigned pcbs_max;
std::atomic<bool> started{false};

void drain(void*);

// A packet is on the wire that was empty.
void wake_stack()
{
    if (!drain_posted && tcpip_callbackmsg_trycallback(drain_message) == ERR_OK) {
        drain_posted = true;
    }
}

// In lwIP's thread. A batch a message, so that the applications get at the lock in between.
void drain(void*)
{
    drain_posted = false;
    if (wire->turn() && wire->pending()) {
        wake_stack();
    }
}

void begin(void* options)
{
    wire = new lwip_bench::Wire(*static_cast<lwip_bench::WireOptions*>(options)); // as long as the process
    drain_message = tcpip_callbackmsg_new(drain, nullptr);
    lwip_bench::limit_tcp_pcbs(pcbs_max);
    started = true;
}

void event(netconn* c, netconn_evt what, u16_t)
{
    int at = c->socket;
    if (at < 0) {
        return; // not accepted yet; the worker looks at it when it does
    }
    std::uint32_t told = what == NETCONN_EVT_RCVPLUS    ? std::uint32_t{EPOLLIN}
                         : what == NETCONN_EVT_SENDPLUS ? std::uint32_t{EPOLLOUT}
                         : what == NETCONN_EVT_ERROR    ? std::uint32_t{EPOLLERR}
                                                        : 0;
    if (told != 0) {
        LwipInbox::entry(at).inbox->happened(at, told);
    }
}

// lwIP's codes as those of the socket calls.
ssize_t error_of(err_t e)
{
    switch (e) {
    case ERR_OK:
        return 0;
    case ERR_WOULDBLOCK:
        return -EAGAIN;
    case ERR_INPROGRESS:
        return -EINPROGRESS;
    case ERR_MEM:
    case ERR_BUF:
        return -ENOMEM;
    case ERR_RST:
    case ERR_ABRT:
        return -ECONNRESET;
    case ERR_CLSD:
        return -EPIPE;
    case ERR_CONN:
        return -ENOTCONN;
    default:
        return -EIO;
    }
}

// What a netconn writes without a copy has to stay until it is acknowledged, which may be after its worker has gone:
// this worker's bytes, which never change, kept as long as the process.
const void* lent(const void* data, std::size_t size)
{
    static thread_local auto* kept = new std::vector<char>;
    if (kept->size() < size) {
        kept->assign(static_cast<const char*>(data), static_cast<const char*>(data) + size);
    }
    return kept->data();
}

} // namespace

LwipInbox::LwipInbox() : ring_(entries_each)
{
    std::size_t first = inboxes.fetch_add(1) * entries_each;
    if (first + entries_each > entries_max) {
        give_up("lwIP: more workers than entries", -ENOMEM);
    }
    for (std::size_t i = entries_each; i != 0; --i) {
        free_.push_back(static_cast<int>(first + i - 1));
        entry(free_.back()).inbox = this;
    }
    of_this_thread = this;
}

LwipInbox::~LwipInbox()
{
    of_this_thread = nullptr;
}

LwipInbox& LwipInbox::mine()
{
    if (of_this_thread == nullptr) {
        new LwipInbox; // stays: callbacks may still come when its worker has ended
    }
    return *of_this_thread;
}

LwipEntry& LwipInbox::entry(int at)
{
    return table()[static_cast<std::size_t>(at)];
}

int LwipInbox::take_entry()
{
    if (free_.empty()) {
        give_up("lwIP: sockets of a worker", -EMFILE);
    }
    int at = free_.back();
    free_.pop_back();
    return at;
}

void LwipInbox::give_back(int at)
{
    LwipEntry& e = entry(at);
    e.user = nullptr;
    if (e.events.load() != 0) {
        e.closed = true;
    } else {
        free_.push_back(at);
    }
}

void LwipInbox::happened(int at, std::uint32_t told)
{
    if (entry(at).events.fetch_or(told | queued) == 0) {
        std::uint32_t in = in_.load(std::memory_order_relaxed);
        ring_[in % ring_.size()] = at;
        in_.store(in + 1);
        sleeper_.rouse();
    }
}

LwipSide::LwipSide(const Plan& plan) : copies_(plan.copy)
{
    int cpu = plan.stack_cpu >= 0 ? plan.stack_cpu : plan.cpus[0];
    lwip_bench::stack_cpu = cpu;
    lwip_bench::one_cpu = std::all_of(plan.cpus.begin(), plan.cpus.end(), [cpu](int c) { return c == cpu; });
    // Both ends of each operation, and those that still close; lwIP takes the oldest TIME-WAIT when there is no other.
    pcbs_max = 2 * plan.concurrency + plan.concurrency / 2 + 64;
    table();
    static lwip_bench::WireOptions options; // lwIP's thread reads it
    options.mss = plan.mss != 0 ? plan.mss : 1460;
    options.on_first = wake_stack;
    tcpip_init(begin, &options);
    while (!started) {
        lwip_bench::look_again(0);
    }
}

LwipSide::Socket LwipSide::open(int type)
{
    netconn* c = netconn_new_with_proto_and_callback((type & SOCK_DGRAM) != 0 ? NETCONN_UDP : NETCONN_TCP, 0, event);
    if (c == nullptr) {
        give_up("lwIP: netconn_new", -ENOMEM);
    }
    netconn_set_nonblocking(c, 1);
    c->socket = LwipInbox::mine().take_entry();
    return Socket(c, copies_);
}

LwipSide::Socket LwipSide::open_server(int type, unsigned worker)
{
    Socket s = open(type);
    must(error_of(netconn_bind(s.conn(), IP_ADDR_ANY, static_cast<u16_t>(first_port + worker))), "lwIP: bind");
    if (type == SOCK_STREAM) {
        must(error_of(netconn_listen(s.conn())), "lwIP: listen");
    }
    return s;
}

int LwipSide::connect(Socket& s, unsigned, unsigned worker)
{
    auto port = static_cast<u16_t>(first_port + worker);
    return static_cast<int>(error_of(netconn_connect(s.conn(), netif_ip_addr4(netif_default), port)));
}

int LwipSide::accept(Socket& listener, Socket& out)
{
    netconn* c = nullptr;
    err_t e = netconn_accept(listener.conn(), &c);
    if (e != ERR_OK) {
        return static_cast<int>(error_of(e));
    }
    netconn_set_nonblocking(c, 1);
    int at = LwipInbox::mine().take_entry();
    SYS_ARCH_DECL_PROTECT(level);
    SYS_ARCH_PROTECT(level);
    c->socket = at;
    SYS_ARCH_UNPROTECT(level);
    out = Socket(c, copies_);
    return 0;
}

ssize_t LwipSide::Socket::send(const void* data, std::size_t size)
{
    if (NETCONNTYPE_GROUP(netconn_type(conn_)) == NETCONN_UDP) {
        netbuf message{};
        must(error_of(netbuf_ref(&message, data, static_cast<u16_t>(size))), "lwIP: netbuf_ref");
        err_t e = netconn_send(conn_, &message); // the wire has copied it by now
        netbuf_free(&message);
        return e == ERR_OK ? static_cast<ssize_t>(size) : error_of(e);
    }
    std::size_t written = 0;
    bool copy = copies_ || size <= small_bytes;
    auto flags = static_cast<u8_t>(NETCONN_DONTBLOCK | (copy ? NETCONN_COPY : NETCONN_NOCOPY));
    err_t e = netconn_write_partly(conn_, copy ? data : lent(data, size), size, flags, &written);
    return e == ERR_OK ? static_cast<ssize_t>(written) : error_of(e);
}

ssize_t LwipSide::Socket::recv(void* into, std::size_t size)
{
    if (NETCONNTYPE_GROUP(netconn_type(conn_)) == NETCONN_UDP) {
        return receive_datagram(into, size);
    }
    if (rest_ == nullptr) {
        err_t e = netconn_recv_tcp_pbuf_flags(conn_, &rest_, NETCONN_DONTBLOCK | NETCONN_NOAUTORCVD);
        if (e != ERR_OK) {
            rest_ = nullptr;
            return e == ERR_CLSD ? 0 : error_of(e);
        }
        taken_ = 0;
    }
    std::size_t n = std::min(size, rest_->tot_len - taken_);
    if (copies_ || size <= small_bytes) {
        pbuf_copy_partial(rest_, into, static_cast<u16_t>(n), static_cast<u16_t>(taken_));
    }
    taken_ += n;
    unreported_ += n;
    if (taken_ == rest_->tot_len) {
        pbuf_free(std::exchange(rest_, nullptr));
    }
    if (unreported_ >= report_at) {
        report_read();
    }
    return static_cast<ssize_t>(n);
}

ssize_t LwipSide::Socket::receive_datagram(void* into, std::size_t size)
{
    netbuf* message = nullptr;
    err_t e = netconn_recv_udp_raw_netbuf_flags(conn_, &message, NETCONN_DONTBLOCK);
    if (e != ERR_OK) {
        return error_of(e);
    }
    std::size_t n = std::min<std::size_t>(size, netbuf_len(message));
    netbuf_copy(message, into, static_cast<u16_t>(n));
    netbuf_delete(message);
    return static_cast<ssize_t>(n);
}

void LwipSide::Socket::report_read()
{
    if (unreported_ != 0) {
        netconn_tcp_recvd(conn_, std::exchange(unreported_, 0));
    }
}

void LwipSide::Socket::close()
{
    if (conn_ == nullptr) {
        return;
    }
    if (rest_ != nullptr) {
        pbuf_free(std::exchange(rest_, nullptr));
    }
    report_read(); // or it would be taken for unread, and lwIP would reset the connection
    int at = conn_->socket;
    netconn_delete(std::exchange(conn_, nullptr));
    LwipInbox::mine().give_back(at);
}

ssize_t LwipSide::receive_from(Socket& s, void* into, std::size_t size, Address& from)
{
    netbuf* message = nullptr;
    err_t e = netconn_recv_udp_raw_netbuf_flags(s.conn(), &message, NETCONN_DONTBLOCK);
    if (e != ERR_OK) {
        return error_of(e);
    }
    std::size_t n = std::min<std::size_t>(size, netbuf_len(message));
    netbuf_copy(message, into, static_cast<u16_t>(n));
    from = {*netbuf_fromaddr(message), netbuf_fromport(message)};
    netbuf_delete(message);
    return static_cast<ssize_t>(n);
}

ssize_t LwipSide::send_to(Socket& s, const void* data, std::size_t size, const Address& to)
{
    netbuf message{};
    must(error_of(netbuf_ref(&message, data, static_cast<u16_t>(size))), "lwIP: netbuf_ref");
    err_t e = netconn_sendto(s.conn(), &message, &to.ip, to.port);
    netbuf_free(&message);
    return e == ERR_OK ? static_cast<ssize_t>(size) : error_of(e);
}

void LwipSide::start_counting()
{
    packets_before_ = wire->counters.packets;
    waits_before_ = lwip_bench::futex_waits;
    wakes_before_ = lwip_bench::futex_wakes;
}

nlohmann::json LwipSide::counters()
{
    return {{"packets", wire->counters.packets - packets_before_}, {"drops", wire->counters.drops},
        {"futex_waits", lwip_bench::futex_waits - waits_before_},
        {"doorbells", lwip_bench::futex_wakes - wakes_before_}};
}

} // namespace bench
