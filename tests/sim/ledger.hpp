// What the applications of a world have done with every connection: the truth that received bytes, ends and errors are
// held against. A connection's bytes are a keyed function of its number, the direction and the offset, so nothing is
// stored; the first bytes of the client's direction are its number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

namespace sim {

enum class Script : std::uint8_t {
    upload,       // client sends and shuts down; the server reads to the end, answers, closes
    exchange,     // requests and responses with silence between, then the client closes
    download,     // the server sends and shuts down first; then the client sends and closes
    duplex,       // both send and receive at once, then shut down
    quit,         // the client leaves in the middle: unread bytes, or linger 0
    server_quits, // the server leaves in the middle
};
inline constexpr unsigned scripts = 6;
const char* script_name(Script s);

inline constexpr unsigned client_side = 0;
inline constexpr unsigned server_side = 1;
inline constexpr std::size_t header_bytes = 16; // of the client's direction

struct End {
    std::uint64_t sent = 0;    // bytes that send calls took
    std::uint64_t sending = 0; // more that a call under way may have taken
    std::uint64_t received = 0;
    bool ended = false;    // shutdown or close was called: the other side reads up to `sent` and then the end
    bool rude = false;     // left in a way that may reset the connection
    bool finished = false; // its application is done with it
    bool saw_end = false;
};

struct Connection {
    std::uint64_t id = 0;
    Script script = Script::upload;
    std::uint64_t bytes[2] = {0, 0}; // by direction; of exchange: per round
    std::uint32_t rounds = 1;
    End end[2];
    bool accepted = false;     // the server has read its number
    bool may_time_out = false; // an option limits its patience
    bool opened_again = false; // the server has it a second time, empty, and leaves it
    std::uint32_t service = 0; // which listener
    std::uint64_t service_epoch = 0;
};

class Ledger {
public:
    explicit Ledger(std::uint64_t seed) : seed_(seed) {}

    Connection& open(Script script);
    Connection* find(std::uint64_t id) { return id != 0 && id <= all_.size() ? &all_[id - 1] : nullptr; }
    std::size_t opened() const { return all_.size(); }

    // The stream of one direction.
    void fill(const Connection& c, unsigned from, std::uint64_t offset, unsigned char* to, std::size_t n) const;
    // Number of leading bytes that are right.
    std::size_t matching(
        const Connection& c, unsigned from, std::uint64_t offset, const unsigned char* got, std::size_t n) const;
    // The connection that a header names; null: not a header of ours.
    Connection* read_header(const unsigned char* header);

private:
    std::uint64_t word(const Connection& c, unsigned from, std::uint64_t index) const;

    std::uint64_t seed_;
    std::deque<Connection> all_;
};

// splitmix64's finaliser (Steele, Lea, Flood 2014).
constexpr std::uint64_t mix(std::uint64_t z)
{
    z += 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

} // namespace sim
