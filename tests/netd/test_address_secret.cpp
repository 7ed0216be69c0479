// What stable addresses are made from: the configuration's word, else this machine's id, if it is one.
#include "netd/address_secret.hpp"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

namespace {

using Secret = std::pair<std::uint64_t, std::uint64_t>;

struct IdFile {
    IdFile() { REQUIRE(mkdtemp(folder) != nullptr); }
    ~IdFile() { std::filesystem::remove_all(folder); }
    // Of a file that says this; 0, 0 where it gives none.
    Secret secret(const std::string& id, const std::string& configured = "") const
    {
        std::string path = std::string(folder) + "/machine-id";
        std::ofstream(path) << id;
        std::uint64_t words[2] = {0, 0};
        bool there = netd::address_secret(configured, path, words);
        CHECK(there == (words[0] != 0));
        return {words[0], words[1]};
    }
    char folder[32] = "/tmp/netd-secret-XXXXXX";
};

const Secret none{0, 0};

} // namespace

TEST_CASE("the configuration's word goes before the machine's id, and each gives the same every time")
{
    IdFile file;
    Secret mine = file.secret("5b3e0d6f5d3c4f0e9a8b7c6d5e4f3a2b\n");
    CHECK(mine != none);
    CHECK(file.secret("5b3e0d6f5d3c4f0e9a8b7c6d5e4f3a2b\n") == mine);
    CHECK(file.secret("00000000000000000000000000000001\n") != mine);
    Secret said = file.secret("5b3e0d6f5d3c4f0e9a8b7c6d5e4f3a2b\n", "word");
    CHECK(said != mine);
    CHECK(file.secret("", "word") == said);
}

TEST_CASE("an id that every copy of an image has is none")
{
    IdFile file;
    CHECK(file.secret("") == none);
    CHECK(file.secret("\n") == none);
    CHECK(file.secret("uninitialized\n") == none);
    CHECK(file.secret("uninitialized") == none);
    std::uint64_t words[2] = {0, 0};
    CHECK(!netd::address_secret("", "/nonexistent/machine-id", words));
    CHECK(words[0] == 0);
}
