// The doorbells of one family, one of each CPU: made when it attaches, given to its processes, closed when it ends.
// Other families have others, and netd's own CPUs ring each other by none of them (decision 0033). Main thread.
#pragma once

#include <utility>
#include <vector>

#include "lwkt/cpu_set.hpp"

namespace netd {

class Doorbells {
public:
    explicit Doorbells(lwkt::CpuSet& set) : set_(set)
    {
        while (fds_.size() < set.size()) {
            int fd = set.cpu(static_cast<base::CpuId>(fds_.size())).add_doorbell();
            if (fd < 0) {
                return;
            }
            fds_.push_back(fd);
        }
    }
    ~Doorbells()
    {
        for (std::size_t i = 0; i < fds_.size(); ++i) {
            set_.cpu(static_cast<base::CpuId>(i)).remove_doorbell(fds_[i]);
        }
    }
    Doorbells(Doorbells&& other) noexcept : set_(other.set_), fds_(std::exchange(other.fds_, {})) {}
    Doorbells& operator=(Doorbells&&) = delete;

    bool complete() const { return fds_.size() == set_.size(); } // false: no descriptors
    const std::vector<int>& fds() const { return fds_; }         // element i: of CPU i

private:
    lwkt::CpuSet& set_; // c
    std::vector<int> fds_;
};

} // namespace netd
