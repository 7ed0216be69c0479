// The stack under test: one CPU, one interface of bare packets, made when the first call needs it, because the tool
// loads the library before the script's prologue has said how the host is configured.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "embed/netd.hpp"
#include "tests/packetdrill/pace.hpp"
#include "tests/packetdrill/packet_netif.hpp"
#include "tests/packetdrill/settings.hpp"

namespace packetdrill {

class World {
public:
    explicit World(Flags flags);
    ~World();
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    Pace& pace() { return *pace_; }
    // Prints and exits when there can be no stack. Inside pace().enter().
    embed::Stack& stack();
    client::Session& session() { return stack().session(); }
    const Settings& settings() const { return settings_; }

    void send(const void* packet, std::size_t bytes);
    // False: nothing left within the time the interface has for it.
    bool receive(Emitted& out);

private:
    void start();

    Flags flags_; // c
    std::unique_ptr<Pace> pace_;
    std::once_flag started_;
    Settings settings_; // c once started
    std::unique_ptr<embed::Stack> stack_;
    PacketNetif* netif_ = nullptr;
};

} // namespace packetdrill
