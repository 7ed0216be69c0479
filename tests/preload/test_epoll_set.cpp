// epoll over netd's sockets and the kernel's in one set: the rules of epoll(7).
#include <sys/eventfd.h>
#include <sys/wait.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "client/preload/real.hpp"
#include "client/slot_access.hpp"
#include "tests/preload/epoll_fixture.hpp"

using namespace preload;
using namespace fake;

TEST_CASE("level-triggered: reported as long as it holds")
{
    fake::FdPair p = fake::make_pair();
    Set set;
    REQUIRE(set.add(p.fd_b, EPOLLIN) == 0);
    CHECK(set.add(p.fd_b, EPOLLIN) == -EEXIST);
    CHECK(set.now(p.fd_b) == 0);
    fake::say(p.a, "hello");
    epoll_event out[4];
    REQUIRE(set.sleep(out, 4) == 1);
    CHECK(out[0].events == EPOLLIN);
    CHECK(set.now(p.fd_b) == EPOLLIN);
    CHECK(fake::hear(p.b) == 5);
    CHECK(set.now(p.fd_b) == 0);
    CHECK(set.control(EPOLL_CTL_DEL, p.fd_b, 0) == 0);
    CHECK(set.control(EPOLL_CTL_DEL, p.fd_b, 0) == -ENOENT);
    fake::close_fd(p.fd_a);
    fake::close_fd(p.fd_b);
}

TEST_CASE("edge-triggered: once an event")
{
    fake::FdPair p = fake::make_pair();
    Set set;
    REQUIRE(set.add(p.fd_b, EPOLLIN | EPOLLET) == 0);
    fake::say(p.a, "one");
    epoll_event out[4];
    REQUIRE(set.sleep(out, 4) == 1);
    CHECK(set.now(p.fd_b) == 0); // unread, but nothing new
    fake::say(p.a, "two");
    REQUIRE(set.sleep(out, 4) == 1);
    CHECK(set.control(EPOLL_CTL_MOD, p.fd_b, EPOLLIN | EPOLLET) == 0);
    CHECK(set.now(p.fd_b) == EPOLLIN); // epoll_ctl arms it anew
    fake::close_fd(p.fd_a);
    fake::close_fd(p.fd_b);
}

TEST_CASE("one-shot: disarmed until modified")
{
    fake::FdPair p = fake::make_pair();
    Set set;
    REQUIRE(set.add(p.fd_b, EPOLLIN | EPOLLONESHOT) == 0);
    fake::say(p.a, "one");
    epoll_event out[4];
    REQUIRE(set.sleep(out, 4) == 1);
    fake::say(p.a, "two");
    CHECK(set.now(p.fd_b) == 0);
    CHECK(set.control(EPOLL_CTL_MOD, p.fd_b, EPOLLIN | EPOLLONESHOT) == 0);
    CHECK(set.now(p.fd_b) == EPOLLIN);
    CHECK(set.now(p.fd_b) == 0);
    fake::close_fd(p.fd_a);
    fake::close_fd(p.fd_b);
}

TEST_CASE("kernel descriptors in the same set, neither side starved")
{
    fake::FdPair p = fake::make_pair();
    Set set;
    int event = eventfd(1, EFD_NONBLOCK);
    epoll_event e{EPOLLIN, {}};
    e.data.fd = event;
    REQUIRE(::epoll_ctl(set.fd, EPOLL_CTL_ADD, event, &e) == 0);
    set.set.kernel_added();
    REQUIRE(set.add(p.fd_b, EPOLLOUT) == 0); // always ready
    int of_kernel = 0;
    int of_netd = 0;
    for (int i = 0; i < 64; ++i) {
        epoll_event out[1];
        REQUIRE(set.sleep(out, 1) == 1);
        (out[0].data.fd == event ? of_kernel : of_netd) += 1;
    }
    CHECK(of_kernel > 0);
    CHECK(of_netd > 0);
    ::close(event);
    fake::close_fd(p.fd_a);
    fake::close_fd(p.fd_b);
}

TEST_CASE("maxevents goes round the ready sockets")
{
    fake::FdPair p = fake::make_pair();
    fake::FdPair q = fake::make_pair();
    Set set;
    REQUIRE(set.add(p.fd_b, EPOLLOUT) == 0);
    REQUIRE(set.add(q.fd_b, EPOLLOUT) == 0);
    epoll_event out[1];
    REQUIRE(set.sleep(out, 1) == 1);
    int first = out[0].data.fd;
    REQUIRE(set.sleep(out, 1) == 1);
    CHECK(out[0].data.fd != first);
    for (int fd : {p.fd_a, p.fd_b, q.fd_a, q.fd_b}) {
        fake::close_fd(fd);
    }
}

