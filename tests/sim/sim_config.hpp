// What a run is made of, all drawn from its seed: stacks, links, limits, applications, and how rough the world is.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/random.hpp"
#include "drivers/sim_link.hpp"
#include "gateway/gateway.hpp"
#include "lwkt/cpu_set.hpp"
#include "protocols/stack.hpp"

namespace sim {

// Which addresses the stacks have, and which sockets the applications make.
enum class Families : std::uint8_t { v4, v6, both };

struct NodeConfig {
    lwkt::CpuSetOptions cpus;
    protocols::StackOptions protocols;
    gateway::GatewayOptions gateway;
    bool loopback_checksums = false;
    bool loopback_super_segments = true;
    unsigned families = 1;
    unsigned clients = 2;   // applications that open connections, over all families
    unsigned listeners = 1; // ports that are served, over all families
    unsigned datagram_servers = 0;
    unsigned datagram_clients = 0;
};

struct LinkConfig {
    unsigned ends[2] = {0, 1}; // nodes
    drivers::SimLinkOptions wire;
    bool steered[2] = {true, true}; // frames reach the CPU that owns their flow
    bool advertises = false;        // the stack at end `router` is an IPv6 router to the other
    unsigned router = 0;
};

struct Config {
    std::vector<NodeConfig> nodes;
    std::vector<LinkConfig> links;
    Families families = Families::v4;
    std::uint32_t bytes_max = 0;    // of one direction of a connection
    double cpu_pauses = 0;          // chances per step
    double couriers = 0;            //
    double deaths = 0;              //
    double outages = 0;             //
    double advertisements = 0;      // of routers: what changes addresses and routes
    double ipv4_changes = 0;        // of addresses and routes
    double memory_shortages = 0;    //
    double time_jitter = 0;         // that time moves though there is work
    double spurious_wakes = 0;      // per sleep of an application
    bool direct_wakes = false;      // applications of a family may wake each other
    std::int64_t think_time_us = 0; // between connections, at most
    std::int64_t silence_us = 0;    // between requests of one connection, at most
    bool marks = false;             // stacks ask for ECN, links mark, datagrams are ECN-capable
    bool loses_nothing = false;     // no loss, corruption, outage or shortage: nothing may time out
    bool limits = false;            // sockets have paces, patience and limits of their own, and slow readers

    bool corrupts() const;   // some link does
    bool duplicates() const; //
    std::string text() const;
};

Config draw_config(std::uint64_t seed);

// An index of tcp::congestion_by_name. No DCTCP where ECN is off: it asks for ECN by itself, and the watch of the wires
// takes that for a fault there.
std::uint8_t draw_algorithm(base::Random& r, const NodeConfig& node);

} // namespace sim
