// netd's listening socket: peers connect, say anything in any order and of any size, with descriptors, go away in the
// middle or do not take their replies; processes fork. netd must turn away what makes no sense, and at the end every
// socket, waiter and descriptor is back. One thread: peers act, then the loop looks.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <vector>

#include <spdlog/spdlog.h>

#include "drivers/loopback.hpp"
#include "netd/admission_loop.hpp"
#include "netd/report.hpp"
#include "tests/fuzz/choices.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using fuzz::Choices;
using sockbuf::Hello;

constexpr std::size_t peers_max = 12;
constexpr unsigned steps_max = 200;

std::size_t open_descriptors()
{
    std::filesystem::directory_iterator all("/proc/self/fd");
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

netd::Config config(Choices& c)
{
    netd::Config o;
    o.admission.share = c.flag();
    o.limits.clients = 1 + c.below(3);
    return o;
}

// Everything that a daemon has, on one CPU that is stepped.
class World {
public:
    explicit World(Choices& c) : c_(c), config_(config(c)), set_(clock_, cpu_options()), stack_(set_, stack_options())
    {
        std::string error;
        INVARIANT(stack_.add_interface(
                      std::make_unique<drivers::Loopback>(), {{base::IpAddr::v4(0x7f000001), 8}}, error) != nullptr);
        gateway::GatewayOptions o;
        o.segment.sockets = 64;
        o.segment.ring_memory = 1 << 22;
        o.clients_max = config_.limits.clients;
        gateway_ = std::make_unique<gateway::Gateway>(stack_, o);
        report_ = std::make_unique<netd::Report>(*gateway_, stack_, netd::control_packet_max);
        INVARIANT(page_.create(1, error));
        netd::Served served{page_.fd(), page_.bytes(), &set_};
        admission_ = std::make_unique<netd::Admission>(
            *gateway_, guard_, served, config_, [this](sockbuf::ControlKind kind) { return report_->text(kind); });
        listen_.reset(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_un any{};
        any.sun_family = AF_UNIX;
        INVARIANT(
            bind(listen_.get(), reinterpret_cast<sockaddr*>(&any), sizeof(sa_family_t)) == 0); // the kernel names it
        INVARIANT(listen(listen_.get(), 64) == 0);
        int ends[2];
        INVARIANT(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
        signal_.reset(ends[0]); // never readable: no signal comes
        signal_write_.reset(ends[1]);
        admission_->start(listen_.get(), signal_.get());
    }

    void run()
    {
        for (unsigned i = 0; i < steps_max && !c_.done(); ++i) {
            act();
        }
        look();
        if (c_.flag()) { // netd ends before its peers do
            admission_->close_all();
        }
        peers_.clear();
        look();
        INVARIANT(gateway_->clients() == 0);
        settle();
        INVARIANT(gateway_->sockets_held() == 0 && gateway_->ring_bytes_in_use() == 0);
    }

private:
    static lwkt::CpuSetOptions cpu_options()
    {
        lwkt::CpuSetOptions o;
        o.pin.assign(1, -1);
        return o;
    }
    static protocols::StackOptions stack_options()
    {
        protocols::StackOptions o;
        o.packets.packets_per_cpu = 64;
        o.packets.large_per_cpu = 4;
        return o;
    }
    void settle()
    {
        while (set_.step()) {
        }
    }
    // Until the loop has nothing more to do: two looks more than peers have acted.
    void look()
    {
        for (unsigned i = 0; i < 24; ++i) {
            INVARIANT(admission_->look(0) == 0);
        }
        settle();
    }

    void act();
    void connect_peer();
    void send_to_netd(int fd);
    void receive(int fd);

    Choices& c_;
    netd::Config config_;
    lwkt::VirtualClock clock_;
    lwkt::CpuSet set_;
    protocols::Stack stack_;
    gateway::SleepPage page_;
    std::unique_ptr<gateway::Gateway> gateway_;
    std::unique_ptr<netd::Report> report_;
    netd::BusGuard guard_{8};
    std::unique_ptr<netd::Admission> admission_;
    netd::UniqueFd listen_;
    netd::UniqueFd signal_;
    netd::UniqueFd signal_write_;
    std::vector<netd::UniqueFd> peers_;
};

void World::act()
{
    unsigned what = c_.below(8);
    if (peers_.empty() || what == 0) {
        return connect_peer();
    }
    auto& peer = peers_[c_.byte() % peers_.size()];
    switch (what) {
    case 1:
    case 2:
    case 3:
        return send_to_netd(peer.get());
    case 4:
        return receive(peer.get());
    case 5:
        std::swap(peer, peers_.back());
        peers_.pop_back();
        return;
    case 6:
        shutdown(peer.get(), static_cast<int>(c_.below(3)));
        return;
    default:
        (void)admission_->look(0);
        settle();
    }
}

void World::connect_peer()
{
    if (peers_.size() >= peers_max) {
        return;
    }
    sockaddr_un at{};
    socklen_t size = sizeof at;
    INVARIANT(getsockname(listen_.get(), reinterpret_cast<sockaddr*>(&at), &size) == 0);
    netd::UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (connect(fd.get(), reinterpret_cast<sockaddr*>(&at), size) == 0) {
        peers_.push_back(std::move(fd));
        int small = 1; // replies soon do not fit
        setsockopt(peers_.back().get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    }
}

void World::send_to_netd(int fd)
{
    sockbuf::ShareRequest r{};
    r.request = {sockbuf::abi_magic, sockbuf::abi_version, c_.below(9), static_cast<std::int32_t>(c_.delta())};
    bool share = r.request.hello == static_cast<std::uint32_t>(Hello::share);
    r.name[0] = share ? static_cast<char>(c_.below(3)) : '\0';
    std::size_t size = share ? sizeof r : sizeof r.request;
    std::uint8_t odd = c_.byte();
    if ((odd & 0xc0) == 0xc0) { // any byte of it may be anything, and its length
        auto* bytes = reinterpret_cast<unsigned char*>(&r);
        for (unsigned i = 0, n = c_.below(4); i < n; ++i) {
            bytes[c_.byte() % sizeof r] = c_.byte();
        }
        size = c_.byte() % (sizeof r + 8);
    }
    std::array<unsigned char, sizeof r + 8> bytes{};
    std::memcpy(bytes.data(), &r, sizeof r);
    iovec data{bytes.data(), size};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    if ((odd & 0x30) == 0x30) { // a descriptor that nobody asked for
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        int some = listen_.get();
        std::memcpy(CMSG_DATA(header), &some, sizeof some);
    }
    (void)sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

// A reply; a descriptor that is a connection is one of a forked child, the others are let go.
void World::receive(int fd)
{
    char bytes[netd::control_packet_max];
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 8)];
    iovec data{bytes, sizeof bytes};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    if (recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0) {
        return;
    }
    for (cmsghdr* h = CMSG_FIRSTHDR(&message); h != nullptr; h = CMSG_NXTHDR(&message, h)) {
        std::size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < n; ++i) {
            int got = -1;
            std::memcpy(&got, CMSG_DATA(h) + i * sizeof got, sizeof got);
            netd::UniqueFd owned(got);
            int type = 0;
            socklen_t size = sizeof type;
            if (getsockopt(got, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && peers_.size() < peers_max) {
                peers_.push_back(std::move(owned));
            }
        }
    }
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    spdlog::set_level(spdlog::level::off);
    std::size_t before = open_descriptors();
    {
        Choices choices(data, size);
        World(choices).run();
    }
    INVARIANT(open_descriptors() == before);
    return 0;
}
