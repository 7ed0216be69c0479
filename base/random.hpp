// Randomness is an argument: a Random is made from a seed by whoever starts a stack (netd takes it from getrandom, a
// simulation from its seed). xoshiro256** (Blackman, Vigna 2018): fast, not a cipher; secrets (ISN key, Toeplitz key,
// table keys) are drawn from the seed once and used through SipHash.
#pragma once

#include <cstdint>

namespace base {

class Random {
public:
    explicit Random(std::uint64_t seed)
    {
        for (auto& word : state_) { // splitmix64 spreads the seed over the state
            seed += 0x9e3779b97f4a7c15ULL;
            std::uint64_t z = seed;
            z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
            z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
            word = z ^ (z >> 31);
        }
    }
    std::uint64_t next()
    {
        std::uint64_t result = rotl(state_[1] * 5, 7) * 9;
        std::uint64_t t = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= t;
        state_[3] = rotl(state_[3], 45);
        return result;
    }
    // Uniform in [0, bound); bound > 0. (Lemire's multiply-shift; the bias of 2^-32 is irrelevant here.)
    std::uint32_t below(std::uint32_t bound) { return static_cast<std::uint32_t>(((next() >> 32) * bound) >> 32); }
    bool chance(double probability) { return static_cast<double>(next() >> 11) * 0x1p-53 < probability; }

private:
    static std::uint64_t rotl(std::uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }
    std::uint64_t state_[4];
};

} // namespace base
