// See settings.hpp.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>

#include "tests/packetdrill/settings.hpp"

namespace packetdrill {

namespace {

template <typename T>
std::optional<T> number_of(std::string_view text)
{
    T value{};
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size() ? std::optional<T>(value) : std::nullopt;
}

bool take_address(std::string_view value, std::vector<base::IpAddr>& to)
{
    auto a = base::parse_ip(value.substr(0, value.find('/')));
    if (a) {
        to.push_back(*a);
    }
    return a.has_value();
}

bool take(std::string_view key, std::string_view value, Flags& f)
{
    if (key == "local") {
        f.local.emplace_back(value);
        return value.find('/') != std::string_view::npos && base::parse_prefix(value).has_value();
    }
    if (key == "remote" || key == "gateway") {
        return take_address(value, key == "remote" ? f.remote : f.gateway);
    }
    if (key == "mtu") {
        auto mtu = number_of<std::uint32_t>(value);
        f.mtu = mtu.value_or(0);
        return f.mtu >= 68 && f.mtu <= 65535; // RFC 791: every link carries 68 octets
    }
    if (key == "time") {
        f.virtual_time = value == "virtual";
        return f.virtual_time || value == "real";
    }
    return false;
}

} // namespace

std::optional<Flags> parse_flags(std::string_view text, std::string& error)
{
    Flags f;
    while (!text.empty()) {
        auto item = text.substr(0, text.find(','));
        text.remove_prefix(std::min(text.size(), item.size() + 1));
        auto equals = item.find('=');
        if (equals == std::string_view::npos || !take(item.substr(0, equals), item.substr(equals + 1), f)) {
            error = "\"" + std::string(item) + "\" is no flag of this library";
            return std::nullopt;
        }
    }
    if (f.local.empty() || f.remote.empty()) {
        error = "local=ADDR/LEN and remote=ADDR/LEN must be there";
        return std::nullopt;
    }
    return f;
}

Settings Settings::parse(std::string_view text)
{
    Settings s;
    while (!text.empty()) {
        auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(text.size(), line.size() + 1));
        if (auto equals = line.find('='); equals != std::string_view::npos) {
            s.values_.insert_or_assign(std::string(line.substr(0, equals)), std::string(line.substr(equals + 1)));
        }
    }
    return s;
}

Settings Settings::of_process(std::string_view pid)
{
    constexpr std::size_t bytes_max = 1 << 20;
    std::string path = "/tmp/pd-" + std::string(pid) + ".conf";
    int fd = open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return {};
    }
    struct stat about {};
    std::string text;
    if (fstat(fd, &about) == 0 && S_ISREG(about.st_mode) && about.st_uid == geteuid()) {
        text.resize(std::min(static_cast<std::size_t>(about.st_size), bytes_max));
        ssize_t n = read(fd, text.data(), text.size());
        text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    }
    syscall(SYS_close, fd); // not the name close, which the preload library takes
    return parse(text);
}

std::optional<std::string> Settings::text(const std::string& key) const
{
    auto at = values_.find(key);
    return at == values_.end() ? std::nullopt : std::optional(at->second);
}

std::optional<long> Settings::number(const std::string& key) const
{
    auto value = text(key);
    return value ? number_of<long>(*value) : std::nullopt;
}

bool Settings::on(const std::string& key, bool otherwise) const
{
    return number(key).value_or(otherwise ? 1 : 0) != 0;
}

} // namespace packetdrill
