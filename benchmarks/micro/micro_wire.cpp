// What every byte and every packet costs: checksum alone and fused with a copy (beside a bare copy), steering hash.
#include <cstring>

#include "base/copy_bytes.hpp"
#include "benchmarks/micro/micro.hpp"
#include "netmsg/steering.hpp"
#include "protocols/wire/checksum.hpp"

namespace micro {
namespace {

// Nanoseconds per call of `operation`.
template <typename Operation>
double per_call(std::size_t times, Operation&& operation)
{
    double start = cpu_seconds_now();
    for (std::size_t i = 0; i < times; ++i) {
        operation(i);
    }
    return (cpu_seconds_now() - start) / static_cast<double>(times) * 1e9;
}

} // namespace

void checksums()
{
    for (std::size_t size : {std::size_t{64}, std::size_t{1460}, std::size_t{65536}}) {
        std::vector<char> from(size, 'x');
        std::vector<char> to(size);
        Figure sum{.name = text("micro.checksum.alone.%zu", size)};
        Figure fused{.name = text("micro.checksum.copy.%zu", size)};
        Figure copy{.name = text("micro.checksum.memcpy.%zu", size)};
        std::size_t times = (quick ? 20'000'000 : 100'000'000) / (size + 200);
        for (Rounds r; r.another();) {
            sum.values.push_back(
                per_call(times, [&](std::size_t) { use(protocols::wire::checksum(from.data(), size)); }));
            fused.values.push_back(per_call(times, [&](std::size_t) {
                protocols::wire::Checksum running;
                running.copy(to.data(), from.data(), size);
                use(running.finish());
            }));
            copy.values.push_back(per_call(times, [&](std::size_t) {
                std::memcpy(to.data(), from.data(), size);
                use(to.data());
            }));
        }
        struct Told {
            Figure* figure;
            const char* what;
        };
        for (auto [figure, what] :
            {Told{&sum, "checksum"}, Told{&fused, "copy with checksum"}, Told{&copy, "copy alone"}}) {
            figure->why =
                text("%s of %zu B in cache, %.1f GB/s", what, size, static_cast<double>(size) / figure->median());
            figure->print();
        }
    }
}

// 64 KiB to a place that lies 16 bytes above its source modulo a page: a buffer of malloc's and a ring
// (copy_bytes.hpp).
void aliased_copies()
{
    constexpr std::size_t size = 65536;
    constexpr std::size_t page = 4096;
    std::vector<char> memory(2 * size + 2 * page, 'x');
    auto aligned = (reinterpret_cast<std::uintptr_t>(memory.data()) + page - 1) / page * page;
    auto* from = reinterpret_cast<char*>(aligned);
    char* to = from + size + 16;
    Figure plain{.name = "micro.copy.aliased.memcpy"};
    Figure ours{.name = "micro.copy.aliased.ours"};
    std::size_t times = quick ? 2'000 : 10'000;
    for (Rounds r; r.another();) {
        plain.values.push_back(per_call(times, [&](std::size_t) {
            std::memcpy(to, from, size);
            use(to);
        }));
        ours.values.push_back(per_call(times, [&](std::size_t) {
            base::copy_bytes(to, from, size);
            use(to);
        }));
    }
    for (Figure* figure : {&plain, &ours}) {
        figure->why = text("%s of 64 KiB in cache, 16 bytes above its source modulo a page, %.1f GB/s",
            figure == &ours ? "copy in pieces" : "memcpy", static_cast<double>(size) / figure->median());
        figure->print();
    }
}

void toeplitz()
{
    base::Random random(1);
    netmsg::Steering steering(2, random);
    base::FourTuple v4{{base::IpAddr::v4(0x0a000001), 80}, {base::IpAddr::v4(0x0a000002), 0}};
    Figure figure{.name = "micro.toeplitz.v4", .why = "4-tuple of IPv4 to CPU"};
    for (Rounds r; r.another();) {
        figure.values.push_back(per_call(quick ? 1'000'000 : 5'000'000, [&](std::size_t n) {
            v4.peer.port = static_cast<std::uint16_t>(n);
            use(steering.cpu_of(v4));
        }));
    }
    figure.print();
}

} // namespace micro
