// TCP sequence numbers as a type: comparison is modulo 2^32 (RFC 9293 3.4), so raw integers never meet in TCP code.
#pragma once

#include <cstdint>

namespace base {

class Seq {
public:
    constexpr Seq() = default;
    explicit constexpr Seq(std::uint32_t value) : value_(value) {}

    constexpr std::uint32_t raw() const { return value_; }

    friend constexpr Seq operator+(Seq a, std::uint32_t n) { return Seq{a.value_ + n}; }
    friend constexpr Seq operator-(Seq a, std::uint32_t n) { return Seq{a.value_ - n}; }
    // Signed distance from b to a; meaningful while the two are less than 2^31 apart.
    friend constexpr std::int32_t operator-(Seq a, Seq b) { return static_cast<std::int32_t>(a.value_ - b.value_); }
    constexpr Seq& operator+=(std::uint32_t n)
    {
        value_ += n;
        return *this;
    }

    friend constexpr bool operator==(Seq a, Seq b) = default;
    friend constexpr bool operator<(Seq a, Seq b) { return (a - b) < 0; }
    friend constexpr bool operator<=(Seq a, Seq b) { return (a - b) <= 0; }
    friend constexpr bool operator>(Seq a, Seq b) { return (a - b) > 0; }
    friend constexpr bool operator>=(Seq a, Seq b) { return (a - b) >= 0; }

    // True when low <= *this < low + size.
    constexpr bool in_window(Seq low, std::uint32_t size) const { return value_ - low.value_ < size; }

private:
    std::uint32_t value_ = 0;
};

constexpr Seq max(Seq a, Seq b)
{
    return a < b ? b : a;
}
constexpr Seq min(Seq a, Seq b)
{
    return a < b ? a : b;
}

} // namespace base
