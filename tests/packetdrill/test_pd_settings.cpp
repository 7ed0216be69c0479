// What --so_flags may say, and what the stand-ins' file is read as.
#include <catch2/catch.hpp>

#include "tests/packetdrill/settings.hpp"

using packetdrill::parse_flags;
using packetdrill::Settings;

TEST_CASE("packetdrill flags: all of them")
{
    std::string error;
    auto f = parse_flags("local=192.168.0.1/16,remote=192.0.2.1/32,gateway=192.168.0.1,mtu=1520,time=real", error);
    REQUIRE(f);
    CHECK(f->local == std::vector<std::string>{"192.168.0.1/16"});
    CHECK(base::to_string(f->remote.at(0)) == "192.0.2.1");
    CHECK(base::to_string(f->gateway.at(0)) == "192.168.0.1");
    CHECK(f->mtu == 1520);
    CHECK_FALSE(f->virtual_time);
}

TEST_CASE("packetdrill flags: defaults, and keys that repeat")
{
    std::string error;
    auto f = parse_flags(
        "local=192.168.0.1/16,local=fd3d:a0b:17d6::1/48,remote=192.0.2.1/32,remote=fd3d:fa7b:d17d::1/48", error);
    REQUIRE(f);
    CHECK(f->local.size() == 2);
    CHECK(f->remote.size() == 2);
    CHECK(f->gateway.empty());
    CHECK(f->mtu == 1500);
    CHECK(f->virtual_time);
}

TEST_CASE("packetdrill flags: what is not understood is refused by name")
{
    for (const char* text : {"local=192.168.0.1/16,remote=192.0.2.1/32,colour=red", "local=192.168.0.1",
             "local=192.168.0.1/33,remote=192.0.2.1", "local=10.0.0.1/8,remote=10.0.0.2,mtu=12",
             "local=10.0.0.1/8,remote=10.0.0.2,mtu=1500x", "local=10.0.0.1/8,remote=10.0.0.2,time=slow", "local",
             "remote=10.0.0.2", ""}) {
        std::string error;
        CHECK_FALSE(parse_flags(text, error));
        CHECK_FALSE(error.empty());
    }
}

TEST_CASE("packetdrill settings: the last line of a key counts, what is no line of the form is passed over")
{
    Settings s = Settings::parse("net.ipv4.tcp_sack=0\nnonsense\nnet.ipv4.tcp_sack=1\nnet.ipv4.tcp_timestamps=0\n"
                                 "net.ipv4.tcp_congestion_control=reno\nnet.ipv4.tcp_rmem=4096 131072 6291456");
    CHECK(s.on("net.ipv4.tcp_sack", false));
    CHECK_FALSE(s.on("net.ipv4.tcp_timestamps", true));
    CHECK(s.on("net.ipv4.tcp_window_scaling", true));
    CHECK(s.text("net.ipv4.tcp_congestion_control") == "reno");
    CHECK_FALSE(s.number("net.ipv4.tcp_rmem"));
    CHECK_FALSE(s.number("net.ipv4.tcp_syn_retries"));
}