TEST_CASE("the last close takes a socket out of every set")
{
    fake::FdPair p = fake::make_pair();
    Set one;
    Set two;
    REQUIRE(one.add(p.fd_b, EPOLLOUT) == 0);
    REQUIRE(two.add(p.fd_b, EPOLLOUT) == 0);
    fake::close_fd(p.fd_b);
    CHECK_FALSE(one.set.has_netd());
    CHECK_FALSE(two.set.has_netd());
    fake::close_fd(p.fd_a);
}

namespace {

// For as long as one stands, who waits looks for an hour: what a look does not see hangs the test.
struct LongLook {
    LongLook() : s(fake::attached()), least(s.look_min), most(s.look_max)
    {
        s.look_min = s.look_max = base::seconds(3600);
    }
    ~LongLook()
    {
        s.look_min = least;
        s.look_max = most;
    }
    client::Session& s;
    base::Micros least, most;
};

} // namespace

TEST_CASE("a look before the sleep sees netd's sockets and the kernel's descriptors")
{
    fake::FdPair p = fake::make_pair();
    int pipe_fds[2];
    REQUIRE(::pipe2(pipe_fds, O_NONBLOCK | O_CLOEXEC) == 0);
    int expected = GENERATE(0, 1);
    int target = expected == 0 ? p.fd_b : pipe_fds[0];
    int seen = -1;
    auto happen = [&] {
        if (expected == 0) {
            fake::say(p.a, "x");
        } else {
            REQUIRE(::write(pipe_fds[1], "x", 1) == 1);
        }
    };
    SECTION("epoll")
    {
        Set set;
        REQUIRE(set.add(p.fd_b, EPOLLIN) == 0);
        epoll_event e{EPOLLIN | EPOLLET, {}}; // asked for once, reported or lost
        e.data.fd = pipe_fds[0];
        REQUIRE(::epoll_ctl(set.fd, EPOLL_CTL_ADD, pipe_fds[0], &e) == 0);
        set.set.kernel_added();
        REQUIRE(set.now(p.fd_b) == 0);
        LongLook look;
        std::thread waits([&] {
            epoll_event out[4];
            if (set.sleep(out, 4) == 1) {
                seen = out[0].data.fd;
            }
        });
        happen();
        waits.join();
    }
    SECTION("poll")
    {
        LongLook look;
        std::thread waits([&] {
            pollfd fds[2] = {{p.fd_b, POLLIN, 0}, {pipe_fds[0], POLLIN, 0}};
            if (poll_mixed(fds, 2, nullptr, nullptr) == 1) {
                seen = fds[0].revents == POLLIN ? fds[0].fd : fds[1].revents == POLLIN ? fds[1].fd : -1;
            }
        });
        happen();
        waits.join();
    }
    CHECK(seen == target);
    for (int fd : pipe_fds) {
        ::close(fd);
    }
    fake::close_fd(p.fd_a);
    fake::close_fd(p.fd_b);
}

TEST_CASE("a look ends with the timeout of the call")
{
    fake::FdPair p = fake::make_pair();
    Set set;
    REQUIRE(set.add(p.fd_b, EPOLLIN) == 0);
    LongLook look;
    timespec brief{0, 3'000'000};
    epoll_event out[1];
    CHECK(set.set.wait(set.fd, out, 1, &brief, nullptr) == 0);
    pollfd one{p.fd_b, POLLIN, 0};
    CHECK(poll_mixed(&one, 1, &brief, nullptr) == 0);
    fake::close_fd(p.fd_a);
    fake::close_fd(p.fd_b);
}

TEST_CASE("a socket added while another thread sleeps wakes it")
{
    fake::FdPair p = fake::make_pair();
    fake::FdPair quiet = fake::make_pair();
    Set set;
    REQUIRE(set.add(quiet.fd_b, EPOLLIN) == 0);
    std::atomic<int> seen{-1};
    std::thread sleeper([&] {
        epoll_event out[4];
        if (set.sleep(out, 4) == 1) {
            seen.store(out[0].data.fd);
        }
    });
    fake::say(p.a, "x");
    int rc = set.add(p.fd_b, EPOLLIN);
    sleeper.join();
    CHECK(rc == 0);
    CHECK(seen.load() == p.fd_b);
    for (int fd : {p.fd_a, p.fd_b, quiet.fd_a, quiet.fd_b}) {
        fake::close_fd(fd);
    }
}

