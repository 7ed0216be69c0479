// The cases of a folder of packet scripts, in the order of their files' names. See packet_script.hpp.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "tests/tcp/packet_script.hpp"

namespace tcp_test {

std::vector<ScriptCase> load_scripts(const std::string& directory)
{
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
        if (entry.path().extension() == ".pkt") {
            files.push_back(entry.path());
        }
    }
    std::sort(files.begin(), files.end());
    std::vector<ScriptCase> cases;
    for (const auto& path : files) {
        std::ifstream in(path);
        std::string text;
        for (unsigned number = 1; std::getline(in, text); ++number) {
            text = text.substr(0, text.find('#'));
            text.erase(0, text.find_first_not_of(' '));
            text.erase(text.find_last_not_of(' ') + 1);
            if (text.empty()) {
                continue;
            }
            if (text.substr(0, 3) == "== ") {
                cases.push_back({path.filename().string(), text.substr(3), number, {}, 0});
            } else if (text.substr(0, 14) == "option family " && !cases.empty()) {
                cases.back().family = std::stoi(text.substr(14));
            } else if (cases.empty()) {
                throw std::runtime_error(path.filename().string() + ":" + std::to_string(number) + ": no case yet");
            } else {
                cases.back().lines.emplace_back(number, text);
            }
        }
    }
    return cases;
}

} // namespace tcp_test
