// The bytes of one fuzzer input as decisions. Whoever decides something takes the next bytes; when they are used up
// every answer is 0 and done() says so. A fuzzer changes a byte and thereby one decision.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace fuzz {

class Choices {
public:
    Choices(const std::uint8_t* data, std::size_t size) : left_(data, size) {}

    bool done() const { return left_.empty(); }
    std::uint8_t byte() { return number<std::uint8_t>(); }
    std::uint16_t half() { return number<std::uint16_t>(); }
    std::uint32_t word() { return number<std::uint32_t>(); }
    std::uint64_t wide() { return number<std::uint64_t>(); }
    bool flag() { return (byte() & 1) != 0; }
    // One of [0, n), n at most 256: a single byte.
    std::uint8_t below(unsigned n) { return static_cast<std::uint8_t>(byte() % n); }
    // Small numbers exactly, and a few large ones, of either sign.
    std::int64_t delta()
    {
        auto b = static_cast<std::int8_t>(byte());
        std::int64_t magnitude = b < 0 ? -std::int64_t{b} : b;
        std::int64_t value = magnitude < 96 ? magnitude : std::int64_t{1} << (magnitude - 91);
        return b < 0 ? -value : value;
    }
    // At most `most` bytes.
    std::span<const std::uint8_t> bytes(std::size_t most)
    {
        auto taken = left_.first(most < left_.size() ? most : left_.size());
        left_ = left_.subspan(taken.size());
        return taken;
    }

private:
    template <typename T>
    T number()
    {
        T value{};
        auto taken = bytes(sizeof value);
        if (!taken.empty()) {
            std::memcpy(&value, taken.data(), taken.size());
        }
        return value;
    }
    std::span<const std::uint8_t> left_;
};

} // namespace fuzz
