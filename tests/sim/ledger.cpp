#include "tests/sim/ledger.hpp"

#include <algorithm>
#include <cstring>

namespace sim {

const char* script_name(Script s)
{
    static constexpr const char* names[scripts] = {"upload", "exchange", "download", "duplex", "quit", "server quits"};
    return names[static_cast<unsigned>(s)];
}

Connection& Ledger::open(Script script)
{
    Connection& c = all_.emplace_back();
    c.id = all_.size();
    c.script = script;
    return c;
}

// Words 0 and 1 of the client's direction: the number, and a proof that it is one.
std::uint64_t Ledger::word(const Connection& c, unsigned from, std::uint64_t index) const
{
    if (from == client_side && index < 2) {
        return index == 0 ? c.id : mix(c.id ^ seed_);
    }
    return mix(mix(c.id * 2 + from + (seed_ << 20)) + index);
}

void Ledger::fill(const Connection& c, unsigned from, std::uint64_t offset, unsigned char* to, std::size_t n) const
{
    for (std::size_t done = 0; done < n;) {
        std::uint64_t w = word(c, from, (offset + done) / 8);
        std::size_t skip = (offset + done) % 8;
        std::size_t take = std::min(n - done, 8 - skip);
        std::memcpy(to + done, reinterpret_cast<unsigned char*>(&w) + skip, take);
        done += take;
    }
}

std::size_t Ledger::matching(
    const Connection& c, unsigned from, std::uint64_t offset, const unsigned char* got, std::size_t n) const
{
    for (std::size_t done = 0; done < n;) {
        std::uint64_t w = word(c, from, (offset + done) / 8);
        std::size_t skip = (offset + done) % 8;
        std::size_t take = std::min(n - done, 8 - skip);
        const auto* right = reinterpret_cast<unsigned char*>(&w) + skip;
        if (std::memcmp(got + done, right, take) != 0) {
            return done + static_cast<std::size_t>(std::mismatch(right, right + take, got + done).first - right);
        }
        done += take;
    }
    return n;
}

Connection* Ledger::read_header(const unsigned char* header)
{
    std::uint64_t words[2];
    std::memcpy(words, header, sizeof words);
    return words[1] == mix(words[0] ^ seed_) ? find(words[0]) : nullptr;
}

} // namespace sim
