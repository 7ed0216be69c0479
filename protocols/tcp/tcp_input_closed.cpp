// A segment that belongs to nothing (RFC 9293 3.10.7.1), and the form of the reset it gets (3.5.2 group 1).
#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

void segment_in_closed(Domain& d, const Segment& s)
{
    count(d.tcp->counters.no_connection);
    send_reset_for(d, s);
}

} // namespace protocols::tcp
