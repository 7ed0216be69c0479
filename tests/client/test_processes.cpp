// Several processes: admission, fork, sharing, and deaths in the middle.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "sockbuf/side_lock.hpp"
#include "tests/client/fixture.hpp"

using namespace client;
using fake::failed;

namespace {

// Forks as the preload library does; the child ends with what `child` returns.
template <typename Child>
pid_t fork_member(fake::World& w, Child child)
{
    ForkTicket ticket;
    REQUIRE(w.admission->prepare_fork(ticket) == 0);
    std::uint32_t index = ticket.process;
    pid_t pid = fork();
    if (pid == 0) {
        w.admission->adopt(ticket);
        _exit(w.session().process == index ? child() : 99);
    }
    w.admission->keep(ticket);
    return pid;
}
int exit_of(pid_t pid)
{
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

} // namespace

TEST_CASE("attach: refusals are errors, not crashes")
{
    std::unique_ptr<Admission> a;
    CHECK(Admission::attach("/nonexistent/socket", a) == -ENOENT);
    CHECK(Admission::attach(std::string(200, 'x').c_str(), a) == -ENAMETOOLONG);
    CHECK(a == nullptr);
}

TEST_CASE("our descriptors have high numbers, are close-on-exec and known as ours")
{
    fake::World w;
    WaiterHandle mine;
    REQUIRE(thread_waiter(w.session(), mine) == 0);
    CHECK(mine.fd >= 1000);
    CHECK((fcntl(mine.fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(w.admission->owns(mine.fd));
    CHECK(!w.admission->owns(0));
    CHECK(!w.admission->owns(-1));
    int ours = 0;
    for (int fd = 0; fd < 2000; ++fd) {
        ours += w.admission->owns(fd) ? 1 : 0;
    }
    CHECK(ours == 4); // admission, two doorbells, the waiter
}

TEST_CASE("a forked child goes on with its parent's socket, its own index and its own waiter")
{
    fake::World w;
    fake::Pair p = w.pair();
    CHECK(w.receive(p.a, 1, MSG_DONTWAIT) == failed(EAGAIN));
    w.netd.slot(p.b.slot).share.holders.fetch_or(2); // the child's bit, set before fork
    pid_t pid = fork_member(w, [&] {
        char text[16];
        ssize_t n = sock_recv(w.session(), p.b, text, sizeof text, 0, nullptr, nullptr);
        return n == 4 && sock_send(w.session(), p.b, text, 4, 0, nullptr, 0) == 4 ? 0 : 1;
    });
    REQUIRE(sock_release(w.session(), p.b) == 0); // the child holds it still
    REQUIRE(w.send(p.a, "ping") == 4);
    CHECK(w.receive(p.a, 4, MSG_WAITALL) == "ping");
    CHECK(exit_of(pid) == 0);
    CHECK(w.receive(p.a, 1).empty()); // its exit was the last close
}

TEST_CASE("forked workers accept from one listener")
{
    fake::World w;
    Sock l = w.listener(95);
    std::vector<pid_t> workers;
    for (int i = 0; i < 3; ++i) {
        workers.push_back(fork_member(w, [&] {
            sock_hold(w.session(), l);
            for (;;) {
                Sock a;
                char c;
                if (sock_accept(w.session(), l, nullptr, nullptr, 0, a) != 0 ||
                    sock_recv(w.session(), a, &c, 1, 0, nullptr, nullptr) != 1) {
                    return 1;
                }
                std::uint32_t who = w.session().process;
                sock_send(w.session(), a, &who, sizeof who, 0, nullptr, 0);
                sock_release(w.session(), a);
                if (c == 'q') {
                    return 0;
                }
            }
        }));
    }
    int answers = 0;
    for (int i = 0; i < 23; ++i) {
        Sock c = w.open(SOCK_STREAM);
        REQUIRE(w.connect(c, 95) == 0);
        REQUIRE(w.send(c, i < 20 ? "w" : "q") == 1);
        answers += w.receive(c, 4, MSG_WAITALL).size() == 4 ? 1 : 0;
        sock_release(w.session(), c);
    }
    CHECK(answers == 23);
    for (pid_t pid : workers) {
        CHECK(exit_of(pid) == 0);
    }
}

TEST_CASE("a process killed while it holds a side lock: the other goes on, nothing is lost")
{
    fake::World w;
    fake::Pair p = w.pair();
    int ready[2];
    REQUIRE(pipe(ready) == 0);
    pid_t pid = fork_member(w, [&] {
        sock_hold(w.session(), p.a);
        sock_send(w.session(), p.a, "before", 6, 0, nullptr, 0);
        auto& lock = w.session().view.slot(p.a.slot).share.snd_lock;
        sockbuf::side_lock_acquire(lock, sockbuf::side_lock_holder(w.session().process));
        [[maybe_unused]] ssize_t n = write(ready[1], "!", 1);
        for (;;) {
            pause();
        }
        return 0;
    });
    char c;
    REQUIRE(read(ready[0], &c, 1) == 1);
    ssize_t sent = 0;
    std::thread writer([&] { sent = w.send(p.a, " after"); });
    while ((w.netd.slot(p.a.slot).share.snd_lock.load() & sockbuf::side_lock_waiters) == 0) {
        std::this_thread::yield();
    }
    kill(pid, SIGKILL);
    writer.join();
    CHECK(sent == 6);
    CHECK(w.receive(p.b, 12, MSG_WAITALL) == "before after");
    CHECK(exit_of(pid) == -SIGKILL);
    close(ready[0]);
    close(ready[1]);
}

TEST_CASE("a dead holder and a dead netd together do not hang a writer")
{
    fake::World w;
    fake::Pair p = w.pair();
    w.netd.slot(p.a.slot).share.snd_lock.store(sockbuf::side_lock_holder(40)); // of a process that is no more
    WaiterHandle mine;
    REQUIRE(thread_waiter(w.session(), mine) == 0);
    w.netd.die();
    REQUIRE(w.admission->sleep(mine, base::never) == -EPIPE);
    CHECK(w.send(p.a, "x") == -ENETDOWN);
}

TEST_CASE("a handler that writes to the socket its thread is writing to gets EAGAIN, not a deadlock")
{
    fake::World w;
    fake::Pair p = w.pair();
    auto& lock = w.session().view.slot(p.a.slot).share.snd_lock;
    REQUIRE(sockbuf::side_lock_acquire(lock, sockbuf::side_lock_holder(w.session().process)) ==
            sockbuf::SideLockResult::taken); // "in the middle of a copy"
    CHECK(w.send(p.a, "x") == -EAGAIN);
    sockbuf::side_lock_release(lock);
    CHECK(w.send(p.a, "x") == 1);
}

TEST_CASE("a child for which netd had no place is cut off; its parent is not")
{
    fake::World w;
    fake::Pair p = w.pair();
    pid_t pid = fork();
    if (pid == 0) {
        w.admission->disown();
        char c;
        bool right = sock_recv(w.session(), p.b, &c, 1, 0, nullptr, nullptr) == -ECONNRESET;
        _exit(right ? 0 : 1);
    }
    CHECK(exit_of(pid) == 0);
    REQUIRE(w.send(p.a, "still here") == 10);
    CHECK(w.receive(p.b, 10, MSG_WAITALL) == "still here");
}

TEST_CASE("a worker that died between taking a connection and counting it: nobody takes the listener for ready")
{
    fake::World w;
    Sock l = w.listener(0);
    auto& slot = w.netd.slot(l.slot);
    slot.owner.accept_ready.fetch_add(1); // of a connection that is out of its lane
    CHECK(sock_readiness(w.session(), l, EPOLLIN) == 0);
    slot.share.rcv_timeout_us.store(20'000);
    Sock a;
    std::atomic<bool> over{false};
    std::thread patience([&] { // ends an accept that never sleeps
        for (int i = 0; i < 200 && !over; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        if (!over) {
            w.netd.die();
        }
    });
    CHECK(sock_accept(w.session(), l, nullptr, nullptr, 0, a) == -EAGAIN);
    over = true;
    patience.join();
    slot.share.rcv_timeout_us.store(0);
    fake::Address at;
    REQUIRE(sock_getsockname(w.session(), l, at.get(), &at.size) == 0);
    Sock c = w.open(SOCK_STREAM);
    REQUIRE(w.connect(c, at.endpoint().port) == 0);
    w.until(l, EPOLLIN);
    CHECK(sock_accept(w.session(), l, nullptr, nullptr, 0, a) == 0);
    CHECK(sock_readiness(w.session(), l, EPOLLIN) == 0);
}
