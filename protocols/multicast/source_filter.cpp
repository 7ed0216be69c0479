#include "protocols/multicast/source_filter.hpp"

#include <iterator>

namespace protocols {

bool SourceFilter::add(const base::IpAddr& source)
{
    auto at = std::lower_bound(sources.begin(), sources.end(), source);
    if (at != sources.end() && *at == source) {
        return false;
    }
    sources.insert(at, source);
    return true;
}

bool SourceFilter::remove(const base::IpAddr& source)
{
    auto at = std::lower_bound(sources.begin(), sources.end(), source);
    if (at == sources.end() || *at != source) {
        return false;
    }
    sources.erase(at);
    return true;
}

std::vector<base::IpAddr> difference(const std::vector<base::IpAddr>& a, const std::vector<base::IpAddr>& b)
{
    std::vector<base::IpAddr> out;
    std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(out));
    return out;
}

std::vector<base::IpAddr> common(const std::vector<base::IpAddr>& a, const std::vector<base::IpAddr>& b)
{
    std::vector<base::IpAddr> out;
    std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(out));
    return out;
}

SourceFilter merged(const SourceFilter& a, const SourceFilter& b)
{
    if (a.exclude && b.exclude) {
        return {true, common(a.sources, b.sources)};
    }
    if (a.exclude != b.exclude) {
        const SourceFilter& but = a.exclude ? a : b;
        return {true, difference(but.sources, (a.exclude ? b : a).sources)};
    }
    SourceFilter out;
    std::set_union(
        a.sources.begin(), a.sources.end(), b.sources.begin(), b.sources.end(), std::back_inserter(out.sources));
    return out;
}

} // namespace protocols
