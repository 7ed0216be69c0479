// One packet script being run: the host under test on a virtual clock, the peer's numbers, what the application has
// open. The lines it understands are in packet_script.hpp. One thread.
#pragma once

#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "lwkt/clock.hpp"
#include "tests/tcp/packet_script.hpp"
#include "tests/tcp/script_wire.hpp"
#include "tests/tcp/tcp_host.hpp"

namespace tcp_test {

struct Failure {
    std::string what;
};

// One case being run.
class Runner {
public:
    void line(const std::string& text);
    void finish();

private:
    void option(std::stringstream& words);
    void timed(const std::string& text);
    void action(const std::string& verb, std::stringstream& words);
    void expect(std::stringstream& words);
    void establish(const std::string& rest);
    void inject(const std::string& text);
    std::vector<unsigned char> packet(const std::string& text);
    void must_send(const std::string& text, base::Instant at);
    void icmp(std::stringstream& words);
    void counter(const std::string& name, std::uint64_t want);

    Host& host();
    void settle();
    void advance_to(base::Instant t);
    void silent();
    App& app();
    void listen(std::stringstream& words);
    std::size_t waiting_for_accept() const;
    void find_accepted();
    static void nothing_left(std::stringstream& words);
    [[noreturn]] static void fail(const std::string& what) { throw Failure{what}; }

    std::uint32_t mtu_ = 1500;
    std::uint32_t tso_ = 0;
    std::uint32_t gso_ = 0;
    bool gro_ = false;
    HostOptions options_;
    lwkt::VirtualClock clock_;
    std::unique_ptr<Host> host_;
    ScriptNetif* netif_ = nullptr;
    Numbering numbers_{0, 0x7ffffff0U, 0, false, false, {}};
    base::Instant at_{};                           // script time
    std::vector<std::vector<unsigned char>> held_; // arrive with the next packet, in one batch
    std::vector<App*> listeners_;                  // oldest first
    App* app_ = nullptr;
};

} // namespace tcp_test
