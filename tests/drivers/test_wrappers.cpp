// The wrappers around an interface, here the loopback: faults by seed, and a capture file that says what passed.
#include "driver_world.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>

#include "drivers/loopback.hpp"
#include "drivers/wrap_capture.hpp"
#include "drivers/wrap_fault.hpp"

using namespace driver_test;

namespace {

void settle(World& w)
{
    while (w.set->step()) {
    }
}

std::string new_file()
{
    char path[] = "/tmp/netd-capture-XXXXXX";
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    close(fd);
    return path;
}

Bytes read_file(const std::string& path)
{
    Bytes b(1 << 20);
    FILE* f = std::fopen(path.c_str(), "rb");
    REQUIRE(f != nullptr);
    b.resize(std::fread(b.data(), 1, b.size(), f));
    std::fclose(f);
    return b;
}

} // namespace

TEST_CASE("faults happen on the way in and on the way out, and a seed repeats them")
{
    auto run = [](std::uint64_t seed, drivers::Faults in, drivers::Faults out) {
        lwkt::VirtualClock clock;
        World w(clock);
        drivers::WrapFault netif(std::make_unique<drivers::Loopback>(), {in, out, seed});
        w.attach(netif);
        for (unsigned i = 0; i < 1000; ++i) {
            w.send(netif, pattern(100, i), i % 2 == 0 ? 50 : 0);
            settle(w);
        }
        netif.detach();
        CHECK(w.in_use() == 0);
        std::vector<Bytes> all;
        unsigned wrong = 0;
        for (const Received& r : w.received) {
            all.push_back(r.bytes);
            wrong += r.csum == netmsg::Csum::unknown ? 1 : 0;
        }
        return std::pair{all, wrong};
    };
    CHECK(run(1, {}, {}).first.size() == 1000);
    auto in = run(1, {0.2, 0, 0}, {}).first.size();
    CHECK((in > 740 && in < 860));
    auto out = run(1, {}, {0.2, 0, 0}).first.size();
    CHECK((out > 740 && out < 860));
    auto twice = run(1, {0, 0, 0.1}, {}).first.size();
    CHECK((twice > 1050 && twice < 1150));
    auto [spoiled, unknown] = run(3, {0, 0.1, 0}, {});
    CHECK(spoiled.size() == 1000);
    CHECK((unknown > 50 && unknown < 150)); // and only those must be verified
    CHECK(run(3, {0, 0.1, 0}, {}).first == spoiled);
    CHECK(run(4, {0, 0.1, 0}, {}).first != spoiled);
}

TEST_CASE("a capture holds every packet whole, sent and received, with its stamp")
{
    lwkt::VirtualClock clock;
    World w(clock);
    std::string path = new_file();
    drivers::WrapCaptureOptions options;
    options.path = path;
    options.buffer_bytes = 4096;
    drivers::WrapCapture netif(std::make_unique<drivers::Loopback>(), options);
    w.attach(netif);
    clock.advance_to(base::Instant{base::Micros{5'000'123}});
    w.send(netif, pattern(100, 1), 40);
    settle(w);
    CHECK(read_file(path).size() == 24); // nothing written by the protocol thread's net class yet
    clock.advance_to(w.set->next_deadline());
    settle(w);
    Bytes file = read_file(path);
    REQUIRE(file.size() == 24 + 2 * (16 + 100));
    std::uint32_t words[6];
    std::memcpy(words, file.data(), 24);
    CHECK(words[0] == 0xa1b2c3d4);
    CHECK(words[1] == (2U | 4U << 16));
    CHECK(words[5] == 101); // bare IP
    for (std::size_t at : {24U, 24U + 116U}) {
        std::uint32_t record[4];
        std::memcpy(record, &file[at], 16);
        CHECK(record[0] == 5);
        CHECK(record[1] == 123);
        CHECK(record[2] == 100);
        CHECK(record[3] == 100);
        auto from = file.begin() + static_cast<std::ptrdiff_t>(at + 16);
        CHECK(Bytes(from, from + 100) == pattern(100, 1));
    }
    w.set->call(0, [&](lwkt::Cpu&) { // at once: the buffer is full after two, the rest is missed and not waited for
        for (unsigned i = 0; i < 5; ++i) {
            netmsg::Packet* p = w.pool->allocate();
            p->put(1800);
            netif.transmit(*p);
        }
    });
    netif.detach();
    CHECK(netif.missed(0) >= 3);
    CHECK(w.in_use() == 0);
    unlink(path.c_str());

    options.path = "/nonexistent/file";
    drivers::WrapCapture refused(std::make_unique<drivers::Loopback>(), options);
    std::string error;
    CHECK_FALSE(refused.attach(*w.set, *w.pool, &World::input, &w, error));
    CHECK(error.find("/nonexistent/file") != std::string::npos);
}

TEST_CASE("a capture that cannot be written whole ends there, and all before that can be read")
{
    lwkt::VirtualClock clock;
    World w(clock);
    std::string path = new_file();
    drivers::WrapCaptureOptions options;
    options.path = path;
    drivers::WrapCapture netif(std::make_unique<drivers::Loopback>(), options);
    w.attach(netif);
    auto pass = [&] { // two records of 16 + 100
        w.send(netif, pattern(100, 1));
        settle(w);
        clock.advance_to(w.set->next_deadline());
        settle(w);
    };
    pass();
    rlimit before{};
    REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
    signal(SIGXFSZ, SIG_IGN);
    rlimit full{24 + 3 * 116 + 50, before.rlim_max}; // as a disk that is full, in the middle of a record
    REQUIRE(setrlimit(RLIMIT_FSIZE, &full) == 0);
    pass();
    REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
    signal(SIGXFSZ, SIG_DFL);
    pass(); // there is room again
    netif.detach();
    CHECK(netif.missed(0) == 4);
    Bytes file = read_file(path);
    unsigned records = 0;
    for (std::size_t at = 24; at + 16 + 100 <= file.size(); at += 16 + 100) {
        std::uint32_t record[4];
        std::memcpy(record, &file[at], sizeof record);
        CHECK((record[2] == 100 && record[3] == 100));
        ++records;
    }
    CHECK(records == 3);
    unlink(path.c_str());
}
