// What the caller says of the network (--so_flags), and the sysctls that a script's prologue set (a file that the
// stand-ins in bin/ write). Both are read by the thread that starts the stack.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/net_addr.hpp"

namespace packetdrill {

struct Flags {
    std::vector<std::string> local;    // address/length
    std::vector<base::IpAddr> remote;  // the tool's side
    std::vector<base::IpAddr> gateway; // none: the peer is on the link
    std::uint32_t mtu = 1500;
    bool virtual_time = true;
};

// local=ADDR/LEN,remote=ADDR/LEN[,gateway=ADDR][,mtu=N][,time=virtual|real]; nothing and `error` when it is not so.
std::optional<Flags> parse_flags(std::string_view text, std::string& error);

// key=value lines; a key that is not there is not set.
class Settings {
public:
    static Settings parse(std::string_view text);
    // /tmp/pd-PID.conf if it is a file of this user; else empty.
    static Settings of_process(std::string_view pid);

    bool on(const std::string& key, bool otherwise) const;
    std::optional<std::string> text(const std::string& key) const;
    std::optional<long> number(const std::string& key) const;

private:
    std::map<std::string, std::string, std::less<>> values_;
};

} // namespace packetdrill
