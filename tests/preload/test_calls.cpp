// The interposed calls from outside, as a program makes them, where libc and the kernel's manual pages say exactly what
// comes back.
#include "tests/preload/calls_fixture.hpp"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <csignal>
#include <cstdio>
#include <ctime>
#include <thread>

#include <poll.h>

using namespace preload;
using fake::Connected;
using fake::failed;
using fake::heard;
using fake::result;

namespace {

// Interrupts calls of this program's threads (no SA_RESTART).
class Interrupting {
public:
    Interrupting()
    {
        struct sigaction action {};
        action.sa_handler = [](int) {};
        sigaction(SIGUSR1, &action, &before_);
    }
    ~Interrupting() { sigaction(SIGUSR1, &before_, nullptr); }

private:
    struct sigaction before_ {};
};

// No descriptor beyond those that are open now.
class FullTable {
public:
    FullTable()
    {
        int next = ::dup(0);
        ::close(next);
        REQUIRE(getrlimit(RLIMIT_NOFILE, &before_) == 0);
        rlimit low = before_;
        low.rlim_cur = static_cast<rlim_t>(next);
        REQUIRE(setrlimit(RLIMIT_NOFILE, &low) == 0);
    }
    ~FullTable() { setrlimit(RLIMIT_NOFILE, &before_); }

private:
    rlimit before_{};
};

} // namespace

