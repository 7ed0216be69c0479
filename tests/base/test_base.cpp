// base/: sequence arithmetic, addresses, intrusive lists, copies, SipHash against its published vector.
#include <algorithm>
#include <vector>

#include <catch2/catch.hpp>

#include "base/copy_bytes.hpp"
#include "base/list.hpp"
#include "base/net_addr.hpp"
#include "base/random.hpp"
#include "base/seq.hpp"
#include "base/siphash.hpp"

using namespace base;

TEST_CASE("RFC 9293 3.4: sequence comparison wraps")
{
    Seq low{0xfffffff0U};
    Seq high = low + 0x20;
    REQUIRE(high.raw() == 0x10);
    REQUIRE(low < high);
    REQUIRE(high - low == 0x20);
    REQUIRE(high.in_window(low, 0x21));
    REQUIRE_FALSE(high.in_window(low, 0x20));
    REQUIRE(max(low, high) == high);
}

TEST_CASE("addresses and prefixes parse, print and match")
{
    auto a = parse_ip("10.1.2.3");
    REQUIRE(a);
    REQUIRE(a->is_v4());
    REQUIRE(a->v4() == 0x0a010203U);
    REQUIRE(to_string(*a) == "10.1.2.3");
    REQUIRE(to_string(*parse_ip("fd00::1")) == "fd00::1");
    REQUIRE(to_string(*parse_ip("2001:0DB8:0:0:1:0:0:01")) == "2001:db8::1:0:0:1"); // RFC 5952 4
    REQUIRE(to_string(*parse_ip("2001:db8:0:1:1:1:1:1")) == "2001:db8:0:1:1:1:1:1");
    REQUIRE(to_string(*parse_ip("2001:0:0:1:0:0:0:1")) == "2001:0:0:1::1");
    REQUIRE_FALSE(parse_ip("10.1.2"));
    auto p = parse_prefix("10.1.0.0/15");
    REQUIRE(p);
    REQUIRE(p->contains(*a));
    REQUIRE_FALSE(p->contains(*parse_ip("10.2.0.1")));
    REQUIRE(parse_prefix("0.0.0.0/0")->contains(*a));
    REQUIRE_FALSE(parse_prefix("0.0.0.0/33"));
    REQUIRE_FALSE(parse_prefix("10.0.0.0/x"));
    REQUIRE(to_string(*parse_mac("02:00:5e:10:00:ff")) == "02:00:5e:10:00:ff");
    REQUIRE_FALSE(parse_mac("02:00:5e:10:00"));
}

TEST_CASE("SipHash-2-4 reference vector (Aumasson, Bernstein, appendix A)")
{
    unsigned char message[15];
    for (unsigned i = 0; i < 15; ++i) {
        message[i] = static_cast<unsigned char>(i);
    }
    SipKey key{0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};
    REQUIRE(siphash(key, message, sizeof message) == 0xa129ca6149be45e5ULL);
    std::uint64_t words[2] = {0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};
    REQUIRE(siphash24(key, words[0], words[1]) == siphash(key, words, sizeof words));
}

TEST_CASE("intrusive list keeps order and unlinks from the middle")
{
    struct Item {
        int value = 0;
        ListLink link;
    };
    Item items[3] = {{1, {}}, {2, {}}, {3, {}}};
    List<Item, &Item::link> list;
    for (auto& i : items) {
        list.push_back(i);
    }
    items[1].link.unlink();
    REQUIRE(list.front()->value == 1);
    REQUIRE(list.next(items[0])->value == 3);
    REQUIRE(list.pop_front()->value == 1);
    REQUIRE(list.pop_front()->value == 3);
    REQUIRE(list.empty());
}

TEST_CASE("the seeded generator replays")
{
    Random a{42};
    Random b{42};
    for (int i = 0; i < 100; ++i) {
        REQUIRE(a.next() == b.next());
        REQUIRE(a.below(10) < 10);
        (void)b.below(10);
    }
}

TEST_CASE("copies of all sizes around a piece, wherever they lie in a page, are whole and touch nothing else")
{
    std::vector<unsigned char> from(3 * 4096);
    for (std::size_t i = 0; i < from.size(); ++i) {
        from[i] = static_cast<unsigned char>(i * 7 + i / 251);
    }
    for (std::size_t bytes : {0, 1, 2047, 2048, 2049, 4095, 4096, 4097, 6144, 6145}) {
        for (std::size_t shift : {0, 1, 16, 63}) {
            std::vector<unsigned char> to(from.size(), 0xee);
            copy_bytes(to.data() + shift, from.data(), bytes);
            REQUIRE(std::equal(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(bytes),
                to.begin() + static_cast<std::ptrdiff_t>(shift)));
            REQUIRE(
                std::count(to.begin(), to.begin() + static_cast<std::ptrdiff_t>(shift), 0xee) == std::ptrdiff_t(shift));
            REQUIRE(std::all_of(to.begin() + static_cast<std::ptrdiff_t>(shift + bytes), to.end(),
                [](unsigned char c) { return c == 0xee; }));
        }
    }
}
