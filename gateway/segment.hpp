// The memory of one family: a memfd of the ABI's layout, created, sealed against resizing and mapped by us. Also the
// sleep page, which applications map read-only. Any thread; c after construction.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/net_addr.hpp"
#include "sockbuf/segment_view.hpp"

namespace gateway {

struct SegmentOptions {
    std::uint32_t sockets = 16384;                       // multiple of 64
    std::uint64_t ring_memory = std::uint64_t{16} << 30; // address space for rings; pages are taken when touched
};

struct Announced {
    base::Prefix prefix;
    bool local = false;
};

class Segment {
public:
    Segment() = default;
    ~Segment();
    Segment(const Segment&) = delete;
    Segment& operator=(const Segment&) = delete;

    // pins: per CPU of the stack, where its protocol thread is pinned (-1 = nowhere). False with `error` set (memory,
    // descriptors).
    bool create(const std::vector<int>& pins, const SegmentOptions& options, const std::vector<Announced>& prefixes,
        std::string& error);

    // From now on our writes go to a copy of ours; the applications' memory stays as it is. False, with errno: no
    // memory for that, and nothing has changed.
    bool part();

    int fd() const { return fd_; } // for SCM_RIGHTS
    std::uint64_t bytes() const { return view_.layout().bytes; }
    const sockbuf::SegmentView& view() const { return view_; } // over a private copy of the layout

private:
    int fd_ = -1;               // c
    sockbuf::SegmentView view_; // c
};

// One 64-byte line per CPU in a memfd: written by netd, mapped read-only by applications (F_SEAL_FUTURE_WRITE).
class SleepPage {
public:
    ~SleepPage();
    bool create(std::uint32_t cpus, std::string& error);
    int fd() const { return fd_; }
    std::atomic<std::uint32_t>* words() const { return words_; } // for lwkt::CpuSetOptions::sleep_words
    std::uint32_t bytes() const { return bytes_; }

private:
    int fd_ = -1;                                 // c
    std::atomic<std::uint32_t>* words_ = nullptr; // c
    std::uint32_t bytes_ = 0;                     // c
};

} // namespace gateway
