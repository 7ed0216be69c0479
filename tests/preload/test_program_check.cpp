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
