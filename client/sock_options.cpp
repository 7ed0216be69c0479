// getsockopt and setsockopt. Options about how calls wait, and which control messages a datagram read builds, live in
// the slot (the client is the one that acts on them); everything else is asked of netd, one round trip each.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/time.h>

#include <algorithm>
#include <cstring>

#include "client/control.hpp"
#include "client/group_options.hpp"
#include "client/source_lists.hpp"
#include "client/transfer.hpp"

namespace client {

namespace {

int copy_out(const void* from, std::size_t size, void* value, socklen_t* len)
{
    *len = static_cast<socklen_t>(std::min<std::size_t>(*len, size));
    std::memcpy(value, from, *len);
    return 0;
}
int copy_out_int(int number, void* value, socklen_t* len)
{
    return copy_out(&number, sizeof number, value, len);
}

int get_timeout(std::int64_t us, void* value, socklen_t* len)
{
    timeval t{us / 1'000'000, us % 1'000'000};
    return copy_out(&t, sizeof t, value, len);
}

int set_timeout(std::atomic<std::int64_t>& us, const void* value, socklen_t len)
{
    timeval t;
    if (len < sizeof t) {
        return -EINVAL;
    }
    std::memcpy(&t, value, sizeof t);
    if (t.tv_usec < 0 || t.tv_usec >= 1'000'000) {
        return -EDOM;
    }
    constexpr std::int64_t second_max = INT64_MAX / 4'000'000; // beyond is "for ever", as in Linux
    std::int64_t result = t.tv_sec >= second_max ? 0 : t.tv_sec * 1'000'000 + t.tv_usec;
    us.store(t.tv_sec < 0 ? 1 : result, std::memory_order_relaxed); // Linux: a negative time does not wait
    return 0;
}

bool is_cork(SocketSlot& slot, int level, int name)
{
    return is_datagram(slot) && level == IPPROTO_UDP && name == UDP_CORK;
}

// The status bit of an option that only changes what the client does; 0 when it is not of that kind.
std::uint32_t local_flag(SocketSlot& slot, int level, int name)
{
    if (!is_datagram(slot)) {
        return 0;
    }
    if (level == IPPROTO_IPV6 && family_of(slot) == AF_INET6) {
        return name == IPV6_RECVPKTINFO    ? status_pktinfo6
               : name == IPV6_RECVHOPLIMIT ? status_recv_hops
               : name == IPV6_RECVTCLASS   ? status_recv_class
                                           : 0;
    }
    if (level != IPPROTO_IP) {
        return 0;
    }
    switch (name) {
    case IP_PKTINFO:
        return status_pktinfo;
    case IP_RECVTTL:
        return status_recv_ttl;
    case IP_RECVTOS:
        return status_recv_tos;
    default:
        return 0;
    }
}

// Options of udp(7), which only the client needs: a record says how it is cut, and who reads puts together.
std::atomic<std::uint32_t>* udp_option(SocketSlot& slot, int level, int name)
{
    if (!is_datagram(slot) || level != IPPROTO_UDP) {
        return nullptr;
    }
    return name == UDP_SEGMENT ? &slot.share.segment_bytes : name == UDP_GRO ? &slot.share.coalesces : nullptr;
}

int set_udp_option(std::atomic<std::uint32_t>& option, int name, int value)
{
    if (name == UDP_SEGMENT && (value < 0 || value > 0xffff)) {
        return -EINVAL;
    }
    option.store(name == UDP_SEGMENT ? static_cast<std::uint32_t>(value) : value != 0, std::memory_order_relaxed);
    return 0;
}

void set_status(SocketSlot& slot, std::uint32_t bit, bool on)
{
    if (on) {
        slot.share.status.fetch_or(bit, std::memory_order_relaxed);
    } else {
        slot.share.status.fetch_and(~bit, std::memory_order_relaxed);
    }
}

bool first_int(const void* value, socklen_t len, int& out)
{
    if (len < sizeof out) {
        return false;
    }
    std::memcpy(&out, value, sizeof out);
    return true;
}

// As first_int(), or at IPPROTO_IP one byte, which Linux takes as well.
bool first_number(int level, const void* value, socklen_t len, int& out)
{
    if (level == IPPROTO_IP && len >= 1 && len < sizeof out) {
        out = *static_cast<const unsigned char*>(value);
        return true;
    }
    return first_int(value, len, out);
}

// True when the option is answered here, with the result in `rc`.
bool get_locally(Session& s, SocketSlot& slot, int level, int name, void* value, socklen_t* len, int& rc)
{
    if (std::uint32_t bit = local_flag(slot, level, name)) {
        rc = copy_out_int(has_status(slot, bit) ? 1 : 0, value, len);
        return true;
    }
    if (is_cork(slot, level, name)) {
        bool on = (slot.app.building().load(std::memory_order_relaxed) & sockbuf::datagram_corked) != 0;
        rc = copy_out_int(on ? 1 : 0, value, len);
        return true;
    }
    if (const auto* option = udp_option(slot, level, name)) {
        rc = copy_out_int(static_cast<int>(option->load(std::memory_order_relaxed)), value, len);
        return true;
    }
    if (level != SOL_SOCKET) {
        return false;
    }
    switch (name) {
    case SO_ERROR: {
        int error = take_error(slot);
        rc = copy_out_int(error == 0 && !s.host->alive() ? ECONNRESET : error, value, len);
        return true;
    }
    case SO_TYPE:
        rc = copy_out_int(is_datagram(slot) ? SOCK_DGRAM : SOCK_STREAM, value, len);
        return true;
    case SO_DOMAIN:
        rc = copy_out_int(family_of(slot), value, len);
        return true;
    case SO_PROTOCOL:
        rc = copy_out_int(is_datagram(slot) ? IPPROTO_UDP : IPPROTO_TCP, value, len);
        return true;
    case SO_ACCEPTCONN:
        rc = copy_out_int(state_of(slot) == SlotState::listening ? 1 : 0, value, len);
        return true;
    case SO_RCVLOWAT:
        rc = copy_out_int(
            static_cast<int>(std::max(slot.app.want_level.load(std::memory_order_relaxed), 1U)), value, len);
        return true;
    case SO_SNDLOWAT:
        rc = copy_out_int(1, value, len); // socket(7): not changeable on Linux
        return true;
    case SO_RCVTIMEO:
        rc = get_timeout(slot.share.rcv_timeout_us.load(std::memory_order_relaxed), value, len);
        return true;
    case SO_SNDTIMEO:
        rc = get_timeout(slot.share.snd_timeout_us.load(std::memory_order_relaxed), value, len);
        return true;
    default:
        return false;
    }
}

bool set_locally(Session& s, SocketSlot& slot, Sock k, int level, int name, const void* value, socklen_t len, int& rc)
{
    int number = 0;
    if (std::uint32_t bit = local_flag(slot, level, name)) {
        rc = first_number(level, value, len, number) ? 0 : -EINVAL;
        if (rc == 0) {
            set_status(slot, bit, number != 0);
        }
        return true;
    }
    if (is_cork(slot, level, name)) {
        rc = first_int(value, len, number) ? datagram_set_cork(s, slot, k, number != 0) : -EINVAL;
        return true;
    }
    if (auto* option = udp_option(slot, level, name)) {
        rc = first_int(value, len, number) ? set_udp_option(*option, name, number) : -EINVAL;
        return true;
    }
    if (level != SOL_SOCKET) {
        return false;
    }
    switch (name) {
    case SO_RCVTIMEO:
        rc = set_timeout(slot.share.rcv_timeout_us, value, len);
        return true;
    case SO_SNDTIMEO:
        rc = set_timeout(slot.share.snd_timeout_us, value, len);
        return true;
    case SO_RCVLOWAT:
        rc = first_int(value, len, number) ? 0 : -EINVAL;
        if (rc == 0) {
            slot.app.want_level.store(number < 0 ? INT32_MAX : static_cast<std::uint32_t>(std::max(number, 1)));
        }
        return true;
    case SO_BINDTODEVICE: // to none: what every socket is
        rc = 0;
        return len == 0 || *static_cast<const char*>(value) == '\0';
    case SO_ERROR:
    case SO_TYPE:
    case SO_DOMAIN:
    case SO_PROTOCOL:
    case SO_ACCEPTCONN:
    case SO_SNDLOWAT:
        rc = -ENOPROTOOPT; // read only
        return true;
    default:
        return false;
    }
}

// Options that netd keeps and that change what the client does as well.
void remember(SocketSlot& slot, int level, int name, const void* value, socklen_t len)
{
    int number = 0;
    if (level == IPPROTO_TCP && name == TCP_FASTOPEN_CONNECT && first_int(value, len, number)) {
        set_status(slot, status_fast_connect, number != 0);
    }
    if (level != SOL_SOCKET) {
        return;
    }
    if (name == SO_OOBINLINE && first_int(value, len, number)) {
        set_status(slot, status_oob_inline, number != 0);
    }
    linger option;
    if (name == SO_LINGER && len >= sizeof option) {
        std::memcpy(&option, value, sizeof option);
        set_status(slot, status_lingers, option.l_onoff != 0 && option.l_linger != 0);
    }
}

} // namespace

int sock_getsockopt(Session& s, Sock k, int level, int name, void* value, socklen_t* len)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    if (static_cast<std::int32_t>(*len) < 0) {
        return -EINVAL;
    }
    int rc = 0;
    if (get_locally(s, *slot, level, name, value, len, rc)) {
        return rc;
    }
    if (is_source_list(family_of(*slot), level, name)) {
        return get_source_list(s, *slot, k, level, name, value, len);
    }
    sockbuf::Request r = make_request(*slot, k, sockbuf::Op::getsockopt);
    r.level = level;
    r.name = name;
    r.size = std::min<std::uint32_t>(*len, sockbuf::reply_data_max);
    ReplyBuffer reply{value, r.size, 0};
    rc = call_netd(s, *slot, k, r, &reply);
    if (rc == 0) {
        *len = reply.size;
    }
    return rc;
}

int sock_setsockopt(Session& s, Sock k, int level, int name, const void* value, socklen_t len)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    if (static_cast<std::int32_t>(len) < 0 || (value == nullptr && len != 0)) {
        return value == nullptr ? -EFAULT : -EINVAL;
    }
    int rc = 0;
    if (set_locally(s, *slot, k, level, name, value, len, rc)) {
        return rc;
    }
    if (is_source_list(family_of(*slot), level, name)) {
        return set_source_list(s, *slot, k, level, name, value, len);
    }
    sockbuf::GroupRequest group{};
    if (is_group_request(level, name)) {
        if (int error = read_group_request(name, value, len, group)) {
            return error;
        }
        value = &group;
        len = sizeof group;
    }
    len = std::min<socklen_t>(len, sockbuf::request_data_max); // no option netd knows is longer: its first bytes count
    sockbuf::Request r = make_request(*slot, k, sockbuf::Op::setsockopt);
    r.level = level;
    r.name = name;
    r.size = len;
    std::memcpy(r.data, value, len);
    rc = call_netd(s, *slot, k, r);
    if (rc == 0) {
        remember(*slot, level, name, value, len);
    }
    return rc;
}

} // namespace client
