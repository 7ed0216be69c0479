// A DHCP server that is a UDP socket of one stack, and a second stack that asks it: a host without an address is heard
// and answered by broadcast (RFC 1122 3.2.1.3, RFC 2131 4.1). IPv4 by nature.
#include "protocols/stack_counters.hpp"
#include "protocols/wire/dhcp.hpp"
#include "tests/embed/pair.hpp"

using namespace test;
namespace wire = protocols::wire;

namespace {

constexpr std::uint32_t server = 0x0a050001; // 10.5.0.1
constexpr std::uint32_t given = 0x0a050007;
const base::Endpoint everyone{base::IpAddr::v4(0xffffffff), wire::dhcp_client_port};

embed::Socket serve(embed::Stack& stack)
{
    embed::Socket s;
    REQUIRE(embed::Socket::open(stack, SOCK_DGRAM, s, AF_INET) == 0);
    REQUIRE(s.set_option(SOL_SOCKET, SO_BROADCAST, 1) == 0);
    timeval patience{20, 0};
    REQUIRE(client::sock_setsockopt(s.session(), s.id(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    REQUIRE(s.bind({base::IpAddr::any_v4(), wire::dhcp_server_port}) == 0);
    return s;
}

// Takes the next message, which comes from nowhere to everyone, and answers with the address.
wire::DhcpType answer(embed::Socket& s)
{
    char buffer[1500];
    base::Endpoint from;
    ssize_t n = s.recv_from(buffer, from);
    REQUIRE(n > 0);
    CHECK(from == base::Endpoint{base::IpAddr::any_v4(), wire::dhcp_client_port});
    auto m = wire::parse_dhcp(buffer, static_cast<std::uint32_t>(n));
    REQUIRE(m.has_value());
    wire::DhcpType asked = m->type;
    m->from_server = true;
    m->type = asked == wire::DhcpType::discover ? wire::DhcpType::offer : wire::DhcpType::ack;
    m->yours = given;
    m->server = server;
    m->lease_s = 3600;
    m->mask = 0xffff0000;
    char reply[wire::dhcp_emit_max];
    std::size_t size = wire::emit_dhcp(reply, *m);
    CHECK(s.send_to({reply, size}, everyone) == static_cast<ssize_t>(size));
    return asked;
}

} // namespace

TEST_CASE("RFC 1122 3.2.1.3: a server's UDP socket hears a host without an address, and leases it one by broadcast")
{
    for (const char* gateway : {"", "10.5.0.9"}) { // with a default route a broadcast is still one
        embed::Simulation world{41};
        embed::Stack a(stack_config(2, &world, 82, "a"));
        embed::Stack b(stack_config(2, &world, 83, "b"));
        drivers::SimLinkOptions options;
        options.a.steering = &a.protocols().steering();
        options.b.steering = &b.protocols().steering();
        drivers::SimLink link = drivers::make_sim_link(options);
        std::string error;
        REQUIRE(a.add_interface(std::move(link.a), {}, error, false, true));
        REQUIRE(b.add_interface(std::move(link.b), {"10.5.0.1/16"}, error));
        REQUIRE((*gateway == 0 || b.add_route("0.0.0.0/0", gateway, error)));
        REQUIRE((a.start(error) && b.start(error)));
        embed::Socket s = serve(b);
        CHECK(answer(s) == wire::DhcpType::discover);
        CHECK(answer(s) == wire::DhcpType::request);
        world.run_for(base::seconds(3)); // probed for, announced
        embed::Socket c;
        REQUIRE(embed::Socket::open(a, SOCK_DGRAM, c, AF_INET) == 0);
        REQUIRE(c.connect({base::IpAddr::v4(server), 9}) == 0);
        base::Endpoint local;
        REQUIRE(c.local(local) == 0);
        CHECK(local.addr == base::IpAddr::v4(given));
    }
}
