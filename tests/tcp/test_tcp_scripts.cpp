// Runs every packet script. The directory is given by the build; --list-tests and one failure per case are not needed:
// the message names file, line and title.
#include <catch2/catch.hpp>

#include <cstdlib>

#include "tests/tcp/packet_script.hpp"

TEST_CASE("packet scripts")
{
    auto cases = tcp_test::load_scripts(NETD_TCP_SCRIPTS);
    REQUIRE(cases.size() >= 60);
    const char* only = std::getenv("NETD_TCP_SCRIPT"); // part of a title
    for (const auto& c : cases) {
        if (only == nullptr || c.title.find(only) != std::string::npos) {
            std::string failure = tcp_test::run_script(c);
            INFO(failure);
            CHECK(failure.empty());
        }
    }
}
