// See packet_script.hpp.
#include "tests/tcp/packet_script.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "tests/family.hpp"
#include "tests/tcp/packet_runner.hpp"

namespace tcp_test {

namespace {

constexpr base::Micros tolerance = base::millis(2); // the wheel's slots, and rounding

} // namespace

Host& Runner::host()
{
    if (!host_) {
        host_ = std::make_unique<Host>(clock_, options_);
        auto netif = std::make_unique<ScriptNetif>(mtu_ + script_ip_bytes() - 20, tso_, gso_, gro_);
        netif_ = netif.get();
        std::string error;
        if (host_->stack->add_interface(std::move(netif), {{script_local(), 24}}, error) == nullptr) {
            fail(error);
        }
        at_ = clock_.now();
    }
    return *host_;
}

void Runner::settle()
{
    while (host().set.step()) {
    }
}

void Runner::silent()
{
    if (!netif_->sent.empty()) {
        fail("not expected: " + describe_packet(netif_->sent.front(), numbers_));
    }
}

void Runner::advance_to(base::Instant t)
{
    settle();
    for (;;) {
        base::Instant next = host().set.next_deadline();
        if (next >= t) {
            break;
        }
        clock_.advance_to(std::max(next, clock_.now()));
        settle();
    }
    clock_.advance_to(std::max(t, clock_.now()));
    settle();
}

App& Runner::app()
{
    find_accepted();
    if (app_ == nullptr) {
        fail("no connection yet");
    }
    return *app_;
}

void Runner::find_accepted()
{
    for (auto l = listeners_.begin(); app_ == nullptr && l != listeners_.end(); ++l) {
        if (!(*l)->accepted.empty()) {
            app_ = (*l)->accepted.front();
            (*l)->accepted.pop_front();
        }
    }
}

void Runner::nothing_left(std::stringstream& words)
{
    words.clear(); // an optional word that did not come
    if (std::string word; words >> word) {
        fail("not understood: " + word);
    }
}

void Runner::option(std::stringstream& words)
{
    std::string name;
    std::uint32_t v = 0;
    words >> name;
    if (name == "congestion") {
        words >> name;
        options_.stack.congestion = static_cast<std::uint8_t>(protocols::tcp::congestion_by_name(name));
        return;
    }
    words >> v;
    if (host_) {
        fail("options come first");
    }
    if (name == "mtu") {
        mtu_ = v;
    } else if (name == "tso") {
        tso_ = v;
    } else if (name == "gso") {
        gso_ = v;
    } else if (name == "gro") {
        gro_ = v != 0;
    } else if (name == "ring") {
        options_.ring_shift = v;
    } else if (name == "scaling") {
        options_.stack.tcp_window_scaling = v != 0;
    } else if (name == "sack") {
        options_.stack.tcp_sack = v != 0;
    } else if (name == "timestamps") {
        options_.stack.tcp_timestamps = v != 0;
    } else if (name == "cookies") {
        options_.stack.syn_cookies = v != 0;
    } else if (name == "syncache") {
        options_.stack.syn_cache_per_cpu = v;
    } else if (name == "ecn") {
        options_.stack.ecn = static_cast<protocols::Ecn>(v);
    } else if (name == "mtu_probing") {
        options_.stack.mtu_probing = static_cast<protocols::MtuProbing>(v);
    } else if (name == "fastopen") {
        options_.stack.fastopen = v;
    } else if (name == "isn") {
        numbers_.theirs = v;
    } else {
        fail("unknown option " + name);
    }
}

std::vector<unsigned char> Runner::packet(const std::string& text)
{
    ScriptSegment s;
    std::string error;
    if (!parse_segment(text, s, error)) {
        fail(error);
    }
    auto bytes = build_packet(s, numbers_, error);
    if (bytes.empty()) {
        fail(error);
    }
    return bytes;
}

void Runner::inject(const std::string& text)
{
    held_.push_back(packet(text));
    settle();
    silent();
    host().run(0, [&](protocols::Domain&) {
        for (const auto& bytes : held_) {
            netif_->inject(bytes);
        }
    });
    held_.clear();
    settle();
}

void Runner::must_send(const std::string& text, base::Instant at)
{
    ScriptSegment want;
    std::string error;
    if (!parse_segment(text, want, error)) {
        fail(error);
    }
    settle();
    if (netif_->sent.empty()) {
        advance_to(std::max(at - base::millis(1), clock_.now()));
        if (!netif_->sent.empty() && netif_->sent.front().at < at - base::millis(1)) {
            fail("too early: " + describe_packet(netif_->sent.front(), numbers_));
        }
        if (netif_->sent.empty()) {
            advance_to(at + tolerance);
        }
    }
    if (netif_->sent.empty()) {
        fail("nothing was sent");
    }
    Captured got = netif_->sent.front();
    netif_->sent.pop_front();
    std::string difference = compare_packet(got, want, numbers_);
    if (!difference.empty()) {
        fail(difference);
    }
    if (got.at < at - base::millis(1) || got.at > at + tolerance) {
        fail("sent at " + std::to_string((got.at - at_).count()) + " us after the line before");
    }
    at_ = std::max(at, got.at);
}

void Runner::establish(const std::string& rest)
{
    if (listeners_.empty()) {
        std::stringstream plain;
        listen(plain);
    }
    std::string options = "mss 1460";
    std::string window = "65535";
    double rtt_s = 0; // of the handshake
    std::string other = rest;
    if (auto open = rest.find('<'), shut = rest.find('>'); open < shut && shut != std::string::npos) {
        options = rest.substr(open + 1, shut - open - 1);
        other.erase(open, shut + 1 - open);
    }
    std::stringstream words(other);
    std::string word;
    while (words >> word) {
        if (!(word == "win" ? bool{words >> window} : word == "rtt" && words >> rtt_s)) {
            fail("not understood: " + word);
        }
    }
    inject("S 0:0(0) win 65535 <" + options + ">");
    if (netif_->sent.empty()) {
        fail("no SYN-ACK");
    }
    ScriptSegment any;
    (void)compare_packet(netif_->sent.front(), any, numbers_); // learns our numbers
    netif_->sent.pop_front();
    bool ts = options.find("TS") != std::string::npos;
    advance_to(clock_.now() + base::Micros{static_cast<std::int64_t>(rtt_s * 1e6)});
    inject(". 1:1(0) ack 1 win " + window + (ts ? " <nop,nop,TS 100 0>" : ""));
    silent();
    app();
    at_ = clock_.now();
}

void Runner::icmp(std::stringstream& words)
{
    protocols::IcmpError e;
    unsigned type = 0;
    unsigned code = 0;
    std::uint32_t seq = 0;
    std::string word;
    words >> type >> code >> seq;
    if (words >> word) {
        words >> e.mtu;
        e.mtu += script_ip_bytes() - 20;
    }
    e.flow = {{script_local(), script_local_port}, {script_peer(), script_peer_port}};
    e.protocol = 6;
    e.type = static_cast<std::uint8_t>(type);
    e.code = static_cast<std::uint8_t>(code);
    e.tcp_seq = seq + numbers_.ours;
    host().run(0, [&](protocols::Domain& d) { protocols::tcp_icmp_error(d, e); });
    settle();
}

static const std::map<std::string, std::pair<int, int>> option_names{
    {"nodelay", {IPPROTO_TCP, TCP_NODELAY}},
    {"cork", {IPPROTO_TCP, TCP_CORK}},
    {"quickack", {IPPROTO_TCP, TCP_QUICKACK}},
    {"maxseg", {IPPROTO_TCP, TCP_MAXSEG}},
    {"keepidle", {IPPROTO_TCP, TCP_KEEPIDLE}},
    {"keepintvl", {IPPROTO_TCP, TCP_KEEPINTVL}},
    {"keepcnt", {IPPROTO_TCP, TCP_KEEPCNT}},
    {"syncnt", {IPPROTO_TCP, TCP_SYNCNT}},
    {"linger2", {IPPROTO_TCP, TCP_LINGER2}},
    {"user_timeout", {IPPROTO_TCP, TCP_USER_TIMEOUT}},
    {"defer_accept", {IPPROTO_TCP, TCP_DEFER_ACCEPT}},
    {"tos", {IPPROTO_IP, IP_TOS}},
    {"fastopen", {IPPROTO_TCP, TCP_FASTOPEN}},
    {"keepalive", {SOL_SOCKET, SO_KEEPALIVE}},
    {"reuseaddr", {SOL_SOCKET, SO_REUSEADDR}},
    {"rcvbuf", {SOL_SOCKET, SO_RCVBUF}},
    {"recverr", {IPPROTO_IP, IP_RECVERR}},
    {"recverr6", {IPPROTO_IPV6, IPV6_RECVERR}},
    {"mtu_discover", {IPPROTO_IP, IP_MTU_DISCOVER}},
    {"pacing", {SOL_SOCKET, SO_MAX_PACING_RATE}},
};

void Runner::action(const std::string& verb, std::stringstream& words)
{
    if (verb == "connect") {
        if (app_ == nullptr) {
            app_ = &host().make();
        }
        if (app_->so.flow.local.port == 0) {
            host().bind(*app_, {test::address("0.0.0.0"), script_local_port});
        }
        std::string how;
        words >> how;
        bool fast = how == "fast"; // TCP_FASTOPEN_CONNECT
        if (!fast && !how.empty()) {
            fail("not understood: " + how);
        }
        int e = host().connect(*app_, {script_peer(), script_peer_port}, fast);
        if (e != EINPROGRESS && !(fast && e == 0)) {
            fail("connect: errno " + std::to_string(e));
        }
    } else if (verb == "socket") {
        app_ = &host().make();
    } else if (verb == "close" || verb == "abort" || verb == "unconnect") {
        verb == "close" ? host().close(app()) : verb == "abort" ? host().abort(app()) : host().unconnect(app());
    } else if (verb == "unlisten") {
        if (listeners_.empty()) {
            fail("nobody listens");
        }
        host().close(*listeners_.front());
        listeners_.erase(listeners_.begin());
    } else if (verb == "refuse" || verb == "accept") {
        host().refuse_accept = verb == "refuse";
    } else if (verb == "linger0") {
        app().so.options.linger = true;
        app().so.options.linger_s = 0;
    } else if (verb == "write" || verb == "more" || verb == "oob" || verb == "read") {
        std::size_t n = 0;
        words >> n;
        if (verb == "oob") {
            app().slot.app.snd_urgent().store(static_cast<std::uint32_t>(app().written + n));
        }
        if (verb != "read") {
            app().slot.app.snd_more().store(verb == "more" ? 1 : 0);
        }
        std::vector<char> buffer(n, 'd');
        std::uint64_t done = verb != "read" ? app().write(buffer.data(), n) : app().take(buffer.data(), n);
        if (done != n) {
            fail(verb + ": only " + std::to_string(done));
        }
    } else if (verb == "shut") {
        std::string how;
        words >> how;
        host().shutdown(app(), how == "rd" ? SHUT_RD : how == "wr" ? SHUT_WR : SHUT_RDWR);
    } else if (verb == "set" || verb == "listener") {
        std::string name;
        int v = 0;
        words >> name >> v;
        auto o = option_names.find(name);
        if (o == option_names.end()) {
            fail("unknown option " + name);
        }
        if (verb == "listener" && listeners_.empty()) {
            fail("nobody listens");
        }
        App& of = verb == "set" ? app() : *listeners_.back();
        if (int e = host().set_option(of, o->second.first, o->second.second, v); e != 0) {
            fail("setsockopt: errno " + std::to_string(e));
        }
    } else if (verb == "icmp") {
        icmp(words);
    } else if (verb == "narrow") {
        std::uint32_t mtu = 0;
        words >> mtu;
        mtu += script_ip_bytes() - 20;
        host().run(0, [&](protocols::Domain& d) { protocols::pmtu_learn(d, script_peer(), mtu); });
    } else if (verb != "silence") {
        fail("unknown action " + verb);
    }
    settle();
}

void Runner::timed(const std::string& text)
{
    std::stringstream words(text.substr(1));
    double s = 0;
    std::string verb;
    if (!(words >> s >> verb)) {
        fail("a line is +SECONDS WHAT");
    }
    host();
    base::Instant at = at_ + base::Micros{static_cast<std::int64_t>(s * 1e6 + 0.5)};
    std::string rest;
    if (verb == ">") {
        std::getline(words, rest);
        must_send(rest, at);
        return;
    }
    settle();
    silent();
    advance_to(at);
    silent();
    at_ = std::max(at, clock_.now());
    if (verb == "<") {
        std::getline(words, rest);
        inject(rest);
    } else if (verb == "hold") {
        std::getline(words, rest);
        held_.push_back(packet(rest));
    } else {
        action(verb, words);
        nothing_left(words);
    }
}

void Runner::listen(std::stringstream& words)
{
    std::string beside;
    int backlog = 128;
    if (!(words >> backlog)) {
        backlog = 128;
        words.clear();
    }
    words >> beside;
    App& l = host().make();
    if (beside == "shared") {
        host().set_option(l, SOL_SOCKET, SO_REUSEPORT, 1);
    } else if (!beside.empty()) {
        fail("not understood: " + beside);
    }
    if (int e = host().listen(l, {test::address("0.0.0.0"), script_local_port}, backlog); e != 0) {
        fail("listen: errno " + std::to_string(e));
    }
    listeners_.push_back(&l);
}

void Runner::line(const std::string& text)
{
    if (text[0] == '+') {
        timed(text);
        return;
    }
    std::stringstream words(text);
    std::string verb;
    words >> verb;
    if (verb == "option") {
        option(words);
    } else if (verb == "listen") {
        listen(words);
    } else if (verb == "establish") {
        std::string rest;
        std::getline(words, rest);
        establish(rest);
    } else if (verb == "expect") {
        expect(words);
    } else {
        fail("unknown line");
    }
    nothing_left(words);
}

void Runner::finish()
{
    settle();
    silent();
    for (const auto& a : host().apps) {
        if (a->orphan_events) {
            fail("an event after socket_detached");
        }
    }
}

std::string run_script(const ScriptCase& c)
{
    if (c.family != 0 && test::over_v6() != (c.family == 6)) {
        return {};
    }
    Runner runner;
    unsigned at = c.line;
    std::string text;
    try {
        for (const auto& [number, line] : c.lines) {
            at = number;
            text = line;
            runner.line(line);
        }
        runner.finish();
    } catch (const Failure& f) {
        return c.file + ":" + std::to_string(at) + " [" + c.title + "] " + text + "\n    " + f.what;
    }
    return {};
}

} // namespace tcp_test
