// Micro-benchmarks of the parts: one JSON object per line and figure. Ratios alternate their sides in one run and are
// medians of their rounds; ns describe the machine they ran on and are no verdict.
//   bench-micro [--quick] [FAMILY...]
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>

#include "benchmarks/micro/micro.hpp"
#include "lwkt/topology.hpp"

namespace micro {

bool quick = false;

double Figure::median() const
{
    std::vector<double> sorted = values;
    std::sort(sorted.begin(), sorted.end());
    std::size_t n = sorted.size();
    return n == 0 ? 0 : (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

void Figure::print() const
{
    nlohmann::ordered_json out = {{"name", name}, {"value", nullptr}, {"unit", unit}, {"low", nullptr},
        {"high", nullptr}, {"runs", values.size()}, {"why", why}};
    if (!values.empty()) {
        out["value"] = median();
        out["low"] = *std::min_element(values.begin(), values.end());
        out["high"] = *std::max_element(values.begin(), values.end());
    }
    if (!of.empty()) {
        out["of"] = of;
        out["at"] = at;
    }
    std::cout << out << std::endl;
}

double seconds_now()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double cpu_seconds_now()
{
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

bool Rounds::another()
{
    constexpr int least = 3;
    int most = quick ? 5 : 11;
    double limit_s = quick ? 1.0 : 8.0;
    return begun_++ < (seconds_now() - start_ > limit_s ? least : most);
}

void bind_here(int os_cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(os_cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

std::vector<int> pair_of_cpus(const std::vector<std::string>& figures, const char* unit)
{
    auto usable = lwkt::usable_cpus();
    if (usable.size() >= 2) {
        return {usable[0], usable[1]};
    }
    for (const std::string& name : figures) {
        Figure{.name = name, .unit = unit, .why = "needs two CPUs"}.print();
    }
    return {};
}

lwkt::CpuSetOptions awake(const std::vector<int>& cpus)
{
    lwkt::CpuSetOptions options;
    options.pin = cpus;
    options.spin_max = base::seconds(60);
    return options;
}

lwkt::CpuSetOptions sleepy(const std::vector<int>& cpus)
{
    lwkt::CpuSetOptions options;
    options.pin = cpus;
    options.spin_max = base::Micros{0};
    return options;
}

std::vector<std::size_t> sizes()
{
    std::vector<std::size_t> all{1'000, 10'000, 100'000, 1'000'000, 10'000'000};
    all.resize(quick ? 4 : 5);
    return all;
}

std::string text(const char* format, ...)
{
    char out[256];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(out, sizeof out, format, arguments);
    va_end(arguments);
    return out;
}

} // namespace micro

int main(int argc, char** argv)
{
    constexpr micro::Family families[] = {{"ring", micro::rings}, {"call", micro::calls}, {"message", micro::messages},
        {"doorbell", micro::doorbells}, {"wheel", micro::wheel}, {"pool", micro::pools}, {"checksum", micro::checksums},
        {"copy", micro::aliased_copies}, {"toeplitz", micro::toeplitz}, {"pcb", micro::pcbs}};
    std::vector<std::string> wanted;
    for (int i = 1; i < argc; ++i) {
        std::string argument = argv[i];
        if (argument == "--quick") {
            micro::quick = true;
        } else if (std::any_of(std::begin(families), std::end(families),
                       [&argument](const micro::Family& family) { return argument == family.name; })) {
            wanted.push_back(argument);
        } else {
            std::fprintf(stderr, "usage: bench-micro [--quick] [FAMILY...]; no family \"%s\", there are:\n", argv[i]);
            for (const micro::Family& family : families) {
                std::fprintf(stderr, "  %s\n", family.name);
            }
            return 64;
        }
    }
    for (const micro::Family& family : families) {
        if (wanted.empty() || std::find(wanted.begin(), wanted.end(), family.name) != wanted.end()) {
            family.measure();
        }
    }
    return 0;
}
