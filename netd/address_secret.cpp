#include "netd/address_secret.hpp"

#include <fstream>

#include "base/siphash.hpp"

namespace netd {

bool address_secret(const std::string& configured, const std::string& id_path, std::uint64_t (&secret)[2])
{
    std::string text = configured;
    if (text.empty()) {
        std::ifstream id(id_path);
        std::getline(id, text);
        if (text == "uninitialized") {
            text.clear();
        }
    }
    if (text.empty()) {
        return false;
    }
    secret[0] = base::siphash({1, 0}, text.data(), text.size());
    secret[1] = base::siphash({2, 0}, text.data(), text.size());
    return true;
}

} // namespace netd
