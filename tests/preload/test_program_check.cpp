// What netrun says of programs it cannot preload, on files made for the purpose.
#include <elf.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "client/preload/program_check.hpp"

using netrun::check_program;

namespace {

struct Folder {
    Folder() { REQUIRE(mkdtemp(path) != nullptr); }
    ~Folder() { std::system(("rm -r " + std::string(path)).c_str()); }
    std::string write(const std::string& name, const std::string& content, mode_t mode = 0755)
    {
        std::string file = std::string(path) + "/" + name;
        std::ofstream(file, std::ios::binary) << content;
        chmod(file.c_str(), mode);
        return file;
    }
    char path[32] = "/tmp/netrun-test-XXXXXX";
};

std::string elf(std::uint32_t segment_type)
{
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 1;
    Elf64_Phdr segment{};
    segment.p_type = segment_type;
    return std::string(reinterpret_cast<char*>(&header), sizeof header) +
           std::string(reinterpret_cast<char*>(&segment), sizeof segment);
}

// One with an interpreter and, behind `gap` bytes, a note.
std::string elf_with_note(const std::string& owner, std::uint32_t type, std::size_t gap)
{
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 2;
    Elf64_Phdr segments[2]{};
    segments[0].p_type = PT_INTERP;
    std::string notes;
    for (const auto& [name, kind] : {std::pair<std::string, std::uint32_t>{"GNU", 3}, {owner, type}}) {
        Elf64_Nhdr note{static_cast<Elf64_Word>(name.size() + 1), 5, kind};
        notes.append(reinterpret_cast<char*>(&note), sizeof note);
        notes += name + std::string(4 - name.size() % 4, '\0') + std::string("abcde\0\0\0", 8);
    }
    segments[1].p_type = PT_NOTE;
    segments[1].p_offset = sizeof header + sizeof segments + gap;
    segments[1].p_filesz = notes.size();
    return std::string(reinterpret_cast<char*>(&header), sizeof header) +
           std::string(reinterpret_cast<char*>(segments), sizeof segments) + std::string(gap, 'x') + notes;
}

} // namespace

TEST_CASE("programs are found as a shell finds them")
{
    Folder f;
    std::string file = f.write("prog", elf(PT_INTERP));
    CHECK(check_program("prog", f.path).path == file);
    CHECK(check_program("prog", f.path).exit_code == 0);
    CHECK(check_program("other", f.path).exit_code == 127);
    CHECK(check_program(std::string(f.path) + "/none", "").exit_code == 127);
    f.write("data", elf(PT_INTERP), 0644);
    CHECK(check_program("data", f.path).exit_code == 126);
    CHECK(check_program(f.path, "").exit_code == 126); // a directory
}

TEST_CASE("static programs are refused, also behind #!")
{
    Folder f;
    std::string fixed = f.write("static", elf(PT_LOAD));
    CHECK(check_program(fixed, "").exit_code == EX_DATAERR);
    std::string script = f.write("script", "#!" + fixed + " -x\n");
    CHECK(check_program(script, "").exit_code == EX_DATAERR);
    std::string by_env = f.write("by_env", "#! /usr/bin/env static\n");
    CHECK(check_program(by_env, f.path).exit_code == EX_DATAERR);
    std::string good = f.write("good", "#!" + f.write("dynamic", elf(PT_INTERP)) + "\n");
    CHECK(check_program(good, "").exit_code == 0);
    CHECK(check_program(good, "").path == good); // the kernel starts its interpreter
    CHECK(check_program(f.write("bad", "#!/no/such/interpreter\n"), "").exit_code != 0);
}

TEST_CASE("programs of Go are refused: they make system calls by themselves")
{
    Folder f;
    for (std::size_t gap : {0U, 100'000U}) {
        netrun::ProgramCheck go = check_program(f.write("go", elf_with_note("Go", 4, gap)), "");
        CHECK(go.exit_code == EX_DATAERR);
        CHECK(go.message.find("Go") != std::string::npos);
        CHECK(check_program(f.write("other", elf_with_note("Gone", 4, gap)), "").exit_code == 0);
        CHECK(check_program(f.write("version", elf_with_note("Go", 5, gap)), "").exit_code == 0);
    }
    std::string cut = elf_with_note("Go", 4, 0);
    for (std::size_t size = sizeof(Elf64_Ehdr); size < cut.size(); ++size) {
        check_program(f.write("cut", cut.substr(0, size)), "");
    }
}

TEST_CASE("programs that gain privileges are refused")
{
    Folder f;
    std::string file = f.write("suid", elf(PT_INTERP));
    if (geteuid() != 0) {
        WARN("needs root to give a file away");
        return;
    }
    REQUIRE(chown(file.c_str(), 65534, 65534) == 0);
    REQUIRE(chmod(file.c_str(), 04755) == 0);
    CHECK(check_program(file, "").exit_code == EX_NOPERM);
}
