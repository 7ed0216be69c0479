#include "lwkt/topology.hpp"

#include <hwloc.h>

#include <algorithm>
#include <charconv>

#include "base/check.hpp"

namespace lwkt {
namespace {

class Topology {
public:
    static const Topology& get()
    {
        static const Topology topology;
        return topology;
    }
    Topology(const Topology&) = delete;
    Topology& operator=(const Topology&) = delete;

    hwloc_topology_t handle() const { return handle_; }
    // Processing units this process may use, core by core.
    std::vector<int> units() const
    {
        hwloc_bitmap_t allowed = hwloc_bitmap_alloc();
        if (hwloc_get_cpubind(handle_, allowed, HWLOC_CPUBIND_PROCESS) != 0) {
            hwloc_bitmap_copy(allowed, hwloc_topology_get_allowed_cpuset(handle_));
        }
        std::vector<int> result;
        hwloc_obj_t unit = nullptr;
        while ((unit = hwloc_get_next_obj_by_type(handle_, HWLOC_OBJ_PU, unit)) != nullptr) {
            if (hwloc_bitmap_isset(allowed, unit->os_index) != 0) {
                result.push_back(static_cast<int>(unit->os_index)); // in logical order: by core, then hyperthread
            }
        }
        hwloc_bitmap_free(allowed);
        return result;
    }

private:
    Topology()
    {
        INVARIANT(hwloc_topology_init(&handle_) == 0);
        INVARIANT(hwloc_topology_load(handle_) == 0);
    }
    ~Topology() { hwloc_topology_destroy(handle_); }

    hwloc_topology_t handle_{}; // c
};

bool parse_number(const char*& at, const char* end, int& value)
{
    auto [stop, bad] = std::from_chars(at, end, value);
    bool good = bad == std::errc{} && value >= 0;
    at = stop;
    return good;
}

} // namespace

bool bind_this_thread(int os_cpu)
{
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    hwloc_bitmap_only(set, static_cast<unsigned>(os_cpu));
    int refused = hwloc_set_cpubind(Topology::get().handle(), set, HWLOC_CPUBIND_THREAD);
    hwloc_bitmap_free(set);
    return refused == 0;
}

std::vector<int> usable_cpus()
{
    return Topology::get().units();
}

std::vector<int> parse_cpu_list(const std::string& text, std::string& error)
{
    std::vector<int> usable = usable_cpus();
    if (text == "all") {
        return usable;
    }
    std::vector<int> result;
    const char* at = text.data();
    const char* end = at + text.size();
    auto fail = [&error](std::string why) {
        error = std::move(why);
        return std::vector<int>{};
    };
    for (;;) {
        int first = 0;
        if (!parse_number(at, end, first)) {
            return fail("\"" + text + "\" is not a list of CPUs such as 0-3,6");
        }
        int last = first;
        if (at != end && *at == '-' && (!parse_number(++at, end, last) || last < first)) {
            return fail("\"" + text + "\" has a bad range");
        }
        for (int cpu = first; cpu <= last; ++cpu) {
            if (std::find(usable.begin(), usable.end(), cpu) == usable.end()) {
                return fail("CPU " + std::to_string(cpu) + " does not exist or may not be used");
            }
            if (std::find(result.begin(), result.end(), cpu) != result.end()) {
                return fail("CPU " + std::to_string(cpu) + " is named twice");
            }
            result.push_back(cpu);
        }
        if (at == end) {
            return result;
        }
        if (*at++ != ',') {
            return fail("\"" + text + "\" is not a list of CPUs such as 0-3,6");
        }
    }
}

} // namespace lwkt
