// See fastopen.hpp.
#include "protocols/tcp/fastopen.hpp"

#include <algorithm>
#include <cstring>

namespace protocols::tcp {

namespace {

constexpr base::Micros reset_memory = base::seconds(60);

// Number 0 is in force, 1 was before it.
base::SipKey key_of(base::SipKey secret, const SocketOptions& o, base::Instant now, unsigned number)
{
    base::SipKey key;
    if (o.fastopen_keys != 0) {
        std::memcpy(&key.k0, o.fastopen_key.data() + 16 * number, 8);
        std::memcpy(&key.k1, o.fastopen_key.data() + 16 * number + 8, 8);
        return key;
    }
    std::uint64_t input[2] = {
        static_cast<std::uint64_t>(now.time_since_epoch().count() / fastopen_key_life.count()) - number, 0};
    key.k0 = base::siphash(secret, input, sizeof input);
    input[1] = 1;
    key.k1 = base::siphash(secret, input, sizeof input);
    return key;
}

// RFC 7413 4.1.2: what only the server can make, of the client's address.
FastOpenCookie cookie_of(base::SipKey key, const base::IpAddr& local, const base::IpAddr& peer)
{
    struct {
        base::IpAddr local;
        base::IpAddr peer;
    } input{local, peer};
    std::uint64_t mac = base::siphash(key, &input, sizeof input);
    FastOpenCookie c;
    c.bytes = sizeof mac;
    std::memcpy(c.value.data(), &mac, sizeof mac);
    return c;
}

} // namespace

FastOpenCookie make_fastopen_cookie(
    base::SipKey secret, const SocketOptions& o, const base::IpAddr& local, const base::IpAddr& peer, base::Instant now)
{
    return cookie_of(key_of(secret, o, now, 0), local, peer);
}

FastOpenCheck check_fastopen_cookie(base::SipKey secret, const SocketOptions& o, const base::IpAddr& local,
    const base::IpAddr& peer, base::Instant now, const wire::TcpOptions& got)
{
    unsigned keys = o.fastopen_keys == 1 ? 1 : 2;
    for (unsigned number = 0; number < keys; ++number) {
        FastOpenCookie c = cookie_of(key_of(secret, o, now, number), local, peer);
        if (got.cookie_bytes == c.bytes && std::memcmp(got.cookie, c.value.data(), c.bytes) == 0) {
            return number == 0 ? FastOpenCheck::good : FastOpenCheck::old;
        }
    }
    return FastOpenCheck::bad;
}

FastOpenCache::FastOpenCache(bool wanted) : entries_(wanted ? rows * row_entries : 0)
{
}

FastOpenPeer* FastOpenCache::row(const base::IpAddr& peer)
{
    constexpr base::SipKey any{}; // addresses are those that programs connect to: nobody crowds a row
    return &entries_[base::siphash(any, &peer, sizeof peer) % rows * row_entries];
}

FastOpenPeer* FastOpenCache::find(const base::IpAddr& peer, base::Instant now)
{
    if (entries_.empty()) {
        return nullptr;
    }
    FastOpenPeer* first = row(peer);
    auto* found = std::find_if(
        first, first + row_entries, [&](const FastOpenPeer& e) { return e.used != base::never && e.addr == peer; });
    if (found == first + row_entries) {
        return nullptr;
    }
    found->used = now;
    return found;
}

FastOpenPeer* FastOpenCache::make(const base::IpAddr& peer, base::Instant now)
{
    FastOpenPeer* e = find(peer, now);
    if (e != nullptr || entries_.empty()) {
        return e;
    }
    FastOpenPeer* first = row(peer);
    auto age = [](const FastOpenPeer& p) { return p.used == base::never ? base::Instant{} : p.used; };
    e = std::min_element(
        first, first + row_entries, [&](const FastOpenPeer& a, const FastOpenPeer& b) { return age(a) < age(b); });
    *e = {};
    e->addr = peer;
    e->used = now;
    return e;
}

// RFC 7413 4.1.3.1: negative answers are remembered. The pause grows like Linux's.
void FastOpenCache::failed(const base::IpAddr& peer, base::Instant now)
{
    if (FastOpenPeer* e = make(peer, now); e != nullptr) {
        e->paused_until = now + fastopen_pause * (1 << e->failures);
        e->failures = static_cast<std::uint8_t>(std::min<unsigned>(e->failures + 1U, fastopen_pause_shift_max));
    }
}

void FastOpenResets::turn(base::Instant now)
{
    if (now - since_ < reset_memory) {
        return;
    }
    counts_[1] = now - since_ < 2 * reset_memory ? counts_[0] : 0;
    counts_[0] = 0;
    since_ = now;
}

void FastOpenResets::add(base::Instant now)
{
    turn(now);
    ++counts_[0];
}

std::uint32_t FastOpenResets::recent(base::Instant now)
{
    turn(now);
    return counts_[0] + counts_[1];
}

} // namespace protocols::tcp
