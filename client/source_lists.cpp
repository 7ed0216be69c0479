#include "client/source_lists.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "base/net_addr.hpp"
#include "client/control.hpp"

namespace client {

namespace {

using sockbuf::FilterPiece;

struct SourceList {
    FilterPiece head{}; // total: what stands in `sources`, or how many there is room for
    unsigned char sources[sockbuf::filter_sources_max][16];
};

// What both structures begin with.
constexpr std::size_t own_head = offsetof(ip_msfilter, imsf_slist);
constexpr std::size_t independent_head = offsetof(group_filter, gf_slist);

void put_address(unsigned char to[16], const base::IpAddr& a)
{
    std::memcpy(to, a.bytes(), 16);
}

void put_v4(unsigned char to[16], const in_addr& a)
{
    put_address(to, base::IpAddr::v4(ntohl(a.s_addr)));
}

// Of the level's family: Linux insists on that at IPPROTO_IP and does not look at IPPROTO_IPV6.
bool copy_address(int level, const sockaddr_storage& from, unsigned char to[16])
{
    if (level == IPPROTO_IP) {
        sockaddr_in in;
        std::memcpy(&in, &from, sizeof in);
        put_v4(to, in.sin_addr);
        return from.ss_family == AF_INET;
    }
    sockaddr_in6 in6;
    std::memcpy(&in6, &from, sizeof in6);
    put_address(to, base::IpAddr::v6(&in6.sin6_addr));
    return true;
}

int read_head(int level, int name, const void* value, socklen_t len, SourceList& list, std::uint32_t& mode,
    std::uint32_t& sources)
{
    if (name == IP_MSFILTER) {
        ip_msfilter f{};
        if (len < own_head) {
            return -EINVAL;
        }
        std::memcpy(&f, value, own_head);
        put_v4(list.head.group, f.imsf_multiaddr);
        list.head.address = ntohl(f.imsf_interface.s_addr);
        mode = f.imsf_fmode;
        sources = f.imsf_numsrc;
        return 0;
    }
    group_filter f{};
    if (len < independent_head) {
        return -EINVAL;
    }
    std::memcpy(static_cast<void*>(&f), value, independent_head);
    list.head.interface = f.gf_interface;
    mode = f.gf_fmode;
    sources = f.gf_numsrc;
    return copy_address(level, f.gf_group, list.head.group) ? 0 : -EINVAL;
}

std::size_t source_bytes(int name)
{
    return name == IP_MSFILTER ? sizeof(in_addr) : sizeof(sockaddr_storage);
}

std::size_t head_bytes(int name)
{
    return name == IP_MSFILTER ? own_head : independent_head;
}

bool read_source(int level, int name, const std::byte* at, unsigned char to[16])
{
    if (name == IP_MSFILTER) {
        in_addr a;
        std::memcpy(&a, at, sizeof a);
        put_v4(to, a);
        return true;
    }
    sockaddr_storage a;
    std::memcpy(&a, at, sizeof a);
    return copy_address(level, a, to);
}

void write_source(int level, int name, std::byte* at, const unsigned char from[16])
{
    base::IpAddr a = base::IpAddr::v6(from);
    if (name == IP_MSFILTER) {
        in_addr v4{htonl(a.v4())};
        std::memcpy(at, &v4, sizeof v4);
        return;
    }
    sockaddr_storage storage{};
    if (level == IPPROTO_IP) {
        auto& in = reinterpret_cast<sockaddr_in&>(storage);
        in.sin_family = AF_INET;
        in.sin_addr.s_addr = htonl(a.v4());
    } else {
        auto& in6 = reinterpret_cast<sockaddr_in6&>(storage);
        in6.sin6_family = AF_INET6;
        std::memcpy(&in6.sin6_addr, from, sizeof in6.sin6_addr);
    }
    std::memcpy(at, &storage, sizeof storage);
}

// What setsockopt is given; 0, or what it fails with, in Linux's order.
int read_list(int level, int name, const void* value, socklen_t len, SourceList& list)
{
    std::uint32_t mode = 0;
    std::uint32_t sources = 0;
    int error = read_head(level, name, value, len, list, mode, sources);
    if (len >= head_bytes(name) && sources > sockbuf::filter_sources_max) {
        return -ENOBUFS;
    }
    if (error != 0 || len < head_bytes(name) + sources * source_bytes(name) || mode > MCAST_INCLUDE) {
        return -EINVAL;
    }
    const auto* at = static_cast<const std::byte*>(value) + head_bytes(name);
    for (std::uint32_t i = 0; i < sources; ++i) {
        if (!read_source(level, name, at + i * source_bytes(name), list.sources[i])) {
            return -EINVAL;
        }
    }
    list.head.exclude = mode == MCAST_EXCLUDE ? 1 : 0;
    list.head.total = static_cast<std::uint8_t>(sources);
    return 0;
}

// Asks for all of it; 0 or a negative errno.
int fetch(Session& s, SocketSlot& slot, Sock k, int level, int name, SourceList& list)
{
    ControlTurn turn(s, slot);
    unsigned char answer[sockbuf::reply_data_max];
    FilterPiece ask = list.head;
    do {
        sockbuf::Request r = make_request(slot, k, sockbuf::Op::getsockopt);
        r.level = level;
        r.name = name;
        r.size = sizeof answer;
        std::memcpy(r.data, &ask, sizeof ask);
        ReplyBuffer reply{answer, sizeof answer, 0};
        if (int rc = ask_netd(turn, s, slot, k, r, &reply)) {
            return rc;
        }
        FilterPiece got;
        std::memcpy(&got, answer, sizeof got);
        if (got.count > sockbuf::filter_sources_max - ask.first) {
            return -EIO;
        }
        std::memcpy(list.sources[ask.first], answer + sizeof got, std::size_t{got.count} * 16);
        ask.first = static_cast<std::uint8_t>(ask.first + got.count);
        list.head = got;
        if (got.count == 0) {
            break;
        }
    } while (ask.first < list.head.total);
    list.head.total = ask.first;
    return 0;
}

} // namespace

bool is_source_list(int family, int level, int name)
{
    return (level == IPPROTO_IP && (name == IP_MSFILTER || name == MCAST_MSFILTER)) ||
           (level == IPPROTO_IPV6 && name == MCAST_MSFILTER && family == AF_INET6);
}

int set_source_list(Session& s, SocketSlot& slot, Sock k, int level, int name, const void* value, socklen_t len)
{
    SourceList list;
    if (int error = read_list(level, name, value, len, list)) {
        return error;
    }
    ControlTurn turn(s, slot);
    int rc = 0;
    FilterPiece piece = list.head;
    do {
        piece.count = static_cast<std::uint8_t>(
            std::min<std::uint32_t>(piece.total - piece.first, sockbuf::filter_fits(sockbuf::request_data_max)));
        sockbuf::Request r = make_request(slot, k, sockbuf::Op::setsockopt);
        r.level = level;
        r.name = name;
        r.size = static_cast<std::uint32_t>(sizeof piece + std::size_t{piece.count} * 16);
        std::memcpy(r.data, &piece, sizeof piece);
        std::memcpy(r.data + sizeof piece, list.sources[piece.first], std::size_t{piece.count} * 16);
        rc = ask_netd(turn, s, slot, k, r);
        piece.first = static_cast<std::uint8_t>(piece.first + piece.count);
    } while (rc == 0 && piece.first < piece.total);
    return rc;
}

int get_source_list(Session& s, SocketSlot& slot, Sock k, int level, int name, void* value, socklen_t* len)
{
    SourceList list;
    std::uint32_t mode = 0;
    std::uint32_t room = 0; // in the caller's structure, by its own word, as in Linux
    if (int error = read_head(level, name, value, *len, list, mode, room)) {
        return error;
    }
    if (int error = fetch(s, slot, k, level, name, list)) {
        return error;
    }
    auto* out = static_cast<std::byte*>(value);
    std::uint32_t numbers[2] = {MCAST_INCLUDE, list.head.total};
    if (list.head.exclude != 0) {
        numbers[0] = MCAST_EXCLUDE;
    }
    std::memcpy(out + head_bytes(name) - sizeof numbers, numbers, sizeof numbers);
    std::uint32_t given = std::min<std::uint32_t>(room, list.head.total);
    for (std::uint32_t i = 0; i < given; ++i) {
        write_source(level, name, out + head_bytes(name) + i * source_bytes(name), list.sources[i]);
    }
    *len = static_cast<socklen_t>(head_bytes(name) + given * source_bytes(name));
    return 0;
}

} // namespace client
