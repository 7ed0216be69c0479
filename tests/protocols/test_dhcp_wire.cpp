// DHCP's messages (RFC 2131 2, RFC 2132, RFC 3442) by value.
#include "protocols/wire/dhcp.hpp"

#include "base/endian.hpp"
#include "tests/protocols/frames.hpp"
#include "tests/protocols/host.hpp"

using namespace test;
using wire::DhcpMessage;
using wire::DhcpType;

namespace {

// Options behind the fixed part, as bytes.
std::optional<DhcpMessage> parse_options(Bytes options, const Bytes& file = {}, const Bytes& name = {})
{
    Bytes b(wire::dhcp_fixed_bytes);
    b[0] = 2;
    b[1] = 1;
    b[2] = 6;
    std::copy(file.begin(), file.end(), b.begin() + 108);
    std::copy(name.begin(), name.end(), b.begin() + 44);
    base::store_be32(b.data() + 236, 0x63825363);
    b.insert(b.end(), options.begin(), options.end());
    return wire::parse_dhcp(b.data(), static_cast<std::uint32_t>(b.size()));
}

} // namespace

TEST_CASE("RFC 2131 2, RFC 2132: a message is laid out as drawn and parses back")
{
    DhcpMessage m;
    m.type = DhcpType::request;
    m.xid = 0x01020304;
    m.seconds = 0x0506;
    m.broadcast = true;
    m.client = 0x0a000005;
    m.mac = mac(1);
    m.requested = 0x0a000006;
    m.server = 0x0a000001;
    m.asks = true;
    Bytes b(wire::dhcp_emit_max, 0xee);
    b.resize(wire::emit_dhcp(b.data(), m));
    CHECK(b.size() == 300);
    CHECK(slice(b, 0, 16) == Bytes{1, 1, 6, 0, 1, 2, 3, 4, 5, 6, 0x80, 0, 10, 0, 0, 5});
    CHECK(slice(b, 28, 6) == Bytes{2, 0, 0, 0, 0, 1});
    CHECK(slice(b, 236, 4) == Bytes{0x63, 0x82, 0x53, 0x63});
    CHECK(slice(b, 240, 41) == Bytes{53, 1, 3, 61, 7, 1, 2, 0, 0, 0, 0, 1, 50, 4, 10, 0, 0, 6, 54, 4, 10, 0, 0, 1, 57,
                                   2, 2, 0x40, 55, 10, 1, 121, 3, 6, 26, 28, 51, 54, 58, 59, 255});
    auto back = wire::parse_dhcp(b.data(), 300);
    REQUIRE(back.has_value());
    CHECK((back->xid == m.xid && back->requested == m.requested && back->server == m.server && back->broadcast));
}

TEST_CASE("RFC 2132: an option of a length that its kind cannot have, or beyond the end, condemns the message")
{
    Bytes type{53, 1, 5};
    auto with = [&](const Bytes& option) {
        Bytes b = type;
        b.insert(b.end(), option.begin(), option.end());
        b.push_back(255);
        return parse_options(b);
    };
    CHECK(parse_options(type).has_value());   // without an end
    CHECK(!parse_options({255}).has_value()); // of no type
    for (unsigned char numbers : Bytes{1, 28, 50, 51, 54, 58, 59}) {
        CHECK(with({numbers, 4, 1, 2, 3, 4}).has_value());
        CHECK(!with({numbers, 3, 1, 2, 3}).has_value());
        CHECK(!with({numbers, 5, 1, 2, 3, 4, 5}).has_value());
        CHECK(!with({numbers, 0}).has_value());
    }
    for (unsigned char list : Bytes{3, 6}) {
        CHECK(!with({list, 0}).has_value());
        CHECK(!with({list, 6, 1, 2, 3, 4, 5, 6}).has_value());
    }
    CHECK(!with({26, 1, 5}).has_value());
    CHECK(!with({53, 1, 0}).has_value());
    CHECK(!with({53, 1, 9}).has_value());
    CHECK(!with({53, 2, 1, 1}).has_value());
    CHECK(!with({52, 1, 4}).has_value());
    CHECK(with({200, 3, 9, 9, 9}).has_value()); // unknown
    CHECK(!parse_options({53, 1, 5, 3}).has_value());
    CHECK(!parse_options({53, 1, 5, 200, 2, 1}).has_value());
    Bytes many{53, 1, 5, 3, 24};
    many.resize(5 + 24, 7);
    REQUIRE(parse_options(many).has_value());
    CHECK(parse_options(many)->routers.count == wire::dhcp_addresses_max);
}

TEST_CASE("RFC 2132 9.3: options overflow into the fields for file and server name, where the message says so")
{
    Bytes file{51, 4, 0, 0, 0, 9, 255};
    Bytes name{1, 4, 255, 255, 255, 0, 255};
    auto m = parse_options({52, 1, 3, 53, 1, 5, 255}, file, name);
    REQUIRE(m.has_value());
    CHECK((m->lease_s == 9 && m->mask == 0xffffff00));
    CHECK(parse_options({52, 1, 1, 53, 1, 5, 255}, file, name)->mask == 0);
    CHECK(parse_options({53, 1, 5, 255}, file, name)->lease_s == 0);
    CHECK(!parse_options({52, 1, 1, 53, 1, 5, 255}, {51, 200}).has_value());
}

TEST_CASE("RFC 3442, RFC 3396: the option's form; in parts it is one; what is cut or too long condemns the message")
{
    auto with = [](Bytes options) {
        options.insert(options.begin(), {53, 1, 5});
        options.push_back(255);
        return parse_options(options);
    };
    auto m = with({121, 8, 24, 10, 20, 30, 10, 5, 0, 1, 121, 5, 0, 10, 5, 0, 2});
    REQUIRE(m.has_value());
    REQUIRE(m->routes.count == 2);
    CHECK((m->routes.at[0].length == 24 && m->routes.at[0].destination == 0x0a141e00));
    CHECK((m->routes.at[1].length == 0 && m->routes.at[1].router == 0x0a050002));
    m = with({121, 3, 9, 10, 0xff, 121, 4, 1, 2, 3, 4});
    REQUIRE(m.has_value());
    CHECK((m->routes.at[0].destination == 0x0a800000 && m->routes.at[0].router == 0x01020304));
    CHECK(!with({121, 0}).has_value());
    CHECK(!with({121, 4, 0, 1, 2, 3}).has_value());
    CHECK(!with({121, 9, 33, 1, 2, 3, 4, 1, 2, 3, 4}).has_value());
    CHECK(!with({121, 7, 24, 1, 2, 3, 1, 2, 3}).has_value());
}
