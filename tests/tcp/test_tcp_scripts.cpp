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

TEST_CASE("a script's line that is not understood to its end is an error")
{
    const char* lines[] = {"+0 < . 1:1(0) ack 1 win 65535 <nop,nop,nop,nop> tos 3", "+0 > . 1:1(0) ack 1 <> win 5",
        "+0 < .X 1:1(0) ack 1", "+0 < . 1:1(0) ack 1 <mss 1460 7>", "+0 silence now", "+0 write some",
        "+0 connect soon", "expect error 0 0", "expect eof here", "establish win 4 rrt 3", "option mtu 1500 6"};
    for (const char* line : lines) {
        INFO(line);
        std::string failure =
            tcp_test::run_script({"a.pkt", "a case", 1, {{2, "listen"}, {3, "establish"}, {4, line}}, 0});
        CHECK(failure.substr(0, 8) == "a.pkt:4 ");
    }
}