TEST_CASE("several sleepers in one set: every event reaches somebody")
{
    constexpr int threads = 3;
    constexpr int messages = 200;
    fake::FdPair p = fake::make_pair();
    Set set;
    REQUIRE(set.add(p.fd_b, EPOLLIN | EPOLLONESHOT) == 0);
    std::atomic<int> got{0};
    std::vector<std::thread> sleepers;
    for (int t = 0; t < threads; ++t) {
        sleepers.emplace_back([&] {
            while (got.load() < messages) {
                epoll_event out[1];
                timespec brief{0, 50'000'000}; // only to see the end; nothing is measured
                if (set.set.wait(set.fd, out, 1, &brief, nullptr) == 1) {
                    char bytes[messages];
                    ssize_t n = client::sock_recv(set.s, p.b, bytes, sizeof bytes, MSG_DONTWAIT, nullptr, nullptr);
                    got.fetch_add(n > 0 ? static_cast<int>(n) : 0);
                    set.control(EPOLL_CTL_MOD, p.fd_b, EPOLLIN | EPOLLONESHOT);
                }
            }
        });
    }
    for (int i = 0; i < messages; ++i) {
        client::sock_send(set.s, p.a, "x", 1, 0, nullptr, 0);
    }
    for (auto& t : sleepers) {
        t.join();
    }
    CHECK(got.load() == messages);
    fake::close_fd(p.fd_a);
    fake::close_fd(p.fd_b);
}

TEST_CASE("a set that is polled itself shows what netd has for it")
{
    fake::FdPair p = fake::make_pair();
    Set set;
    REQUIRE(set.add(p.fd_b, EPOLLIN) == 0);
    set.set.expose();
    pollfd one{set.fd, POLLIN, 0};
    CHECK(::poll(&one, 1, 0) == 0);
    fake::say(p.a, "x");
    CHECK(::poll(&one, 1, -1) == 1); // the waiter's pipe
    CHECK(set.now(p.fd_b) == EPOLLIN);
    CHECK(fake::hear(p.b) == 1);
    set.set.expose();
    CHECK(::poll(&one, 1, 0) == 0);
    fake::say(p.a, "x");
    while (set.now(p.fd_b) == 0) {
    }
    set.set.expose(); // pending already
    CHECK(::poll(&one, 1, 0) == 1);
    fake::close_fd(p.fd_a);
    fake::close_fd(p.fd_b);
}

TEST_CASE("those who waited before the first socket was added hear of it, each in turn")
{
    fake::FdPair p = fake::make_pair();
    Set set;
    bool one_shot = GENERATE(false, true);
    std::vector<std::unique_ptr<Early>> early;
    for (int i = 0; i < 6; ++i) {
        early.push_back(std::make_unique<Early>(set));
    }
    auto over = [&] {
        return std::count_if(early.begin(), early.end(), [](const auto& each) { return each->found() >= 0; });
    };
    REQUIRE(set.add(p.fd_b, one_shot ? 0 : EPOLLIN | EPOLLET) == 0);
    CHECK(set.now(p.fd_b) == 0); // takes a wake that was for all
    for (long i = 0; i < std::ssize(early); ++i) {
        fake::say(p.a, "x");
        if (one_shot) {
            REQUIRE(set.control(EPOLL_CTL_MOD, p.fd_b, EPOLLIN | EPOLLONESHOT) == 0);
        }
        while (over() <= i) {
            std::this_thread::yield();
        }
    }
    for (auto& each : early) {
        CHECK(each->found() == 1);
    }
    fake::close_fd(p.fd_a);
    fake::close_fd(p.fd_b);
}

TEST_CASE("a forked child has a set of its own")
{
    fake::FdPair p = fake::make_pair();
    Set set;
    REQUIRE(set.add(p.fd_b, EPOLLIN) == 0);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        epoll_event out[4];
        bool good = set.sleep(out, 4) == 1 && out[0].data.fd == p.fd_b && fake::hear(p.b) == 5;
        _exit(good ? 0 : 1);
    }
    fake::say(p.a, "child");
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    fake::close_fd(p.fd_a);
    fake::close_fd(p.fd_b);
}

