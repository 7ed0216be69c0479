// The daemon put together: CPUs, stack, interfaces, routes, gateway, admission; started in that order, taken down in
// the reverse one. Main thread.
#pragma once

#include <list>
#include <memory>
#include <string>

#include "gateway/gateway.hpp"
#include "lwkt/clock.hpp"
#include "netd/config.hpp"
#include "netd/lease_file.hpp"
#include "netd/start_check.hpp"
#include "netd/unique_fd.hpp"

namespace netd {

// netd's socket; its file goes with it, unless somebody else's stands there by then.
class SocketFile {
public:
    SocketFile(const std::string& path, unsigned mode); // throws StartFailure
    ~SocketFile();
    SocketFile(const SocketFile&) = delete;
    SocketFile& operator=(const SocketFile&) = delete;
    int fd() const { return fd_.get(); }

private:
    std::string path_;
    UniqueFd fd_;
    ino_t inode_ = 0;
};

class Daemon {
public:
    // Everything but the threads. Throws StartFailure.
    explicit Daemon(const Config& config);
    ~Daemon();
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;

    // Serves until a signal that ends netd (blocked in every thread, read from `signal_fd`).
    void run(int signal_fd);

private:
    void add_interfaces();
    void remember_lease(protocols::Interface& in);
    void add_routes();
    void make_gateway();
    void log_start() const;
    void close_down();
    void release_leases();

    const Config& config_;
    std::vector<int> pins_;
    SocketFile socket_;
    lwkt::RealClock clock_;
    gateway::SleepPage sleep_page_;
    std::list<LeaseFile> lease_files_; // outlive the CPUs, which write to them
    std::unique_ptr<lwkt::CpuSet> set_;
    std::unique_ptr<protocols::Stack> stack_;
    std::unique_ptr<gateway::Gateway> gateway_;
};

} // namespace netd
