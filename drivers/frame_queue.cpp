// See frame_queue.hpp.
#include "drivers/frame_queue.hpp"

#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

#include "base/ownership.hpp"
#include "drivers/vnet_header.hpp"

namespace drivers {
namespace {

// Then written before the roll-up: bounds what waits here, and how long a roll-up holds up the clock.
constexpr std::size_t tx_queue_max = 64;
constexpr std::uint32_t tx_bytes_max = 1U << 19; // about 50 us of copying
constexpr base::Micros retry_interval = base::seconds(1);

} // namespace

void FrameQueue::attach(const FrameQueueSetup& setup)
{
    INVARIANT(s_.cpu == nullptr && setup.cpu != nullptr);
    s_ = setup;
    s_.cpu->add_poller(lwkt::Class::net, *this);
    s_.cpu->add_rollup(*this);
}

void FrameQueue::detach()
{
    if (s_.cpu == nullptr) {
        return;
    }
    s_.cpu->remove_poller(lwkt::Class::net, *this);
    s_.cpu->remove_rollup(*this);
    while (lwkt::Message* m = tx_.pop()) {
        static_cast<netmsg::Packet*>(m)->free();
    }
    if (spare_ != nullptr) {
        spare_->free();
        spare_ = nullptr;
    }
    if (spare_large_ != nullptr) {
        s_.pool->release_large(*spare_large_);
        spare_large_ = nullptr;
    }
    s_.cpu = nullptr;
}

std::uint32_t FrameQueue::poll(std::uint32_t budget)
{
    if (failed_) {
        if (s_.cpu->now() < retry_at_) {
            return 0;
        }
        if (!s_.device->recover(s_.cpu->id())) {
            retry_at_ = s_.cpu->now() + retry_interval;
            return 0;
        }
        failed_ = false;
        retry_at_ = base::never;
        s_.device->queue_works(s_.cpu->id());
    }
    std::uint32_t done = 0;
    while (done < budget && receive() == Read::frame) {
        ++done;
    }
    return done;
}

// Memory for the next read. Without a large buffer reading goes on, and only super-frames are lost.
bool FrameQueue::prepare()
{
    if (spare_ == nullptr) {
        spare_ = s_.pool->allocate();
    }
    if (spare_ != nullptr && spare_large_ == nullptr && s_.pool->add_large(*spare_)) {
        spare_large_ = spare_->large;
        spare_->large = nullptr;
    }
    return spare_ != nullptr;
}

FrameQueue::Read FrameQueue::receive()
{
    if (!prepare()) {
        return discard();
    }
    unsigned char header[vnet_header_bytes];
    std::uint32_t own = spare_->tailroom();
    iovec parts[3] = {{header, sizeof header}, {spare_->data, own}, {nullptr, 0}};
    int count = 2;
    if (spare_large_ != nullptr) {
        parts[2] = {spare_large_->bytes, netmsg::large_buffer_bytes};
        count = 3;
    }
    ssize_t n = readv(s_.fd, parts, count);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            fail("read", errno);
        }
        return Read::nothing;
    }
    if (n < static_cast<ssize_t>(sizeof header + s_.link_header_bytes)) {
        base::count(s_.counters->errors);
        return n == 0 ? Read::nothing : Read::frame;
    }
    auto frame_bytes = static_cast<std::uint32_t>(n) - vnet_header_bytes;
    if (count == 2 && frame_bytes == own) { // cut off, as far as one can tell
        base::count(s_.counters->in_dropped);
        return Read::frame;
    }
    deliver(frame_bytes, header);
    return Read::frame;
}

// No packet memory: frames are taken off the device all the same, or the descriptor would stay readable.
FrameQueue::Read FrameQueue::discard()
{
    unsigned char scratch[64];
    ssize_t n = read(s_.fd, scratch, sizeof scratch);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            fail("read", errno);
        }
        return Read::nothing;
    }
    base::count(s_.counters->in_dropped);
    return Read::frame;
}

void FrameQueue::deliver(std::uint32_t frame_bytes, const void* header)
{
    netmsg::Packet& p = *spare_;
    spare_ = nullptr;
    std::uint32_t own = p.tailroom();
    if (frame_bytes <= own) {
        p.put(frame_bytes);
    } else {
        p.put(own);
        p.large = spare_large_;
        spare_large_ = nullptr;
        p.add_piece(p.large->bytes, frame_bytes - own);
    }
    if (!take_vnet_header(header, p)) {
        base::count(s_.counters->errors);
        p.free();
        return;
    }
    p.netif = s_.netif;
    p.stamp = s_.cpu->now();
    base::count(s_.counters->in_packets);
    base::count(s_.counters->in_bytes, frame_bytes);
    s_.input(s_.context, p);
}

void FrameQueue::transmit(netmsg::Packet& p)
{
    tx_bytes_ += p.total();
    tx_.push(p);
    if (tx_.size() >= tx_queue_max || tx_bytes_ >= tx_bytes_max) {
        rollup();
    }
}

void FrameQueue::rollup()
{
    tx_bytes_ = 0;
    while (lwkt::Message* m = tx_.pop()) {
        auto& p = static_cast<netmsg::Packet&>(*m);
        if (failed_) {
            base::count(s_.counters->out_dropped);
        } else {
            send(p);
        }
        p.free();
    }
}

void FrameQueue::send(netmsg::Packet& p)
{
    unsigned char header[vnet_header_bytes];
    if (!make_vnet_header(p, s_.link_header_bytes, header)) {
        base::count(s_.counters->errors);
        base::count(s_.counters->out_dropped);
        return;
    }
    iovec parts[netmsg::packet_pieces_max + 2];
    parts[0] = {header, sizeof header};
    unsigned count = 1 + p.span(0, p.total(), parts + 1);
    if (writev(s_.fd, parts, static_cast<int>(count)) < 0) {
        send_refused(errno);
        return;
    }
    base::count(s_.counters->out_packets);
    base::count(s_.counters->out_bytes, p.total());
    if (refusing_) {
        refusing_ = false;
        s_.device->queue_works(s_.cpu->id());
    }
}

void FrameQueue::send_refused(int error)
{
    base::count(s_.counters->out_dropped);
    switch (error) {
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
        return; // the device is full
    case EIO:
    case ENETDOWN: // the interface is down; it may come up again
        if (!refusing_) {
            refusing_ = true;
            s_.device->queue_failed(s_.cpu->id(), "write", error);
        }
        return;
    case EINVAL:
    case EFAULT: // a piece in shared memory went away under us, or the frame is malformed
        base::count(s_.counters->errors);
        return;
    default:
        fail("write", error);
    }
}

void FrameQueue::fail(const char* what, int error)
{
    base::count(s_.counters->errors);
    failed_ = true;
    retry_at_ = s_.cpu->now() + retry_interval;
    s_.device->queue_failed(s_.cpu->id(), what, error);
}

} // namespace drivers
