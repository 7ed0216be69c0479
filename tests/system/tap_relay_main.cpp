// tap-relay: a bad link between two kernels' TAP devices, for the system tests. Prints "ready", runs until its standard
// input ends, then prints what it did to frames as JSON.
#include <unistd.h>

#include <cstdio>

#include <CLI/CLI.hpp>

#include "drivers/tap_relay.hpp"

namespace {

void print(const drivers::SimLinkCounters& c, const char* name, const char* end)
{
    std::printf("\"%s\": {\"lost\": %llu, \"corrupted\": %llu, \"duplicated\": %llu, \"reordered\": %llu}%s", name,
        static_cast<unsigned long long>(c.lost), static_cast<unsigned long long>(c.corrupted),
        static_cast<unsigned long long>(c.duplicated), static_cast<unsigned long long>(c.reordered), end);
}

} // namespace

int main(int argc, char** argv)
{
    CLI::App app{"Joins TAP devices of two network namespaces by a link with impairments, the same both ways."};
    drivers::TapPlace near;
    drivers::TapPlace far;
    drivers::SimLinkOptions link;
    drivers::Impairments bad;
    std::int64_t delay_us = 0;
    std::int64_t hold_us = 1000;
    app.add_option("--near", near.name_space, "path of a namespace")->required();
    app.add_option("--near-device", near.device, "its device")->required();
    app.add_option("--far", far.name_space, "path of the other namespace")->required();
    app.add_option("--far-device", far.device, "its device")->required();
    app.add_option("--loss", bad.loss, "probability");
    app.add_option("--corrupt", bad.corrupt, "probability");
    app.add_option("--duplicate", bad.duplicate, "probability");
    app.add_option("--reorder", bad.reorder, "probability");
    app.add_option("--reorder-hold-us", hold_us, "how long what is reordered is held back");
    app.add_option("--delay-us", delay_us, "one way");
    app.add_option("--seed", link.seed, "of the impairments");
    CLI11_PARSE(app, argc, argv);
    bad.delay = base::Micros{delay_us};
    bad.reorder_hold = base::Micros{hold_us};
    link.a.send = link.b.send = bad;
    link.split = true;         // every frame of the wire has its own fate
    link.csum_offload = false; // what a kernel leaves unfinished is finished before the wire
    drivers::TapRelay relay(link, near, far);
    std::string error;
    if (!relay.start(error)) {
        std::fprintf(stderr, "tap-relay: %s\n", error.c_str());
        return 1;
    }
    std::printf("ready\n");
    std::fflush(stdout);
    char byte = 0;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    std::printf("{");
    print(relay.counters(0), "near", ", ");
    print(relay.counters(1), "far", "}\n");
    return 0;
}
