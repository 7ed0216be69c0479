// sendmsg, recvmsg and their simple forms: find the slot, choose stream or datagram.
#include "client/sockaddr.hpp"
#include "client/transfer.hpp"

namespace client {

namespace {

// What a call has taken and cannot tell is the next one's, unless there is a newer one.
void leave_error(Session& s, Sock k, int error)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot != nullptr && error != EAGAIN && error != EINTR && error != EBADF) {
        int none = 0;
        slot->info.so_error.compare_exchange_strong(none, error, std::memory_order_seq_cst);
    }
}

// sock_cmsg_send of Linux, for a stream: 0 or -EINVAL. What passes descriptors is not looked at; times of sending are
// nothing of netd's.
int check_control(const msghdr& m)
{
    if (m.msg_controllen == 0) {
        return 0;
    }
    auto* all = const_cast<msghdr*>(&m);
    const auto* end = static_cast<const std::byte*>(m.msg_control) + m.msg_controllen;
    for (cmsghdr* c = CMSG_FIRSTHDR(all); c != nullptr; c = CMSG_NXTHDR(all, c)) {
        auto room = static_cast<std::size_t>(end - reinterpret_cast<const std::byte*>(c));
        bool known = c->cmsg_level != SOL_SOCKET || c->cmsg_type == SCM_RIGHTS || c->cmsg_type == SCM_CREDENTIALS;
        if (c->cmsg_len < sizeof *c || c->cmsg_len > room || !known) {
            return -EINVAL;
        }
    }
    return 0;
}

// Out of line, or the short form would save the registers that this needs.
[[gnu::noinline]] ssize_t send_message(Session& s, SocketSlot& slot, Sock k, const msghdr& m, int flags)
{
    if (is_datagram(slot)) {
        return datagram_send(s, slot, k, m, flags);
    }
    if ((flags & MSG_FASTOPEN) != 0) {
        if (int rc = connect_for_send(s, slot, k, m, flags)) {
            return rc;
        }
    }
    if (int error = check_control(m)) {
        return error;
    }
    // An address given for a stream is ignored, as Linux does.
    return stream_send(s, slot, k, IovecCursor(m.msg_iov, m.msg_iovlen), flags);
}

ssize_t receive_stream(Session& s, SocketSlot& slot, Sock k, IovecCursor into, int flags)
{
    if ((flags & MSG_ERRQUEUE) != 0) {
        return -EAGAIN; // a stream's is always empty: nothing of it is ever asked for (SO_TIMESTAMPING)
    }
    return (flags & MSG_OOB) != 0 ? stream_receive_urgent(s, slot, k, into, flags)
                                  : stream_receive(s, slot, k, into, flags);
}

} // namespace

ssize_t sock_sendmsg(Session& s, Sock k, const msghdr* m, int flags)
{
    SocketSlot* slot = find_slot(s, k);
    return slot != nullptr ? send_message(s, *slot, k, *m, flags) : -EBADF;
}

ssize_t sock_recvmsg(Session& s, Sock k, msghdr* m, int flags)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    if (m->msg_name != nullptr && is_below_zero(&m->msg_namelen)) {
        return -EINVAL;
    }
    if (is_datagram(*slot)) {
        return datagram_receive(s, *slot, k, *m, flags);
    }
    ssize_t n = receive_stream(s, *slot, k, IovecCursor(m->msg_iov, m->msg_iovlen), flags);
    if (n >= 0) {
        m->msg_namelen = 0;
        m->msg_controllen = 0;
        m->msg_flags = flags & MSG_OOB;
    }
    return n;
}

int sock_recvmmsg(Session& s, Sock k, mmsghdr* messages, unsigned count, int flags, const timespec* timeout)
{
    base::Instant end = timeout == nullptr
                            ? base::never
                            : s.host->now() + base::Micros{timeout->tv_sec * 1'000'000 + timeout->tv_nsec / 1000};
    unsigned done = 0;
    while (done < count) {
        int each = flags & ~MSG_WAITFORONE;
        if (done > 0 && (flags & MSG_WAITFORONE) != 0) {
            each |= MSG_DONTWAIT;
        }
        ssize_t n = sock_recvmsg(s, k, &messages[done].msg_hdr, each);
        if (n < 0 && done == 0) {
            return static_cast<int>(n);
        }
        if (n < 0) {
            leave_error(s, k, static_cast<int>(-n));
            break;
        }
        messages[done++].msg_len = static_cast<unsigned>(n);
        if (end != base::never && s.host->now() >= end) {
            break;
        }
    }
    return static_cast<int>(done);
}

ssize_t sock_send(
    Session& s, Sock k, const void* data, std::size_t size, int flags, const sockaddr* to, socklen_t to_len)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    if (!is_datagram(*slot) && (flags & MSG_FASTOPEN) == 0) { // needs no message about it
        return stream_send(s, *slot, k, IovecCursor::of_buffer(const_cast<void*>(data), size), flags);
    }
    iovec piece{const_cast<void*>(data), size};
    msghdr m{};
    m.msg_name = const_cast<sockaddr*>(to);
    m.msg_namelen = to_len;
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    return send_message(s, *slot, k, m, flags);
}

ssize_t sock_recv(Session& s, Sock k, void* data, std::size_t size, int flags, sockaddr* from, socklen_t* from_len)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    if (from != nullptr && is_below_zero(from_len)) {
        return -EINVAL;
    }
    if (!is_datagram(*slot)) {
        ssize_t n = receive_stream(s, *slot, k, IovecCursor::of_buffer(data, size), flags);
        if (n >= 0 && from != nullptr && from_len != nullptr) {
            *from_len = 0;
        }
        return n;
    }
    iovec piece{data, size};
    msghdr m{};
    m.msg_name = from;
    m.msg_namelen = from_len != nullptr ? *from_len : 0;
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    ssize_t n = datagram_receive(s, *slot, k, m, flags);
    if (n >= 0 && from != nullptr && from_len != nullptr) {
        *from_len = m.msg_namelen;
    }
    return n;
}

} // namespace client