TEST_CASE("a set outlives the process that filled it")
{
    fake::FdPair p = fake::make_pair();
    int told[2];
    REQUIRE(::pipe(told) == 0);
    pid_t maker = fork();
    REQUIRE(maker >= 0);
    if (maker == 0) {
        Set set;
        set.add(p.fd_b, EPOLLIN);
        set.now(p.fd_b);
        std::uint64_t bit = client::process_bit(fake::attached());
        pid_t me = getpid();
        if (fork() != 0) {
            _exit(0);
        }
        while (getppid() == me || (fake::the_netd().slot(p.b.slot).share.holders.load() & bit) != 0) {
            std::this_thread::yield();
        }
        set.now(p.fd_b); // asks netd for a waiter: by its answer it has seen all of its maker's end
        epoll_event out[4];
        char quiet = real.epoll_pwait(set.fd, out, 4, 0, nullptr) == 0 ? 'q' : '!';
        [[maybe_unused]] ssize_t n = ::write(told[1], &quiet, 1);
        char heard = set.set.wait(set.fd, out, 4, &patience, nullptr) == 1 ? 'h' : '!';
        n = ::write(told[1], &heard, 1);
        _exit(0);
    }
    ::close(told[1]);
    REQUIRE(waitpid(maker, nullptr, 0) == maker);
    char quiet = 0;
    REQUIRE(::read(told[0], &quiet, 1) == 1);
    CHECK(quiet == 'q');
    fake::say(p.a, "news");
    char heard = 0;
    REQUIRE(::read(told[0], &heard, 1) == 1);
    CHECK(heard == 'h');
    ::close(told[0]);
    fake::close_fd(p.fd_a);
    fake::close_fd(p.fd_b);
}

namespace {

// Threads each of which has waited once, and none of which waits any more.
class Rested {
public:
    explicit Rested(std::size_t count)
    {
        fake::FdPair p = fake::make_pair();
        std::atomic<std::size_t> over{0};
        for (std::size_t i = 0; i < count; ++i) {
            threads_.emplace_back([&, k = p.b] {
                char c;
                client::sock_recv(fake::attached(), k, &c, 1, 0, nullptr, nullptr);
                ++over;
                while (!end_) {
                    std::this_thread::yield();
                }
            });
        }
        auto waits = [&] {
            auto& waiters = fake::the_netd().slot(p.b.slot).app.waiters;
            return static_cast<std::size_t>(std::popcount(waiters[0].load()) + std::popcount(waiters[1].load()));
        };
        while (waits() < count) {
            std::this_thread::yield();
        }
        fake::say(p.a, std::string(count, 'x').c_str());
        while (over < count) {
            std::this_thread::yield();
        }
        fake::close_fd(p.fd_a);
        fake::close_fd(p.fd_b);
    }
    ~Rested()
    {
        end_ = true;
        for (std::thread& t : threads_) {
            t.join();
        }
    }

private:
    std::atomic<bool> end_{false};
    std::vector<std::thread> threads_;
};

} // namespace

TEST_CASE("threads that waited once leave a set its waiter")
{
    fake::FdPair p = fake::make_pair();
    fake::AllWaiters all(8);
    Rested threads(8);
    Set set;
    REQUIRE(set.add(p.fd_b, EPOLLIN) == 0);
    fake::say(p.a, "news");
    epoll_event out[4];
    CHECK(set.sleep(out, 4) == 1);
    fake::close_fd(p.fd_a);
    fake::close_fd(p.fd_b);
}

TEST_CASE("a set without a waiter is refused, and fit again once there is one")
{
    fake::FdPair p = fake::make_pair();
    Set set;
    fake::AllWaiters all(0);
    client::WaiterHandle mine;
    REQUIRE(client::thread_waiter(fake::attached(), mine) == 0);
    REQUIRE(set.add(p.fd_b, EPOLLIN) == -ENOSPC);
    client::give_thread_waiter(fake::attached(), mine);
    REQUIRE(set.add(p.fd_b, EPOLLIN) == 0);
    fake::say(p.a, "news");
    epoll_event out[4];
    CHECK(set.sleep(out, 4) == 1);
    fake::close_fd(p.fd_a);
    fake::close_fd(p.fd_b);
}

TEST_CASE("a forked child for whose set there is no waiter hears so")
{
    fake::FdPair p = fake::make_pair();
    Set set;
    REQUIRE(set.add(p.fd_b, EPOLLIN) == 0);
    fake::AllWaiters all(0);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        epoll_event out[4];
        bool good = set.set.wait(set.fd, out, 4, &patience, nullptr) == -1 && errno == ENOSPC;
        _exit(good ? 0 : 1);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    fake::close_fd(p.fd_a);
    fake::close_fd(p.fd_b);
}
