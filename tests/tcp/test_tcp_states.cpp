// Every state that knows the peer's numbers, and SYN-RECEIVED by either way, times every kind of segment (RFC 9293
// 3.10.7.4, RFC 5961; Linux where these leave room). A cell says what goes out and what becomes of the connection:
//
//   -    nothing      A    an ACK of what was acknowledged before      A7   ... of seven octets more
//   R    <SEQ=SEG.ACK><CTL=RST>      S    a SYN-ACK
//   X    the connection is over, and its application hears why (X0: there is nothing to hear)
//   >ST  the state is ST afterwards (EST, FW2, CW, CL, TW); without, it is as before
#include <catch2/catch.hpp>

#include <map>
#include <sstream>
#include <vector>

#include "tests/tcp/packet_script.hpp"

namespace {

using Lines = std::vector<std::string>;

struct Place {
    const char* state; // as scripts name it; "" = in the SYN cache
    Lines way;         // there
    int snd_nxt;       // in the script's numbers
    int rcv_nxt;
    int error; // that a reset tells the application
};

const Lines established{"listen", "establish"};
const Lines our_fin{"+0.01 shut wr", "+0 > F. 1:1(0) ack 1"};

Lines operator+(Lines a, const Lines& b)
{
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

const std::vector<Place> places{
    {"", {"listen", "+0 < S 0:0(0) win 65535 <mss 1460>", "+0 > S. 0:0(0) ack 1"}, 1, 1, 0},
    {"SYN-RECEIVED", {"+0 connect", "+0 > S 0:0(0)", "+0.01 < S 0:0(0) win 65535 <mss 1460>", "+0 > S. 0:0(0) ack 1"},
        1, 1, 111},
    {"ESTABLISHED", established, 1, 1, 104},
    {"FIN-WAIT-1", established + our_fin, 2, 1, 104},
    {"FIN-WAIT-2", established + our_fin + Lines{"+0.01 < . 1:1(0) ack 2"}, 2, 1, 104},
    {"CLOSE-WAIT", established + Lines{"+0.01 < F. 1:1(0) ack 1", "+0 > . 1:1(0) ack 2"}, 1, 2, 32},
    {"CLOSING", established + our_fin + Lines{"+0.01 < F. 1:1(0) ack 1", "+0 > . 2:2(0) ack 2"}, 2, 2, 104},
    {"LAST-ACK",
        established + Lines{"+0.01 < F. 1:1(0) ack 1", "+0 > . 1:1(0) ack 2", "+0.01 shut wr", "+0 > F. 1:1(0) ack 2"},
        2, 2, 104},
    {"TIME-WAIT", established + our_fin + Lines{"+0.01 < F. 1:1(0) ack 2", "+0 > . 2:2(0) ack 2"}, 2, 2, 0},
};

struct Row {
    const char* what; // FLAGS, SEQ from RCV.NXT, text octets, ACK from SND.NXT if any
    const char* answers;
};

// What a place offers: the window is 65535 octets from RCV.NXT on, one less behind a FIN.
constexpr Row table[] = {
    // clang-format off
    //                  SYN-RCVD:
    //                  passive  crossed  EST     FW1     FW2     CW     CLOSING LAST-ACK TIME-WAIT
    // RST: RFC 5961 3
    {"R 0 0",          "X        X        X       X       X       X      X       X        X"},
    {"R. 0 0 0",       "X        X        X       X       X       X      X       X        X"},
    {"R. 0 0 5",       "X        X        X       X       X       X      X       X        X"},
    {"R 0 10",         "X        X        X       X       X       X      X       X        X"},
    {"SR 0 0",         "X        X        X       X       X       X      X       X        X"},
    {"R 1 0",          "A        A        A       A       A       A      A       A        -"},
    {"R 65533 0",      "A        A        A       A       A       A      A       A        -"},
    {"R 65536 0",      "-        -        -       -       -       -      -       -        -"},
    {"R -1 0",         "-        -        -       -       -       X      X       X        -"}, // the FIN's number
    {"R -2 0",         "-        -        -       -       -       -      -       -        -"},
    // SYN: RFC 5961 4; RFC 9293 3.5, 3.6.1
    {"S 0 0",          "A        A        A       A       A       A      A       A        A"},
    {"S 10 0",         "A        A        A       A       A       A      A       A        S"},
    {"S 65545 0",      "A        A        A       A       A       A      A       A        S"},
    {"S -1 0",         "S        A        A       A       A       A      A       A        A"},
    {"S -100000 0",    "A        A        A       A       A       A      A       A        A"},
    {"SF 0 0",         "A        A        A       A       A       A      A       A        A"},
    {"SF 10 0",        "A        A        A       A       A       A      A       A        A"},
    {"S. 0 0 0",       "A        A        A       A       A       A      A       A        A"},
    {"S. -1 0 0",      "A        A>EST    A       A       A       A      A       A        A"},
    // ACK: RFC 5961 5
    {". 0 0 0",        "->EST    ->EST    -       ->FW2   -       -      ->TW    X0       -"},
    {". 0 0 1",        "R        R        A       A       A       A      A       A        -"},
    {". 0 0 -1",       "R        R        A       -       -       A      -       -        -"}, // FW1 and on: FIN or less
    {". 0 0 -10",      "R        R        A       A       A       A      A       A        -"}, // never sent
    {". 0 0 -70000",   "R        R        A       A       A       A      A       A        -"},
    {". -1 0 0",       "A        A        A       A       A       A      A       A        A"},
    {". 65545 0 0",    "A        A        A       A       A       A      A       A        A"},
    // without ACK
    {"P 0 10",         "-        -        -       -       -       -      -       -        A"},
    {"F 0 0",          "-        -        -       -       -       -      -       -        A"},
    {"- 0 0",          "-        -        -       -       -       -      -       -        -"},
    // FIN
    {"F. 0 0 0",       "A1>CW    A1>CW    A1>CW   A1>TW   A1>TW   -      ->TW    X0       A"},
    {"F. 0 0 -1",      "R        R        A       A1>CL   A1>TW   A      -       -        A"},
    {"FP. 0 10 0",     "A11>CW   A11>CW   A11>CW  A11>TW  A11>TW  -      ->TW    X0       A"},
    {"F. 10 0 0",      "A>EST    A>EST    A       A>FW2   A       -      ->TW    X0       A"},
    {"F. 65545 0 0",   "A        A        A       A       A       A      A       A        A"},
    {"F. -1 0 0",      "A        A        A       A       A       A      A       A        A"},
    // text
    {"P. 0 10 0",      "A10>EST  A10>EST  A10     A10>FW2 A10     -      ->TW    X0       A"},
    {"PU. 0 10 0",     "A10>EST  A10>EST  A10     A10>FW2 A10     -      ->TW    X0       A"},
    {"P. 0 10 1",      "R        R        A       A       A       A      A       A        A"},
    {"P. 0 10 -10",    "R        R        A       A       A       A      A       A        A"},
    {"P. 10 10 0",     "A>EST    A>EST    A       A>FW2   A       -      ->TW    X0       A"},
    {"P. 65545 10 0",  "A        A        A       A       A       A      A       A        A"},
    {"P. -1 1 0",      "A        A        A       A       A       A      A       A        A"},
    // clang-format on
};

std::string number(int n) // modulo 2^32
{
    return std::to_string(static_cast<std::uint32_t>(n));
}

std::string range(int from, int octets)
{
    return number(from) + ':' + number(from + octets) + '(' + std::to_string(octets) + ')';
}

struct Sent {
    std::string flags;
    int seq = 0;
    int text = 0;
    bool has_ack = false;
    int ack = 0;
};

Sent parse(const char* what)
{
    Sent s;
    std::stringstream words(what);
    words >> s.flags >> s.seq >> s.text;
    s.has_ack = bool{words >> s.ack};
    return s;
}

std::string name_of(const std::string& state)
{
    static const std::map<std::string, std::string> names{
        {"EST", "ESTABLISHED"}, {"FW2", "FIN-WAIT-2"}, {"CW", "CLOSE-WAIT"}, {"CL", "CLOSING"}, {"TW", "TIME-WAIT"}};
    return names.at(state);
}

Lines in_state(const std::string& state)
{
    if (state == "TIME-WAIT") {
        return {"expect connections 0", "expect timewait 1"};
    }
    if (state.empty()) {
        return {"expect connections 1", "expect accepted 0"};
    }
    return {"expect state " + state, "expect timewait 0"};
}

Lines over(const Place& p, bool reset)
{
    Lines lines{"expect connections 0", "expect timewait 0"};
    if (p.error != 0) {
        lines.push_back("expect error " + std::to_string(reset ? p.error : 0));
    }
    return lines;
}

// The lines of the script behind `p.way`.
Lines events(const Place& p, const Sent& s, std::string answer)
{
    std::string in = "+0.01 < " + s.flags + ' ' + range(p.rcv_nxt + s.seq, s.text);
    in += s.has_ack ? " ack " + number(p.snd_nxt + s.ack) : "";
    in += s.flags.find('U') != std::string::npos ? " urg 10" : "";
    Lines lines{in};
    std::string after = p.state;
    if (auto to = answer.find('>'); to != std::string::npos) {
        after = name_of(answer.substr(to + 1));
        answer.resize(to);
    }
    if (answer[0] == 'A') {
        int more = answer.size() > 1 ? std::stoi(answer.substr(1)) : 0;
        lines.push_back("+0 > . " + range(p.snd_nxt, 0) + " ack " + number(p.rcv_nxt + more));
    } else if (answer[0] == 'R') {
        lines.push_back("+0 > R " + range(p.snd_nxt + s.ack, 0));
    } else if (answer[0] == 'S' && after.empty()) {
        lines.push_back("+0 > S. 0:0(0) ack 1");
    } else if (answer[0] == 'S') { // above all numbers of before (RFC 9293 3.6.1)
        lines.push_back("+0 > S. " + range(p.snd_nxt + 65537, 0) + " ack " + number(p.rcv_nxt + s.seq + 1));
        return lines + Lines{"expect timewait 0", "expect connections 1"};
    }
    return lines + (answer[0] == 'X' ? over(p, answer == "X") : in_state(after));
}

tcp_test::ScriptCase case_of(const Place& p, const Row& row, const std::string& answer)
{
    tcp_test::ScriptCase c{"states", std::string(row.what) + " in " + p.state + ": " + answer, 1, {}, 0};
    for (const std::string& line : p.way + events(p, parse(row.what), answer)) {
        c.lines.emplace_back(static_cast<unsigned>(c.lines.size() + 1), line);
    }
    return c;
}

} // namespace

TEST_CASE("RFC 9293 3.10.7.4, RFC 5961: every state times every kind of segment")
{
    for (const Row& row : table) {
        std::stringstream answers(row.answers);
        for (const Place& p : places) {
            std::string answer;
            REQUIRE(answers >> answer);
            std::string failure = tcp_test::run_script(case_of(p, row, answer));
            INFO(failure);
            CHECK(failure.empty());
        }
    }
}
