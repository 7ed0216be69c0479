#include "gateway/segment.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace gateway {

namespace {

// A sealed memfd of `bytes`, mapped shared and writable here. `seals` are added after mapping.
void* make_memory(const char* name, std::uint64_t bytes, int seals, int& fd, std::string& error)
{
    fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
        error = std::string("memfd: ") + std::strerror(errno);
        return nullptr;
    }
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (memory == MAP_FAILED) {
        error = std::string("mmap of a segment: ") + std::strerror(errno);
        return nullptr;
    }
    if (fcntl(fd, F_ADD_SEALS, seals) != 0) {
        error = std::string("sealing a segment: ") + std::strerror(errno);
        munmap(memory, bytes);
        return nullptr;
    }
    return memory;
}

} // namespace

bool Segment::create(const std::vector<int>& pins, const SegmentOptions& options,
    const std::vector<Announced>& prefixes, std::string& error)
{
    sockbuf::SegmentHeader layout{};
    sockbuf::lay_out(layout, static_cast<std::uint32_t>(pins.size()), options.sockets, options.ring_memory);
    std::copy(pins.begin(), pins.end(), std::begin(layout.pins));
    for (const Announced& a : prefixes) {
        if (layout.prefix_count == sockbuf::max_prefixes) {
            error = "more than 64 prefixes to announce";
            return false;
        }
        auto& p = layout.prefixes[layout.prefix_count++];
        std::memcpy(p.addr, a.prefix.addr.bytes(), sizeof p.addr);
        p.length = a.prefix.length;
        p.is_local = a.local ? 1 : 0;
    }
    void* memory = make_memory("netd-segment", layout.bytes, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, fd_, error);
    if (memory == nullptr) {
        return false;
    }
    std::memcpy(memory, &layout, sizeof layout);
    view_ = sockbuf::SegmentView{static_cast<std::byte*>(memory), layout};
    return true;
}

// In place: pages become ours as they are written, the others show what is in the file still. Threads that are in the
// middle of a look find either mapping. Made elsewhere first, since a MAP_FIXED that fails may leave a hole.
bool Segment::part()
{
    void* memory = mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd_, 0);
    if (memory == MAP_FAILED) {
        return false;
    }
    if (mremap(memory, bytes(), bytes(), MREMAP_MAYMOVE | MREMAP_FIXED, view_.base()) == MAP_FAILED) {
        munmap(memory, bytes());
        return false;
    }
    return true;
}

Segment::~Segment()
{
    if (view_.base() != nullptr) {
        munmap(view_.base(), view_.layout().bytes);
    }
    if (fd_ >= 0) {
        close(fd_);
    }
}

bool SleepPage::create(std::uint32_t cpus, std::string& error)
{
    bytes_ = 64 * cpus;
    // F_SEAL_FUTURE_WRITE: our mapping stays writable, every later one is read-only.
    void* memory =
        make_memory("netd-sleep", bytes_, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL, fd_, error);
    words_ = static_cast<std::atomic<std::uint32_t>*>(memory);
    return memory != nullptr;
}

SleepPage::~SleepPage()
{
    if (words_ != nullptr) {
        munmap(words_, bytes_);
    }
    if (fd_ >= 0) {
        close(fd_);
    }
}

} // namespace gateway
