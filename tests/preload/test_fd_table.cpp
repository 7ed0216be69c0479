// The descriptor table: dups share an entry, calls in flight outlive a close, numbers are reused safely.
#include <thread>

#include "tests/preload/fixture.hpp"

using namespace preload;

TEST_CASE("a close while a call is in flight frees nothing until the call ends")
{
    fake::FdPair p = fake::make_pair();
    {
        Held held(p.fd_a);
        REQUIRE(held.netd() != nullptr);
        fake::close_fd(p.fd_a);
        CHECK(peek(p.fd_a) == nullptr);
        fake::say(p.a, "still"); // the socket is open
        CHECK(fake::hear(p.b) == 5);
    }
    CHECK(fake::hear(p.b) == 0); // the reference was the last: FIN
    fake::close_fd(p.fd_b);
}

TEST_CASE("dups share a socket; the last close ends it")
{
    fake::FdPair p = fake::make_pair();
    int copy = ::dup(p.fd_a);
    {
        std::lock_guard lock(table_mutex);
        REQUIRE(add_dup(copy, peek(p.fd_a)) == nullptr);
        CHECK(fds_of(peek(copy)) == std::vector<int>{std::min(copy, p.fd_a), std::max(copy, p.fd_a)});
    }
    fake::close_fd(p.fd_a);
    fake::say(p.a, "x");
    CHECK(fake::hear(p.b) == 1);
    fake::close_fd(copy);
    CHECK(fake::hear(p.b) == 0);
    fake::close_fd(p.fd_b);
}

TEST_CASE("references taken while others close and reuse the number are of what is there")
{
    fake::attached();
    constexpr int fd = 900;
    std::atomic<bool> stop{false};
    std::atomic<int> wrong{0};
    std::thread reader([&] {
        while (!stop.load()) {
            Held h(fd);
            if (h.get() != nullptr && (h.get()->domain < 1000 || h.get()->refs.load() == 0)) {
                wrong.fetch_add(1);
            }
        }
    });
    for (int i = 0; i < 20000; ++i) {
        Entry* e;
        {
            std::lock_guard lock(table_mutex);
            e = new_entry(EntryState::undecided);
            e->domain = 1000 + i;
            install(fd, e);
        }
        {
            std::lock_guard lock(table_mutex);
            REQUIRE(uninstall(fd) == e);
        }
        unref(e);
    }
    stop.store(true);
    reader.join();
    CHECK(wrong.load() == 0);
}

TEST_CASE("the library's own descriptors are known")
{
    fake::attached();
    std::vector<int> own = own_fds();
    REQUIRE_FALSE(own.empty());
    for (int fd : own) {
        CHECK(is_own(fd));
    }
    CHECK_FALSE(is_own(0));
    CHECK_FALSE(is_own(-1));
    CHECK_FALSE(is_own(fds_max + 5));
}
