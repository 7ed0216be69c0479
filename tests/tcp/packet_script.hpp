// Packet scripts (tests/tcp/scripts/*.pkt): what the peer sends, what the application does, what must come out and
// when, on a virtual clock. Whole packets are compared, and whatever is not expected is an error: silence is insisted
// on.
//
// A file holds cases; a case begins with "== title". "#" starts a comment. Lines:
//
//   option NAME VALUE
//       before anything else: mtu, ring (log2), cookies, scaling, sack, timestamps, syncache, isn (the peer's), tso,
//       gso, gro, ecn, congestion, fastopen, mtu_probing, family (4 or 6: the case says numbers of that one; every
//       other runs over both, tests/family.hpp)
//   listen [backlog [shared]]
//       the application listens on the local port (8080); shared: with SO_REUSEPORT, so that it can listen again
//   establish [win N] [rtt SECONDS] [OPTS]
//       a passive handshake with the peer's SYN options OPTS (default: mss 1460 only), not compared
//   +T < FLAGS SEQ:END(LEN) [ack N] [win N] [tos N] [<OPTS>]
//       the peer sends; numbers are relative to its and our ISN; +T hold ...: it arrives in one batch with the next
//   +T > FLAGS SEQ:END(LEN) [ack N] [win N] [<OPTS>]
//       we must send exactly this; win, tos and options may be left out
//   +T connect [fast] | close | abort | write N | more N (MSG_MORE) | oob N (MSG_OOB) | read N | shut rd|wr|rdwr |
//      set NAME VALUE | listener NAME VALUE | unlisten (who listens longest) | unconnect (connect to AF_UNSPEC)
//   +T icmp TYPE CODE SEQ [mtu N]
//   +T narrow N (another connection learns the path MTU to the peer)
//   +T silence
//       nothing comes out until then
//   expect state NAME | error N | counter NAME N | cwnd N | ssthresh N | readable N | eof | detached | gone |
//   connections N
//
// FLAGS: of S F R P U E W A . in this order. T: seconds from the line before. A word that has no meaning where it
// stands is an error: it would be a demand that nobody checks.
#pragma once

#include <string>
#include <vector>

namespace tcp_test {

struct ScriptCase {
    std::string file;
    std::string title;
    unsigned line = 0; // of the title
    std::vector<std::pair<unsigned, std::string>> lines;
    int family = 0; // 4, 6: numbers in it are of one family
};

// All cases of a directory's *.pkt files, in order of file name.
std::vector<ScriptCase> load_scripts(const std::string& directory);
// Empty when the case passed; else what went wrong, with file and line.
std::string run_script(const ScriptCase& c);

} // namespace tcp_test
