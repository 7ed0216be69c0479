#include "netd/lease_file.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/net_addr.hpp"

namespace netd {

namespace {

std::uint32_t read_address(const std::string& path)
{
    constexpr std::size_t longest = 16; // a dotted quad; a file is not read further
    char text[longest] = {};
    std::ifstream in(path);
    in.getline(text, sizeof text);
    auto address = base::parse_ip(text);
    return address && address->is_v4() ? address->v4() : 0;
}

} // namespace

LeaseFile::LeaseFile(std::string path)
    : path_(std::move(path)), found_(read_address(path_)), wanted_(found_), writer_([this] { serve(); })
{
}

LeaseFile::~LeaseFile()
{
    wanted_.fetch_or(stop);
    wanted_.notify_one();
    writer_.join();
}

void LeaseFile::put(std::uint32_t address)
{
    std::uint64_t count = (wanted_.load(std::memory_order_relaxed) & ~(2 * stop - 1)) + 2 * stop;
    wanted_.store(count | address);
    wanted_.notify_one();
}

void LeaseFile::serve()
{
    std::uint64_t seen = found_;
    while ((seen & stop) == 0) {
        wanted_.wait(seen);
        auto before = static_cast<std::uint32_t>(seen);
        seen = wanted_.load();
        if (auto address = static_cast<std::uint32_t>(seen); address != before) {
            write(address);
        }
    }
}

// The file is whole or the one before it.
void LeaseFile::write(std::uint32_t address) const
{
    if (address == 0) {
        std::error_code none;
        std::filesystem::remove(path_, none);
        return;
    }
    std::string fresh = path_ + ".new";
    std::ofstream out(fresh, std::ios::trunc);
    out << base::to_string(base::IpAddr::v4(address)) << '\n';
    out.close();
    if (!out || std::rename(fresh.c_str(), path_.c_str()) != 0) {
        spdlog::warn("{}: {}; the next netd will ask for any address", path_, std::strerror(errno));
    }
}

std::string lease_path(const std::string& socket, const std::string& interface)
{
    std::filesystem::path beside(socket);
    std::string folder = beside.parent_path();
    if (const char* state = std::getenv("STATE_DIRECTORY"); state != nullptr && *state != '\0') {
        folder = std::string(state).substr(0, std::string_view(state).find(':')); // systemd may give several
    }
    return fmt::format("{}{}{}.{}.lease", folder, folder.empty() ? "" : "/", beside.filename().string(), interface);
}

} // namespace netd
