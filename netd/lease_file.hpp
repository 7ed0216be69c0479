// The address that an interface's DHCP client had, kept over the end of netd in a file of one line. put() is for one
// protocol thread and does not wait: a thread of its own writes. Gone when the lease was given back.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>

namespace netd {

class LeaseFile {
public:
    explicit LeaseFile(std::string path);
    ~LeaseFile(); // nobody puts any more; what was put last is written
    LeaseFile(const LeaseFile&) = delete;
    LeaseFile& operator=(const LeaseFile&) = delete;

    // What an earlier netd left, host order; 0: nothing, or nothing sensible.
    std::uint32_t found() const { return found_; }
    void put(std::uint32_t address); // 0 = none

private:
    void serve();
    void write(std::uint32_t address) const;

    const std::string path_;
    const std::uint32_t found_;
    // The address, `stop`, and above it a count, so that no change is missed.
    static constexpr std::uint64_t stop = std::uint64_t{1} << 32;
    std::atomic<std::uint64_t> wanted_;
    std::thread writer_;
};

// Where it is for an interface: in $STATE_DIRECTORY, else beside netd's socket.
std::string lease_path(const std::string& socket, const std::string& interface);

} // namespace netd
