// libFuzzer target over the parsers of protocols/wire.
#include "base/check.hpp"
#include "tests/fuzz/parse_all.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    INVARIANT(fuzz::parse_all(data, size));
    return 0;
}