TEST_CASE("syscall(2): io_uring is not there, all else is passed on")
{
    fake::attached();
    CHECK(result(::syscall(SYS_io_uring_setup, 1, nullptr)) == -ENOSYS);
    CHECK(::syscall(SYS_getpid) == ::getpid());
    long page = ::syscall(SYS_mmap, nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(result(page) > 0);
    CHECK(::syscall(SYS_munmap, page, 4096) == 0);
    CHECK(result(::syscall(SYS_close, -1)) == -EBADF);
}

TEST_CASE("poll: what a negative descriptor's revents had is gone")
{
    Connected c;
    fake::say(c.pair.a, "x");
    REQUIRE(::recv(c.b, nullptr, 0, 0) == 0); // it is there
    int wait = GENERATE(0, 50);
    pollfd fds[] = {{-1, POLLIN, POLLIN | POLLERR}, {c.b, POLLIN, POLLERR}, {-7, 0, 99}};
    CHECK(::poll(fds, 3, wait) == 1);
    CHECK(fds[0].revents == 0);
    CHECK(fds[1].revents == POLLIN);
    CHECK(fds[2].revents == 0);
    fds[1].events = POLLPRI;
    fds[0].revents = fds[2].revents = 99;
    CHECK(::poll(fds, 3, wait) == 0);
    CHECK(fds[0].revents == 0);
    CHECK(fds[2].revents == 0);
}

TEST_CASE("poll and select: times that are none")
{
    Connected c;
    fake::say(c.pair.a, "x");
    REQUIRE(::recv(c.b, nullptr, 0, 0) == 0);
    pollfd p{c.b, POLLIN, 0};
    timespec bad = GENERATE(timespec{-1, 0}, timespec{0, -1}, timespec{0, 1'000'000'000});
    CHECK(result(::ppoll(&p, 1, &bad, nullptr)) == -EINVAL);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(c.b, &set);
    CHECK(result(::pselect(c.b + 1, &set, nullptr, nullptr, &bad, nullptr)) == -EINVAL);
    timeval negative{-1, 0};
    CHECK(result(::select(c.b + 1, &set, nullptr, nullptr, &negative)) == -EINVAL);
    timeval carries{0, 1'000'000}; // select's microseconds may be a second and more
    CHECK(::select(c.b + 1, &set, nullptr, nullptr, &carries) == 1);
}

TEST_CASE("ppoll and pselect without a wait let in what their mask does")
{
    static std::atomic<int> handled;
    struct sigaction action {
    }, before{};
    action.sa_handler = [](int) { ++handled; };
    sigaction(SIGUSR1, &action, &before);
    sigset_t blocked, all_in;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &blocked, &all_in);
    Connected c;
    timespec at_once{0, 0};
    pollfd one{c.b, POLLIN, 0};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(c.b, &set);
    handled = 0;
    ::raise(SIGUSR1);
    CHECK(result(::ppoll(&one, 1, &at_once, nullptr)) == 0);
    CHECK(handled == 0);
    CHECK(result(::ppoll(&one, 1, &at_once, &all_in)) == -EINTR);
    CHECK(handled == 1);
    ::raise(SIGUSR1);
    CHECK(result(::pselect(c.b + 1, &set, nullptr, nullptr, &at_once, &all_in)) == -EINTR);
    CHECK(handled == 2);
    ::raise(SIGUSR1);
    int pipes[2];
    REQUIRE(::pipe(pipes) == 0);
    pollfd two[2] = {{c.b, POLLIN | POLLOUT, 0}, {pipes[0], POLLIN, 0}};
    CHECK(result(::ppoll(two, 2, &at_once, &all_in)) == 1); // as the kernel: what is ready comes first
    CHECK(handled == 2);
    pthread_sigmask(SIG_SETMASK, &all_in, nullptr);
    CHECK(handled == 3);
    sigaction(SIGUSR1, &before, nullptr);
    ::close(pipes[0]);
    ::close(pipes[1]);
}

TEST_CASE("stdio: a write that was interrupted goes on")
{
    Interrupting guard;
    Connected c;
    std::string much(200'000, 'x'); // much more than both rings
    int errors = -1;
    std::thread writer([&] {
        FILE* f = ::fdopen(::dup(c.a), "w");
        std::size_t n = std::fwrite(much.data(), 1, much.size(), f);
        errors = n == much.size() && std::fflush(f) == 0 ? 0 : 1;
        std::fclose(f);
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(100)); // it sleeps
    pthread_kill(writer.native_handle(), SIGUSR1);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::string got;
    while (got.size() < much.size()) {
        std::string piece = heard(c.b, got.empty() ? 0 : MSG_DONTWAIT);
        if (piece == failed(EAGAIN)) {
            pollfd p{c.b, POLLIN, 0};
            if (::poll(&p, 1, 1000) != 1) {
                break;
            }
            continue;
        }
        got += piece;
    }
    writer.join();
    CHECK(errors == 0);
    CHECK(got.size() == much.size());
}

TEST_CASE("stdio: fflush of a stream with unread input is no error")
{
    Connected c;
    fake::say(c.pair.a, "one\ntwo\n");
    FILE* f = ::fdopen(::dup(c.b), "r");
    char line[16];
    REQUIRE(std::fgets(line, sizeof line, f) != nullptr);
    CHECK(std::fflush(f) == 0);
    CHECK(result(std::fseek(f, 0, SEEK_SET)) == -ESPIPE);
    CHECK(::fileno(f) > c.b);
    std::fclose(f);
}

TEST_CASE("dprintf writes to the socket")
{
    Connected c;
    CHECK(::dprintf(c.a, "%s %d", "number", 7) == 8);
    CHECK(heard(c.b) == "number 7");
    CHECK(result(::dprintf(-1, "x")) == -EBADF);
    int pipes[2];
    REQUIRE(::pipe(pipes) == 0);
    CHECK(::dprintf(pipes[1], "%s", "kernel") == 6);
    char bytes[8];
    CHECK(::read(pipes[0], bytes, 8) == 6);
    ::close(pipes[0]);
    ::close(pipes[1]);
}

TEST_CASE("sockatmark looks at the socket")
{
    Connected c;
    CHECK(::sockatmark(c.b) == 0);
    fake::the_netd().slot(c.pair.b.slot).owner.urgent_mark.store(1);
    CHECK(::sockatmark(c.b) == 1);
    CHECK(result(::sockatmark(-1)) == -EBADF);
}

TEST_CASE("preadv2 and pwritev2 at no offset are readv and writev")
{
    Connected c;
    char bytes[8] = "out";
    iovec piece{bytes, 3};
    CHECK(::pwritev2(c.a, &piece, 1, -1, 0) == 3);
    REQUIRE(::recv(c.b, nullptr, 0, 0) == 0); // it is there
    CHECK(::preadv2(c.b, &piece, 1, -1, RWF_NOWAIT) == 3);
    CHECK(result(::preadv2(c.b, &piece, 1, -1, RWF_NOWAIT)) == -EAGAIN);
    CHECK(result(::preadv2(c.b, &piece, 1, 0, 0)) == -ESPIPE);
    CHECK(result(::pwritev2(c.b, &piece, 1, 0, 0)) == -ESPIPE);
}

TEST_CASE("accept without a free descriptor leaves the connection queued")
{
    client::Session& s = fake::attached();
    fake::Address at = fake::at_port(0);
    int door = ::socket(test::family(), SOCK_STREAM, 0);
    fake::Address any;
    any.storage.ss_family = static_cast<sa_family_t>(test::family());
    REQUIRE(::bind(door, any.get(), any.size) == 0);
    REQUIRE(::listen(door, 4) == 0);
    socklen_t len = sizeof at.storage;
    REQUIRE(::getsockname(door, at.get(), &len) == 0);
    client::Sock k;
    REQUIRE(client::sock_socket(s, test::family(), SOCK_STREAM, 0, k) == 0);
    fake::Address to = fake::at_port(at.endpoint().port);
    REQUIRE(client::sock_connect(s, k, to.get(), to.size) == 0);
    fake::say(k, "kept");
    {
        FullTable full;
        CHECK(result(::accept(door, nullptr, nullptr)) == -EMFILE);
        CHECK(result(::accept(door, nullptr, nullptr)) == -EMFILE);
    }
    ::fcntl(door, F_SETFL, O_NONBLOCK);
    int accepted = ::accept(door, nullptr, nullptr);
    REQUIRE(accepted >= 0);
    CHECK(heard(accepted) == "kept");
    CHECK(result(::accept(door, nullptr, nullptr)) == -EAGAIN);
    int next = ::dup(0); // no number was left behind
    CHECK(next == accepted + 1);
    for (int fd : {next, accepted, door}) {
        ::close(fd);
    }
    client::sock_release(s, k);
}

TEST_CASE("sendfile: what went is told though the peer ended it then")
{
    Connected c;
    CHECK(result(::sendfile(c.a, -1, nullptr, 1)) == -EBADF);
    CHECK(result(::sendfile(c.a, c.b, nullptr, 1)) == -EINVAL);
    char name[] = "/tmp/netd-test-calls-XXXXXX";
    int file = ::mkstemp(name);
    ::unlink(name);
    REQUIRE(::ftruncate(file, 1 << 20) == 0); // several of its pieces
    struct sigaction ignored {};
    ignored.sa_handler = SIG_IGN;
    struct sigaction before {};
    sigaction(SIGPIPE, &ignored, &before);
    std::thread reader([&] {
        std::size_t got = 0;
        while (got < 100'000) { // the second piece is under way
            got += heard(c.b).size();
        }
        ::shutdown(c.a, SHUT_WR);
    });
    off_t at = 0;
    ssize_t n = ::sendfile(c.a, file, &at, 1 << 20);
    reader.join();
    CHECK(n > 65536);
    CHECK(at == n);
    sigaction(SIGPIPE, &before, nullptr);
    ::close(file);
}

TEST_CASE("a socket of netd in a message of sendmmsg is refused")
{
    Connected c;
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    char byte = 'x';
    iovec piece{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    mmsghdr m[2] = {};
    for (mmsghdr& each : m) {
        each.msg_hdr.msg_iov = &piece;
        each.msg_hdr.msg_iovlen = 1;
    }
    CHECK(::sendmmsg(ends[0], m, 2, 0) == 2);
    m[1].msg_hdr.msg_control = control;
    m[1].msg_hdr.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&m[1].msg_hdr);
    *rights = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    std::memcpy(CMSG_DATA(rights), &c.a, sizeof c.a);
    CHECK(::sendmmsg(ends[0], m, 2, 0) == 1);
    CHECK(result(::sendmmsg(ends[0], m + 1, 1, 0)) == -EOPNOTSUPP);
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_CASE("more pieces than IOV_MAX are refused")
{
    Connected c;
    std::vector<iovec> pieces(1025);
    CHECK(result(::writev(c.a, pieces.data(), 1025)) == -EINVAL);
    CHECK(result(::readv(c.b, pieces.data(), 1025)) == -EINVAL);
    msghdr m{};
    m.msg_iov = pieces.data();
    m.msg_iovlen = 1025;
    CHECK(result(::sendmsg(c.a, &m, 0)) == -EMSGSIZE);
    CHECK(result(::recvmsg(c.b, &m, MSG_DONTWAIT)) == -EMSGSIZE);
}

TEST_CASE("lengths below 0 are refused")
{
    Connected c;
    fake::Address a;
    auto negative = static_cast<socklen_t>(-1);
    socklen_t len = negative;
    CHECK(result(::getsockname(c.a, a.get(), &len)) == -EINVAL);
    CHECK(result(::getpeername(c.a, a.get(), &len)) == -EINVAL);
    int type;
    CHECK(result(::getsockopt(c.a, SOL_SOCKET, SO_TYPE, &type, &len)) == -EINVAL);
    CHECK(len == negative);
}

namespace {

int handlers_fd = -1;
std::atomic<int> handled{0};

void dup_and_close(int)
{
    int before = errno;
    ::close(::dup(handlers_fd));
    ++handled;
    errno = before;
}

} // namespace

TEST_CASE("a signal's handler may call dup and close, whatever it interrupted")
{
    Connected c;
    handlers_fd = c.a;
    handled = 0;
    struct sigaction action {};
    action.sa_handler = dup_and_close;
    action.sa_flags = SA_RESTART;
    struct sigaction before {};
    sigaction(SIGUSR1, &action, &before);
    pthread_t self = pthread_self();
    std::atomic<bool> stop{false};
    std::thread other([&] {
        while (!stop.load()) {
            pthread_kill(self, SIGUSR1);
            std::this_thread::yield();
        }
    });
    for (int i = 0; handled.load() < 100 || (i < 200'000 && handled.load() < 5000); ++i) {
        ::close(::dup(c.b));
    }
    stop.store(true);
    other.join();
    sigaction(SIGUSR1, &before, nullptr);
    CHECK(peek(c.a)->descriptors.load() == 1);
    CHECK(peek(c.b)->descriptors.load() == 1);
}

TEST_CASE("an IPv6 socket is bound to IPv6 addresses only, and a stream connected to them")
{
    fake::attached();
    sockaddr_in in{};
    in.sin_family = AF_INET;
    auto* at = reinterpret_cast<sockaddr*>(&in);
    int stream = ::socket(AF_INET6, SOCK_STREAM, 0);
    int datagram = ::socket(AF_INET6, SOCK_DGRAM, 0);
    CHECK(result(::bind(stream, at, sizeof in)) == -EINVAL);
    CHECK(result(::bind(datagram, at, sizeof in)) == -EINVAL);
    CHECK(result(::connect(stream, at, sizeof in)) == -EINVAL);
    sockaddr_storage longer{};
    longer.ss_family = AF_INET;
    CHECK(result(::connect(stream, reinterpret_cast<sockaddr*>(&longer), sizeof(sockaddr_in6))) == -EAFNOSUPPORT);
    ::close(stream);
    ::close(datagram);
}

TEST_CASE("a call whose descriptor went to something else meanwhile ends with the signal that tells it")
{
    Interrupting guard;
    bool polls = GENERATE(false, true);
    int missed = 0;
    for (int i = 0; i < 50; ++i) { // also where the signal comes before the call sleeps
        Connected c;
        int pipes[2];
        REQUIRE(::pipe(pipes) == 0);
        std::atomic<bool> begun{false}, ended{false};
        std::thread reader([&] {
            begun.store(true);
            pollfd p{c.b, POLLIN, 0};
            if (polls) {
                ::poll(&p, 1, -1);
            } else {
                heard(c.b);
            }
            ended.store(true);
        });
        while (!begun.load()) {
        }
        timespec some{0, i * 2000};
        nanosleep(&some, nullptr);
        ::dup2(pipes[0], c.b); // the marker of a runtime that closes under its readers
        ::close(pipes[1]);
        pthread_kill(reader.native_handle(), SIGUSR1);
        for (int ms = 0; ms < 1000 && !ended.load(); ++ms) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        missed += ended.load() ? 0 : 1;
        ::send(c.a, "x", 1, MSG_NOSIGNAL); // lets it go
        reader.join();
        ::close(pipes[0]);
    }
    CHECK(missed <= 2); // between the look at the descriptors and the sleep is a moment still
}

TEST_CASE("a socket in a set that could hear nothing of it stays undecided, and its connect fails")
{
    fake::LoopbackOfNetd here;
    fake::Address at;
    int listener = fake::listen_at(at);
    int set = ::epoll_create1(0);
    int client = ::socket(test::family(), SOCK_STREAM, 0);
    epoll_event event{EPOLLOUT, {}};
    REQUIRE(::epoll_ctl(set, EPOLL_CTL_ADD, client, &event) == 0);
    {
        fake::AllWaiters all;
        client::WaiterHandle mine;
        REQUIRE(client::thread_waiter(fake::attached(), mine) == 0);
        CHECK(result(::connect(client, at.get(), at.size)) == -ENOBUFS);
        CHECK(peek(client)->state.load() == EntryState::undecided);
        CHECK(::epoll_ctl(set, EPOLL_CTL_MOD, client, &event) == 0);
        client::give_thread_waiter(fake::attached(), mine);
    }
    CHECK(result(::connect(client, at.get(), at.size)) == 0);
    REQUIRE(::epoll_wait(set, &event, 1, 5000) == 1);
    CHECK(event.events == EPOLLOUT);
    for (int fd : {client, set, listener}) {
        ::close(fd);
    }
}

TEST_CASE("a one-shot that fired while the socket was undecided has fired")
{
    fake::LoopbackOfNetd here;
    fake::Address at;
    int listener = fake::listen_at(at);
    int set = ::epoll_create1(0);
    int client = ::socket(test::family(), SOCK_STREAM, 0);
    epoll_event event{EPOLLIN | EPOLLONESHOT, {}};
    REQUIRE(::epoll_ctl(set, EPOLL_CTL_ADD, client, &event) == 0);
    bool fires = GENERATE(true, false);
    if (fires) {
        epoll_event out;
        REQUIRE(::epoll_wait(set, &out, 1, 0) == 1); // HUP: not connected
    }
    REQUIRE(::connect(client, at.get(), at.size) == 0);
    int peer = ::accept(listener, nullptr, nullptr);
    REQUIRE(::send(peer, "x", 1, 0) == 1);
    pollfd readable{client, POLLIN, 0};
    REQUIRE(::poll(&readable, 1, 5000) == 1);
    epoll_event out;
    CHECK(::epoll_wait(set, &out, 1, 0) == (fires ? 0 : 1));
    CHECK(::epoll_wait(set, &out, 1, 0) == 0);
    REQUIRE(::epoll_ctl(set, EPOLL_CTL_MOD, client, &event) == 0);
    CHECK(::epoll_wait(set, &out, 1, 0) == 1);
    for (int fd : {peer, client, set, listener}) {
        ::close(fd);
    }
}
