// Faults over watched memory are survived, others are not hidden.
#include <catch2/catch.hpp>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "netd/bus_guard.hpp"

namespace {

constexpr std::size_t size = 65536;

// A mapping whose file is then cut off, so that every touch faults.
volatile char* broken_memory()
{
    int fd = memfd_create("broken", MFD_CLOEXEC);
    REQUIRE(ftruncate(fd, size) == 0);
    void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(p != MAP_FAILED);
    REQUIRE(ftruncate(fd, 0) == 0);
    close(fd);
    return static_cast<volatile char*>(p);
}
void* address(volatile char* p)
{
    return const_cast<char*>(p);
}

} // namespace

TEST_CASE("a fault in a watched segment reads zero and marks its client once")
{
    netd::BusGuard guard(4);
    volatile char* one = broken_memory();
    volatile char* two = broken_memory();
    REQUIRE(guard.watch(address(one), size, 11));
    REQUIRE(guard.watch(address(two), size, 22));
    CHECK(guard.take_marked().empty());
    CHECK(two[size - 1] == 0);
    two[5] = 1; // and can be written
    CHECK(two[5] == 1);
    CHECK(guard.take_marked() == std::vector<std::uint32_t>{22});
    CHECK(guard.take_marked().empty());
    CHECK(one[0] == 0);
    CHECK(guard.take_marked() == std::vector<std::uint32_t>{11});
    munmap(address(one), size);
    munmap(address(two), size);
}

TEST_CASE("entries of clients that are gone are used again, never those of others")
{
    netd::BusGuard guard(2);
    volatile char* memory[3] = {broken_memory(), broken_memory(), broken_memory()};
    REQUIRE(guard.watch(address(memory[0]), size, 1));
    REQUIRE(guard.watch(address(memory[1]), size, 2));
    CHECK(!guard.watch(address(memory[2]), size, 3));
    guard.unwatch(1);
    CHECK(memory[0][0] == 0); // still guarded: the protocols may use it for a while
    CHECK(guard.take_marked() == std::vector<std::uint32_t>{1});
    REQUIRE(guard.watch(address(memory[2]), size, 3));
    CHECK(memory[2][0] == 0);
    CHECK(memory[1][0] == 0);
    CHECK(guard.take_marked().size() == 2);
    for (volatile char* p : memory) {
        munmap(address(p), size);
    }
}

TEST_CASE("a range that is used again while it is looked at is never half the old and half the new one")
{
    netd::GuardedRange r;
    r.set(0x9000, 0xa000);
    bool first = true;
    auto once = [&](auto what) {
        if (std::exchange(first, false)) {
            what();
        }
    };
    auto got = r.get([&] { once([&] { r.set(0x2000, 0x3000); }); });
    CHECK(got == std::pair<std::uintptr_t, std::uintptr_t>{0x2000, 0x3000});
    first = true;
    got = r.get([&] { once([&] { r.clear(); }); });
    CHECK(got.second == 0);
}

TEST_CASE("a fault elsewhere ends the process with SIGBUS")
{
    pid_t pid = fork();
    if (pid == 0) {
        netd::BusGuard guard(2);
        int fd = memfd_create("other", MFD_CLOEXEC);
        void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        guard.watch(&guard, 1, 1);
        _exit(*static_cast<volatile char*>(p));
    }
    int status = 0;
    REQUIRE(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGBUS);
}
