#include "client/preload/program_check.hpp"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <sysexits.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <vector>

namespace netrun {

namespace {

constexpr int not_executable = 126; // as shells say it
constexpr int not_found = 127;
constexpr int interpreter_depth_max = 5; // as the kernel's BINPRM limit

ProgramCheck failed(int code, std::string path, const std::string& message)
{
    std::string text = path + ": " + message;
    return {code, std::move(path), std::move(text)};
}

ProgramCheck find_program(const std::string& name, const char* path_variable)
{
    if (name.find('/') != std::string::npos) {
        return access(name.c_str(), F_OK) == 0 ? ProgramCheck{0, name, ""}
                                               : failed(not_found, name, std::strerror(errno));
    }
    std::string paths = path_variable != nullptr ? path_variable : "/bin:/usr/bin";
    std::string seen;
    for (std::size_t at = 0; at <= paths.size();) {
        std::size_t end = std::min(paths.find(':', at), paths.size());
        std::string directory = paths.substr(at, end - at);
        std::string path = (directory.empty() ? "." : directory) + "/" + name;
        struct stat st;
        if (stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode)) {
            if (access(path.c_str(), X_OK) == 0) {
                return {0, path, ""};
            }
            seen = path;
        }
        at = end + 1;
    }
    return seen.empty() ? failed(not_found, name, "no such program") : failed(not_executable, seen, "not executable");
}

// The loader ignores LD_PRELOAD libraries of programs that gain privileges.
ProgramCheck check_privileges(const std::string& path)
{
    struct stat st;
    if (stat(path.c_str(), &st) != 0) {
        return failed(not_found, path, std::strerror(errno));
    }
    if (!S_ISREG(st.st_mode) || access(path.c_str(), X_OK) != 0) {
        return failed(not_executable, path, S_ISDIR(st.st_mode) ? "is a directory" : "not executable");
    }
    bool gains_user = (st.st_mode & S_ISUID) != 0 && st.st_uid != getuid();
    bool gains_group = (st.st_mode & S_ISGID) != 0 && (st.st_mode & S_IXGRP) != 0 && st.st_gid != getgid();
    if (gains_user || gains_group) {
        return failed(EX_NOPERM, path, "is set-user-ID or set-group-ID; such programs cannot be preloaded");
    }
    if (getuid() != 0 && getxattr(path.c_str(), "security.capability", nullptr, 0) > 0) {
        return failed(EX_NOPERM, path, "has file capabilities; such programs cannot be preloaded");
    }
    return {0, path, ""};
}

std::vector<char> piece_of(const std::string& path, std::uint64_t offset, std::size_t bytes)
{
    std::vector<char> piece(bytes);
    int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, piece.data(), piece.size(), static_cast<off_t>(offset));
    if (fd >= 0) {
        close(fd);
    }
    piece.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
    return piece;
}

std::vector<char> start_of(const std::string& path)
{
    return piece_of(path, 0, 8192); // headers come first in what linkers write
}

// What the Go linker writes in every program: the note's owner is "Go", its type 4 (cmd/internal/buildid).
bool has_go_note(const std::vector<char>& notes)
{
    constexpr std::uint32_t go_build_id = 4;
    auto padded = [](std::uint64_t n) { return (n + 3) / 4 * 4; };
    Elf64_Nhdr note; // of both word sizes
    for (std::uint64_t at = 0; at + sizeof note <= notes.size();) {
        std::memcpy(&note, notes.data() + at, sizeof note);
        at += sizeof note;
        bool go = note.n_type == go_build_id && note.n_namesz == sizeof "Go" && at + sizeof "Go" <= notes.size();
        if (go && std::memcmp(notes.data() + at, "Go", sizeof "Go") == 0) {
            return true;
        }
        at += padded(note.n_namesz) + padded(note.n_descsz);
    }
    return false;
}

struct Program {
    bool dynamic = false;
    bool go = false;
};

template <typename Header, typename Segment>
Program look(const std::string& path, const std::vector<char>& image)
{
    constexpr std::uint64_t notes_max = 65536;
    Program p;
    Header header;
    if (image.size() < sizeof header) {
        return p;
    }
    std::memcpy(&header, image.data(), sizeof header);
    for (std::size_t i = 0; i < header.e_phnum; ++i) {
        Segment segment;
        std::size_t at = static_cast<std::size_t>(header.e_phoff) + i * header.e_phentsize;
        if (at + sizeof segment > image.size()) {
            return p;
        }
        std::memcpy(&segment, image.data() + at, sizeof segment);
        p.dynamic |= segment.p_type == PT_INTERP;
        if (segment.p_type == PT_NOTE && !p.go) {
            auto bytes = static_cast<std::size_t>(std::min<std::uint64_t>(segment.p_filesz, notes_max));
            p.go = has_go_note(piece_of(path, segment.p_offset, bytes));
        }
    }
    return p;
}

ProgramCheck check_elf(const std::string& path, const std::vector<char>& image)
{
    bool wide = image[EI_CLASS] == ELFCLASS64;
    if (wide != (sizeof(void*) == 8)) {
        return failed(EX_DATAERR, path, "is of another word size than the preload library");
    }
    Program p = wide ? look<Elf64_Ehdr, Elf64_Phdr>(path, image) : look<Elf32_Ehdr, Elf32_Phdr>(path, image);
    if (!p.dynamic) {
        return failed(EX_DATAERR, path, "is statically linked; such programs cannot be preloaded");
    }
    if (p.go) {
        return failed(EX_DATAERR, path, "is a Go program; it makes system calls past the C library, and so past netd");
    }
    return {0, path, ""};
}

// "#! interpreter argument", and `#!/usr/bin/env PROGRAM`, whose program is what really runs.
std::string interpreter_of(const std::vector<char>& image, const char* path_variable)
{
    std::string line(image.begin() + 2, image.end());
    line = line.substr(0, line.find('\n'));
    std::size_t from = line.find_first_not_of(" \t");
    std::size_t end = std::min(line.find_first_of(" \t", from), line.size());
    std::string interpreter = from == std::string::npos ? "" : line.substr(from, end - from);
    if (interpreter.ends_with("/env")) {
        std::size_t name = line.find_first_not_of(" \t", end);
        if (name != std::string::npos && line[name] != '-') {
            std::string program = line.substr(name, line.find_first_of(" \t", name) - name);
            return find_program(program, path_variable).path;
        }
    }
    return interpreter;
}

} // namespace

ProgramCheck check_program(const std::string& name, const char* path_variable)
{
    ProgramCheck found = find_program(name, path_variable);
    std::string path = found.path;
    for (int depth = 0; found.exit_code == 0 && depth < interpreter_depth_max; ++depth) {
        ProgramCheck each = check_privileges(path);
        if (each.exit_code != 0) {
            return each;
        }
        std::vector<char> image = start_of(path);
        if (image.size() > EI_CLASS && std::memcmp(image.data(), ELFMAG, SELFMAG) == 0) {
            each = check_elf(path, image);
            return each.exit_code != 0 ? each : found;
        }
        if (image.size() < 3 || image[0] != '#' || image[1] != '!') {
            return found; // unreadable, or a script without #!: execvp's shell runs it
        }
        path = interpreter_of(image, path_variable);
    }
    return found;
}

} // namespace netrun
