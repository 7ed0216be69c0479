// Thread cancellation in the interposed calls: where POSIX asks for it, and nowhere else. A cancel that is pending when
// a call begins acts in it or behind it.
#include <pthread.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

#include <poll.h>

#include <cstdlib>
#include <functional>

#include "tests/preload/calls_fixture.hpp"

using namespace preload;

namespace {

struct Outcome {
    bool returned = false;  // from the call
    bool cancelled = false; // in it, or at the next cancellation point
};

// Runs `call` in a thread that was cancelled before.
Outcome cancelled_in(std::function<void()> call)
{
    struct Run {
        std::function<void()> call;
        Outcome outcome;
    } run{std::move(call), {}};
    auto body = [](void* argument) -> void* {
        auto* r = static_cast<Run*>(argument);
        pthread_cancel(pthread_self());
        r->call();
        r->outcome.returned = true;
        pthread_testcancel();
        return nullptr;
    };
    pthread_t thread;
    REQUIRE(pthread_create(&thread, nullptr, body, &run) == 0);
    void* end = nullptr;
    REQUIRE(pthread_join(thread, &end) == 0);
    run.outcome.cancelled = end == PTHREAD_CANCELED;
    return run.outcome;
}

} // namespace

TEST_CASE("calls that may sleep are cancellation points also where they need not")
{
    fake::Connected c;
    fake::say(c.pair.a, "x");
    char byte;
    iovec piece{&byte, 1};
    msghdr m{};
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    std::function<void()> calls[] = {
        [&] { static_cast<void>(::read(c.b, &byte, 1)); },
        [&] { static_cast<void>(::readv(c.b, &piece, 1)); },
        [&] { ::recv(c.b, &byte, 1, 0); },
        [&] { ::recvmsg(c.b, &m, 0); },
        [&] { static_cast<void>(::write(c.b, "y", 1)); },
        [&] { static_cast<void>(::writev(c.b, &piece, 1)); },
        [&] { ::send(c.b, "y", 1, 0); },
        [&] { ::sendmsg(c.b, &m, 0); },
        [&] { ::accept(c.b, nullptr, nullptr); },
        [&] {
            pollfd p{c.b, POLLIN, 0};
            ::poll(&p, 1, 0);
        },
    };
    for (const auto& call : calls) {
        Outcome o = cancelled_in(call);
        CHECK(o.cancelled);
        CHECK_FALSE(o.returned);
    }
    CHECK(fake::heard(c.b) == "x"); // nothing was taken
    CHECK(fake::heard(c.a, MSG_DONTWAIT) == fake::failed(EAGAIN));
}

TEST_CASE("a call by number is no cancellation point")
{
    fake::Connected c;
    Outcome o = cancelled_in([&] { ::syscall(SYS_write, c.a, "y", 1); });
    CHECK(o.returned);
    CHECK(o.cancelled);
    CHECK(fake::heard(c.b) == "y");
}

TEST_CASE("a close that is cancelled has closed nothing")
{
    fake::Connected c;
    Outcome o = cancelled_in([&] { ::close(c.b); });
    CHECK(o.cancelled);
    CHECK_FALSE(o.returned);
    REQUIRE(peek(c.b) != nullptr);
    fake::say(c.pair.a, "here");
    CHECK(fake::heard(c.b) == "here");
}

TEST_CASE("calls that libc declares not to throw are no cancellation points")
{
    fake::Connected c;
    char name[] = "/tmp/netd-test-cancel-XXXXXX";
    int file = ::mkstemp(name);
    REQUIRE(file >= 0);
    ::unlink(name);
    REQUIRE(::write(file, "text", 4) == 4);
    off_t at = 0;
    Outcome o = cancelled_in([&] { ::sendfile(c.a, file, &at, 4); });
    CHECK(o.returned);
    CHECK(o.cancelled);
    CHECK(fake::heard(c.b) == "text");
    int s = -1;
    o = cancelled_in([&] {
        s = ::socket(test::family(), SOCK_STREAM, 0);
        fake::Address anywhere;
        anywhere.storage.ss_family = static_cast<sa_family_t>(test::family());
        ::bind(s, anywhere.get(), anywhere.size);
    });
    CHECK(o.returned);
    CHECK(o.cancelled);
    CHECK(Held(s).netd() != nullptr);
    ::close(s);
    // The last reference lingers until the peer has it all.
    linger option{1, 1};
    REQUIRE(::setsockopt(c.a, SOL_SOCKET, SO_LINGER, &option, sizeof option) == 0);
    std::string much(20'000, 'x'); // more than the peer's ring
    REQUIRE(::send(c.a, much.data(), much.size(), 0) == 20'000);
    o = cancelled_in([&] { ::dup2(file, c.a); });
    CHECK(o.returned);
    CHECK(o.cancelled);
    ::close(file);
}
