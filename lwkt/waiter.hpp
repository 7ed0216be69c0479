// The one place where a protocol thread sleeps: on its doorbells, the descriptors of its pollers and a deadline. Owner:
// the CPU's protocol thread. Readiness is level-triggered: a descriptor that is still readable ends the next wait at
// once, so nothing that became ready while the CPU was awake is lost.
#pragma once

#include <memory>
#include <vector>

#include "base/units.hpp"
#include "lwkt/cpu_set.hpp"

namespace lwkt {

class Waiter {
public:
    // Null when the kernel refuses (io_uring disabled by sysctl or a sandbox, out of locked memory).
    static std::unique_ptr<Waiter> make(WaiterKind kind, int doorbell_fd, int doorbells_fd);

    // doorbells_fd: an epoll of the doorbells that others have (Cpu::add_doorbell); -1 = none.
    Waiter(int doorbell_fd, int doorbells_fd) : doorbell_fd_(doorbell_fd), doorbells_fd_(doorbells_fd) {}
    virtual ~Waiter() = default;
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;

    // The descriptors to watch besides the doorbells: sorted, each once. Cheap when nothing changed. A descriptor that
    // is dropped is no longer referenced by the kernel's watch when this returns.
    void watch_only(const std::vector<int>& fds);

    // Returns when a watched descriptor is readable, at or after `timeout` (Micros::max() = none), or spuriously; a
    // doorbell that rang is reset before the return.
    virtual void wait(base::Micros timeout) = 0;
    virtual const char* name() const = 0;

protected:
    virtual void watch(int fd) = 0;
    virtual void unwatch(int fd) = 0;
    int doorbell_fd() const { return doorbell_fd_; }
    int doorbells_fd() const { return doorbells_fd_; }
    bool is_doorbell(int fd) const { return fd == doorbell_fd_ || fd == doorbells_fd_; }
    void reset_doorbell(int fd) const; // one of the two

private:
    int doorbell_fd_;          // c
    int doorbells_fd_;         // c
    std::vector<int> watched_; // o: sorted
};

std::unique_ptr<Waiter> make_uring_waiter(int doorbell_fd, int doorbells_fd);
std::unique_ptr<Waiter> make_epoll_waiter(int doorbell_fd, int doorbells_fd);

} // namespace lwkt
