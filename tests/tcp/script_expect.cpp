// What a packet script expects of the stack between its packets: states, counters, what can be read.
#include "tests/tcp/packet_runner.hpp"

namespace tcp_test {

void Runner::counter(const std::string& name, std::uint64_t want)
{
    const protocols::TcpCounters& c = host().tcp().counters;
    const protocols::StackCounters& below = host().tcp().domain.counters;
    const std::map<std::string, const std::atomic<std::uint64_t>*> names{
        {"challenge_acks", &c.challenge_acks},
        {"paws_drops", &c.paws_drops},
        {"bad_checksum", &c.bad_checksum},
        {"bad_header", &c.bad_header},
        {"cookies_sent", &c.cookies_sent},
        {"cookies_valid", &c.cookies_valid},
        {"cookies_bad", &c.cookies_bad},
        {"fast_recoveries", &c.fast_recoveries},
        {"timeouts", &c.timeouts},
        {"retransmits", &c.retransmits},
        {"probes", &c.probes},
        {"ecn_reductions", &c.ecn_reductions},
        {"probe_repairs", &c.probe_repairs},
        {"dsacks", &c.dsacks},
        {"undos_eifel", &c.undos_eifel},
        {"undos_dsack", &c.undos_dsack},
        {"undos_frto", &c.undos_frto},
        {"icmp_ignored", &c.icmp_ignored},
        {"accept_refused", &c.accept_refused},
        {"black_holes", &c.black_holes},
        {"mtu_probes", &c.mtu_probes},
        {"fastopen_active", &c.fastopen_active},
        {"fastopen_active_fail", &c.fastopen_active_fail},
        {"fastopen_passive", &c.fastopen_passive},
        {"fastopen_passive_fail", &c.fastopen_passive_fail},
        {"fastopen_overflow", &c.fastopen_overflow},
        {"fastopen_requests", &c.fastopen_requests},
        {"gso.segments", &below.gso_segments},
        {"gro.segments", &below.gro_segments},
    };
    auto n = names.find(name);
    if (n == names.end()) {
        fail("unknown counter " + name);
    }
    if (n->second->load() != want) {
        fail("counter " + name + " is " + std::to_string(n->second->load()));
    }
}

void Runner::expect(std::stringstream& words)
{
    std::string what;
    words >> what;
    settle();
    if (what == "state") {
        std::string name;
        words >> name;
        const protocols::Tcb* t = app().so.tcb;
        std::string is = t == nullptr ? "CLOSED" : protocols::tcp::state_name(t->state);
        if (is != name) {
            fail("state is " + is);
        }
    } else if (what == "error") {
        int e = 0;
        words >> e;
        if (app().error() != e) {
            fail("error is " + std::to_string(app().error()));
        }
    } else if (what == "counter") {
        std::string name;
        std::uint64_t v = 0;
        words >> name >> v;
        counter(name, v);
    } else if (what == "readable") {
        std::uint64_t n = 0;
        words >> n;
        if (app().readable() != n) {
            fail("readable are " + std::to_string(app().readable()));
        }
    } else if (what == "cwnd" || what == "ssthresh") { // octets
        std::uint32_t n = 0;
        words >> n;
        const protocols::Tcb* t = app().so.tcb;
        std::uint32_t is = t == nullptr ? 0 : what == "cwnd" ? t->cc.cwnd : t->cc.ssthresh;
        if (is != n) {
            fail(what + " is " + std::to_string(is));
        }
    } else if (what == "eof") {
        if (!app().at_end()) {
            fail("no end of file");
        }
    } else if (what == "detached") {
        if (!app().detached) {
            fail("not detached");
        }
    } else if (what == "urgent") {
        std::uint64_t at = 0;
        words >> at;
        if (app().slot.owner.urgent_mark.load() != at) {
            fail("urgent mark is " + std::to_string(app().slot.owner.urgent_mark.load()));
        }
    } else if (what == "connections" || what == "accepted" || what == "timewait") {
        std::size_t n = 0;
        words >> n;
        std::size_t is = what == "connections" ? host().connections()
                         : what == "timewait"  ? host().tcp().time_wait.slab.in_use()
                                               : waiting_for_accept();
        if (is != n) {
            fail(what + " are " + std::to_string(is));
        }
    } else {
        fail("unknown expectation " + what);
    }
}

std::size_t Runner::waiting_for_accept() const
{
    std::size_t n = 0;
    for (const App* l : listeners_) {
        n += l->accepted.size();
    }
    return n;
}

} // namespace tcp_test
