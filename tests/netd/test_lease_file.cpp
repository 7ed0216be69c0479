// The file that keeps a DHCP lease's address over netd's end.
#include "netd/lease_file.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <catch2/catch.hpp>

using netd::LeaseFile;

namespace {

struct Folder {
    Folder() : path((std::filesystem::temp_directory_path() / "netd-lease-XXXXXX").string())
    {
        REQUIRE(mkdtemp(path.data()) != nullptr);
    }
    ~Folder() { std::filesystem::remove_all(path); }
    std::string path;
};

std::string content(const std::string& path)
{
    std::ifstream in(path);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

} // namespace

TEST_CASE("what was put last is found by the next one; nothing is left of a lease that was given back")
{
    Folder folder;
    std::string path = folder.path + "/nd0";
    {
        LeaseFile first(path);
        CHECK(first.found() == 0);
        first.put(0x0a050006);
        first.put(0x0a050007);
    }
    CHECK(content(path) == "10.5.0.7\n");
    {
        LeaseFile second(path);
        CHECK(second.found() == 0x0a050007);
    }
    CHECK(content(path) == "10.5.0.7\n"); // nobody said otherwise
    {
        LeaseFile third(path);
        third.put(0);
    }
    CHECK(std::filesystem::is_empty(folder.path));
}

TEST_CASE("a file of nonsense is no address, and a folder that is not there harms nobody")
{
    Folder folder;
    std::string path = folder.path + "/nd0";
    for (const char* text :
        {"", "\n", "fd00::1\n", "10.5.0\n", "10.5.0.7 and more\n", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}) {
        std::ofstream(path) << text;
        CHECK(LeaseFile(path).found() == 0);
    }
    LeaseFile nowhere(folder.path + "/none/nd0");
    nowhere.put(0x0a050007);
}

TEST_CASE("the file is in STATE_DIRECTORY, or beside the socket")
{
    unsetenv("STATE_DIRECTORY");
    CHECK(netd::lease_path("/run/netd.sock", "nd0") == "/run/netd.sock.nd0.lease");
    CHECK(netd::lease_path("s", "nd0") == "s.nd0.lease");
    setenv("STATE_DIRECTORY", "/var/lib/netd:/other", 1);
    CHECK(netd::lease_path("/run/netd.sock", "nd0") == "/var/lib/netd/netd.sock.nd0.lease");
    unsetenv("STATE_DIRECTORY");
}
