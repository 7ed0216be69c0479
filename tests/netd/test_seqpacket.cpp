// netd's socket file: stale ones are replaced, live ones and other people's files are not; packets with descriptors.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "netd/exit_codes.hpp"
#include "netd/seqpacket.hpp"

namespace {

struct Directory {
    Directory()
    {
        char name[] = "/tmp/netd-test-XXXXXX";
        path = mkdtemp(name);
    }
    ~Directory() { std::filesystem::remove_all(path); }
    std::string operator/(const char* name) const { return path + "/" + name; }
    std::string path;
};

struct Attempt {
    netd::UniqueFd fd;
    std::string error;
    int exit_code = 0;
};
Attempt try_listen(const std::string& path)
{
    Attempt a;
    a.fd = netd::listen_on(path, 0600, a.error, a.exit_code);
    return a;
}

} // namespace

TEST_CASE("a stale socket file is replaced, a live one is not")
{
    Directory dir;
    std::string path = dir / "s";
    Attempt first = try_listen(path);
    REQUIRE(first.fd);
    struct stat st {};
    REQUIRE(stat(path.c_str(), &st) == 0);
    CHECK((st.st_mode & 0777) == 0600);

    Attempt second = try_listen(path);
    CHECK(!second.fd);
    CHECK(second.error == "netd already running on " + path);
    CHECK(second.exit_code == netd::exit_unavailable);

    first.fd.reset(); // as after a crash: the file stays
    CHECK(std::filesystem::exists(path));
    Attempt third = try_listen(path);
    CHECK(third.fd);
}

TEST_CASE("what is not netd's socket is left alone")
{
    Directory dir;
    std::ofstream(dir / "file") << "precious";
    Attempt file = try_listen(dir / "file");
    CHECK(!file.fd);
    CHECK(file.exit_code == netd::exit_os);
    CHECK(std::filesystem::file_size(dir / "file") == 8);

    Attempt nowhere = try_listen(dir / "no/such/place");
    CHECK(!nowhere.fd);
    CHECK(nowhere.error.find("No such file or directory") != std::string::npos);

    Attempt endless = try_listen(std::string(200, 'x'));
    CHECK(!endless.fd);
    CHECK(endless.exit_code == netd::exit_usage);
}

TEST_CASE("a packet carries its descriptors, and a receiver without room for them gets none")
{
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
    netd::UniqueFd a(ends[0]);
    netd::UniqueFd b(ends[1]);
    int send[2] = {STDIN_FILENO, STDOUT_FILENO};
    REQUIRE(netd::send_packet(a.get(), "hello", send) == 0);
    int before = open("/dev/null", O_RDONLY);
    close(before);
    char buffer[3];
    bool whole = true;
    CHECK(netd::receive_packet(b.get(), buffer, sizeof buffer, MSG_DONTWAIT, whole) == 3);
    CHECK(!whole);
    int after = open("/dev/null", O_RDONLY);
    CHECK(after == before); // no descriptor came in
    close(after);
    CHECK(netd::receive_packet(b.get(), buffer, sizeof buffer, MSG_DONTWAIT, whole) == -EAGAIN);
    a.reset();
    CHECK(netd::receive_packet(b.get(), buffer, sizeof buffer, MSG_DONTWAIT, whole) == 0);
}

TEST_CASE("a peer that reads nothing is noticed, not waited for")
{
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
    netd::UniqueFd a(ends[0]);
    netd::UniqueFd b(ends[1]);
    std::string packet(4096, 'x');
    int error = 0;
    for (int i = 0; i < 100000 && error == 0; ++i) {
        error = netd::send_packet(a.get(), packet);
    }
    CHECK(error == EAGAIN);
    b.reset();
    CHECK(netd::send_packet(a.get(), packet) == ECONNRESET); // it left packets unread
    CHECK(netd::send_packet(a.get(), packet) == EPIPE);
}
