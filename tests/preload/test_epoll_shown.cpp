// What a set of netd's sockets shows to those who wait for its descriptor: poll, and sets that it is in.
#include <sys/eventfd.h>

#include "tests/preload/epoll_fixture.hpp"

using namespace preload;
using namespace fake;

TEST_CASE("a set in a set that has no socket of its own")
{
    fake::FdPair p = fake::make_pair();
    fake::FdPair quiet = fake::make_pair();
    Set inner;
    Set middle;
    Set outer;
    Listed inner_listed(inner);
    Listed middle_listed(middle);
    Listed outer_listed(outer);
    REQUIRE(inner.add(p.fd_b, EPOLLIN) == 0);
    bool three = GENERATE(false, true);
    if (three) {
        REQUIRE(middle.add(inner.fd, EPOLLIN) == 0);
    }
    REQUIRE(outer.add(three ? middle.fd : inner.fd, EPOLLIN) == 0);
    epoll_event out[4];
    SECTION("asleep")
    {
        std::atomic<int> found{-1};
        std::thread waits([&] { found = outer.set.wait_for_kernel(outer.fd, out, 4, &patience, nullptr); });
        fake::say(p.a, "x");
        waits.join();
        CHECK(found.load() == 1);
    }
    SECTION("asked")
    {
        fake::say(p.a, "x");
        REQUIRE(inner.sleep(out, 4) == 1);
        CHECK(outer.set.wait_for_kernel(outer.fd, out, 4, &at_once, nullptr) == 1);
        CHECK(polled(outer.fd, at_once) == 1);
    }
    SECTION("asked, beside a socket of netd")
    {
        REQUIRE(outer.add(quiet.fd_b, EPOLLIN) == 0);
        fake::say(p.a, "x");
        REQUIRE(inner.sleep(out, 4) == 1);
        CHECK(outer.set.wait(outer.fd, out, 4, &at_once, nullptr) == 1);
    }
    SECTION("polled")
    {
        std::atomic<int> found{-1};
        std::thread waits([&] { found = polled(outer.fd, patience); });
        fake::say(p.a, "x");
        waits.join();
        CHECK(found.load() == 1);
    }
    for (int fd : {p.fd_a, p.fd_b, quiet.fd_a, quiet.fd_b}) {
        fake::close_fd(fd);
    }
}

namespace {

// Wakes whoever waits in the set for ever, by a descriptor of the kernel. True: that was necessary.
class Rescue {
public:
    explicit Rescue(Set& set) : event_(eventfd(0, EFD_NONBLOCK))
    {
        epoll_event e{EPOLLIN, {}};
        e.data.fd = event_;
        REQUIRE(::epoll_ctl(set.fd, EPOLL_CTL_ADD, event_, &e) == 0);
        thread_ = std::thread([this] {
            pollfd never{-1, 0, 0};
            for (int i = 0; i < 500 && !over_; ++i) {
                ::poll(&never, 1, 10);
            }
            needed_ = !over_;
            std::uint64_t one = 1;
            REQUIRE(::write(event_, &one, sizeof one) == sizeof one);
        });
    }
    ~Rescue() { ::close(event_); }
    Rescue(const Rescue&) = delete;
    Rescue& operator=(const Rescue&) = delete;
    bool needed()
    {
        over_ = true;
        thread_.join();
        return needed_;
    }

private:
    int event_;
    std::atomic<bool> over_{false};
    std::atomic<bool> needed_{false};
    std::thread thread_;
};

} // namespace

TEST_CASE("what a set showed ends with its last socket")
{
    fake::FdPair p = fake::make_pair();
    Set set;
    REQUIRE(set.add(p.fd_b, EPOLLIN) == 0);
    epoll_event out[4];
    fake::say(p.a, "x");
    REQUIRE(set.sleep(out, 4) == 1);
    set.set.expose();
    fake::close_fd(p.fd_b);
    Rescue rescue(set);
    CHECK(set.set.wait_for_kernel(set.fd, out, 4, &at_once, nullptr) == 0);
    CHECK_FALSE(rescue.needed());
    fake::close_fd(p.fd_a);
}

TEST_CASE("what a set showed ends when the program reads the socket")
{
    fake::FdPair p = fake::make_pair();
    Set set;
    Listed listed(set);
    REQUIRE(set.add(p.fd_b, EPOLLIN) == 0);
    epoll_event out[4];
    fake::say(p.a, "x");
    REQUIRE(set.sleep(out, 4) == 1);
    CHECK(polled(set.fd, at_once) == 1);
    CHECK(fake::hear(p.b) == 1);
    CHECK(polled(set.fd, at_once) == 0);
    fake::close_fd(p.fd_a);
    fake::close_fd(p.fd_b);
}

TEST_CASE("who polls a set hears of what becomes of it meanwhile")
{
    fake::FdPair p = fake::make_pair();
    fake::FdPair quiet = fake::make_pair();
    Set set;
    Set outer;
    Listed listed(set);
    Listed outer_listed(outer);
    REQUIRE(outer.add(set.fd, EPOLLIN) == 0);
    bool nested = GENERATE(false, true);
    std::function<int()> poll = [&] {
        epoll_event out[1];
        return nested ? outer.set.wait_for_kernel(outer.fd, out, 1, &patience, nullptr) : polled(set.fd, patience);
    };
    auto arrived = [&] {
        fake::say(p.a, "x");
        while (client::sock_readiness(set.s, p.b, EPOLLIN) == 0) {
        }
    };
    SECTION("a ready member is added")
    {
        REQUIRE(set.add(quiet.fd_b, EPOLLIN) == 0);
        arrived();
        Early early(poll);
        REQUIRE(set.add(p.fd_b, EPOLLIN) == 0);
        CHECK(early.end() == 1);
    }
    SECTION("a ready member is enabled")
    {
        REQUIRE(set.add(p.fd_b, EPOLLIN | EPOLLONESHOT) == 0);
        arrived();
        CHECK(set.now(p.fd_b) == EPOLLIN);
        Early early(poll);
        REQUIRE(set.control(EPOLL_CTL_MOD, p.fd_b, EPOLLIN | EPOLLONESHOT) == 0);
        CHECK(early.end() == 1);
    }
    SECTION("another thread has waited in it")
    {
        REQUIRE(set.add(p.fd_b, EPOLLIN) == 0);
        Early early(poll);
        timespec brief{0, 3'000'000};
        epoll_event out[1];
        CHECK(set.set.wait(set.fd, out, 1, &brief, nullptr) == 0);
        arrived();
        CHECK(early.end() == 1);
    }
    SECTION("its first socket comes")
    {
        Early early(poll);
        REQUIRE(set.add(p.fd_b, EPOLLIN) == 0);
        arrived();
        CHECK(early.end() == 1);
    }
    for (int fd : {p.fd_a, p.fd_b, quiet.fd_a, quiet.fd_b}) {
        fake::close_fd(fd);
    }
}
