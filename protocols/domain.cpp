// A domain's construction and its wheel. Built and destroyed by its Stack, before the CPUs run and after they have
// stopped.
#include "protocols/domain.hpp"

#include "protocols/dead_gateways.hpp"
#include "protocols/dhcp/dhcp_client.hpp"
#include "protocols/gro.hpp"
#include "protocols/icmp.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/multicast/group_jobs.hpp"
#include "protocols/neighbor.hpp"
#include "protocols/port_table.hpp"
#include "protocols/reassembly.hpp"
#include "protocols/stack.hpp"
#include "protocols/tcp/tcp_domain.hpp"
#include "protocols/udp/udp_state.hpp"

namespace protocols {

// Runs the wheel in class clock.
class Domain::WheelPoller final : public lwkt::Poller {
public:
    explicit WheelPoller(Domain& d) : domain_(d) { domain_.cpu.add_poller(lwkt::Class::clock, *this); }
    ~WheelPoller() override { domain_.cpu.remove_poller(lwkt::Class::clock, *this); }
    WheelPoller(const WheelPoller&) = delete;
    WheelPoller& operator=(const WheelPoller&) = delete;

    std::uint32_t poll(std::uint32_t budget) override { return domain_.wheel.run(domain_.cpu.now(), budget); }
    bool pending() const override { return false; } // only the owner arms timers
    base::Instant deadline() const override { return domain_.wheel.next_deadline(); }

private:
    Domain& domain_; // c
};

Domain::Domain(Stack& of_stack, lwkt::Cpu& of_cpu, std::uint64_t seed)
    : stack(of_stack), cpu(of_cpu), wheel(of_cpu.now()), random(seed), table_key{random.next(), random.next()},
      port(*this), neighbors(std::make_unique<NeighborTable>(*this)), ipv4(std::make_unique<Ipv4State>(*this)),
      icmp(std::make_unique<IcmpState>(*this)), tcp_ports(std::make_unique<PortTable>()),
      udp_ports(std::make_unique<PortTable>()), udp(std::make_unique<UdpState>(*this)),
      gro(std::make_unique<GroState>(*this)), tcp(std::make_unique<TcpState>(*this)),
      reassembly(std::make_unique<ReassemblyState>(*this)), ipv6(std::make_unique<Ipv6State>(*this)),
      dead_gateways(std::make_unique<DeadGateways>()), dhcp(std::make_unique<DhcpState>()),
      groups(std::make_unique<GroupState>(*this)), wheel_poller_(std::make_unique<WheelPoller>(*this))
{
}

// Packets that still wait somewhere are not given back one by one: their memory goes with the stack's pool.
Domain::~Domain() = default;

} // namespace protocols
