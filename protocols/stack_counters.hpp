// What the network layer and UDP counted on one CPU: every reason for which something is dropped or refused has its own
// counter and a name, so that netctl can print all of them. TCP's are protocols/tcp's. StackCounters: owner = its
// domain's CPU; all fields s.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "base/ownership.hpp"

namespace protocols {

// field, name
#define PROTOCOLS_STACK_COUNTERS(X)                                                                                    \
    X(eth_malformed, "eth.malformed")                                                                                  \
    X(eth_not_ours, "eth.not_ours")                                                                                    \
    X(eth_unknown_type, "eth.unknown_type")                                                                            \
    X(eth_other_vlan, "eth.other_vlan")                                                                                \
    X(arp_malformed, "arp.malformed")                                                                                  \
    X(arp_in_requests, "arp.in_requests")                                                                              \
    X(arp_in_replies, "arp.in_replies")                                                                                \
    X(arp_out_requests, "arp.out_requests")                                                                            \
    X(arp_out_replies, "arp.out_replies")                                                                              \
    X(arp_conflicts, "arp.conflicts")                                                                                  \
    X(arp_off_link, "arp.off_link")                                                                                    \
    X(neighbor_learned, "neighbor.learned")                                                                            \
    X(neighbor_updates_in, "neighbor.updates_in")                                                                      \
    X(neighbor_updates_shed, "neighbor.updates_shed")                                                                  \
    X(neighbor_queued, "neighbor.queued")                                                                              \
    X(neighbor_queue_dropped, "neighbor.queue_dropped")                                                                \
    X(neighbor_evicted, "neighbor.evicted")                                                                            \
    X(neighbor_table_full, "neighbor.table_full")                                                                      \
    X(neighbor_rate_limited, "neighbor.rate_limited")                                                                  \
    X(neighbor_failed, "neighbor.failed")                                                                              \
    X(neighbor_doubted, "neighbor.doubted")                                                                            \
    X(neighbor_confirmed, "neighbor.confirmed")                                                                        \
    X(gateways_died, "gateway.died")                                                                                   \
    X(gateways_returned, "gateway.returned")                                                                           \
    X(dhcp_in, "dhcp.in")                                                                                              \
    X(dhcp_in_malformed, "dhcp.in_malformed")                                                                          \
    X(dhcp_in_ignored, "dhcp.in_ignored")                                                                              \
    X(dhcp_out, "dhcp.out")                                                                                            \
    X(dhcp_leases, "dhcp.leases")                                                                                      \
    X(dhcp_renewals, "dhcp.renewals")                                                                                  \
    X(dhcp_refused, "dhcp.refused")                                                                                    \
    X(dhcp_conflicts, "dhcp.conflicts")                                                                                \
    X(dhcp_expired, "dhcp.expired")                                                                                    \
    X(ip_in, "ip.in")                                                                                                  \
    X(ip_in_truncated, "ip.in_truncated")                                                                              \
    X(ip_in_bad_version, "ip.in_bad_version")                                                                          \
    X(ip_in_bad_length, "ip.in_bad_length")                                                                            \
    X(ip_in_bad_checksum, "ip.in_bad_checksum")                                                                        \
    X(ip_in_bad_options, "ip.in_bad_options")                                                                          \
    X(ip_in_bad_fragment, "ip.in_bad_fragment")                                                                        \
    X(ip_in_source_route, "ip.in_source_route")                                                                        \
    X(ip_in_martian, "ip.in_martian")                                                                                  \
    X(ip_in_not_ours, "ip.in_not_ours")                                                                                \
    X(ip_in_link_mismatch, "ip.in_link_mismatch")                                                                      \
    X(ip_in_unknown_protocol, "ip.in_unknown_protocol")                                                                \
    X(ip_in_short_transport, "ip.in_short_transport")                                                                  \
    X(steer_local, "steer.local")                                                                                      \
    X(steer_forwarded, "steer.forwarded")                                                                              \
    X(steer_received, "steer.received")                                                                                \
    X(steer_shed, "steer.shed")                                                                                        \
    X(steer_hops, "steer.hops_exceeded")                                                                               \
    X(frag_in, "frag.in")                                                                                              \
    X(frag_reassembled, "frag.reassembled")                                                                            \
    X(frag_duplicate, "frag.duplicate")                                                                                \
    X(frag_overlap, "frag.overlap")                                                                                    \
    X(frag_malformed, "frag.malformed")                                                                                \
    X(frag_tiny, "frag.tiny")                                                                                          \
    X(frag_limit, "frag.limit")                                                                                        \
    X(frag_refused, "frag.refused")                                                                                    \
    X(frag_marks, "frag.contradicting_marks")                                                                          \
    X(frag_timeout, "frag.timeout")                                                                                    \
    X(frag_no_memory, "frag.no_memory")                                                                                \
    X(frag_out_created, "frag.out_created")                                                                            \
    X(frag_out_datagrams, "frag.out_datagrams")                                                                        \
    X(ip_out, "ip.out")                                                                                                \
    X(ip_out_too_long, "ip.out_too_long")                                                                              \
    X(ip_out_segment_too_long, "ip.out_segment_too_long")                                                              \
    X(ip_out_no_memory, "ip.out_no_memory")                                                                            \
    X(ip_out_no_route, "ip.out_no_route")                                                                              \
    X(ip_out_host_only, "ip.out_host_only")                                                                            \
    X(ip_out_martian, "ip.out_martian")                                                                                \
    X(ip_out_checksum, "ip.out_checksum_in_software")                                                                  \
    X(gso_cut, "gso.cut")                                                                                              \
    X(gso_segments, "gso.segments")                                                                                    \
    X(gso_no_memory, "gso.no_memory")                                                                                  \
    X(gro_joined, "gro.joined")                                                                                        \
    X(gro_segments, "gro.segments")                                                                                    \
    X(icmp_in, "icmp.in")                                                                                              \
    X(icmp_in_malformed, "icmp.in_malformed")                                                                          \
    X(icmp_in_bad_checksum, "icmp.in_bad_checksum")                                                                    \
    X(icmp_in_broadcast, "icmp.in_broadcast_ignored")                                                                  \
    X(icmp_in_ignored, "icmp.in_ignored")                                                                              \
    X(icmp_in_errors, "icmp.in_errors")                                                                                \
    X(icmp_in_bad_quote, "icmp.in_bad_quote")                                                                          \
    X(icmp_echo_replies, "icmp.out_echo_replies")                                                                      \
    X(icmp_out_errors, "icmp.out_errors")                                                                              \
    X(icmp_out_limited, "icmp.out_rate_limited")                                                                       \
    X(icmp_out_suppressed, "icmp.out_suppressed")                                                                      \
    X(pmtu_learned, "pmtu.learned")                                                                                    \
    X(ip6_in, "ip6.in")                                                                                                \
    X(ip6_in_bad_chain, "ip6.in_bad_extension")                                                                        \
    X(ip6_out, "ip6.out")                                                                                              \
    X(nd_in_malformed, "nd.in_malformed")                                                                              \
    X(nd_in_solicitations, "nd.in_solicitations")                                                                      \
    X(nd_in_advertisements, "nd.in_advertisements")                                                                    \
    X(nd_in_routers, "nd.in_router_advertisements")                                                                    \
    X(nd_in_redirects, "nd.in_redirects")                                                                              \
    X(nd_redirects_refused, "nd.redirects_refused")                                                                    \
    X(nd_prefixes_refused, "nd.prefixes_refused")                                                                      \
    X(nd_out_solicitations, "nd.out_solicitations")                                                                    \
    X(nd_out_advertisements, "nd.out_advertisements")                                                                  \
    X(nd_out_router_solicitations, "nd.out_router_solicitations")                                                      \
    X(nd_duplicates, "nd.duplicates")                                                                                  \
    X(nd_conflicts, "nd.conflicts")                                                                                    \
    X(group_in_queries, "group.in_queries")                                                                            \
    X(group_in_ignored, "group.in_ignored")                                                                            \
    X(group_out_reports, "group.out_reports")                                                                          \
    X(udp_in, "udp.in")                                                                                                \
    X(udp_in_malformed, "udp.in_malformed")                                                                            \
    X(udp_in_bad_checksum, "udp.in_bad_checksum")                                                                      \
    X(udp_in_no_member, "udp.in_no_member")                                                                            \
    X(udp_in_no_port, "udp.in_no_port")                                                                                \
    X(udp_in_ring_full, "udp.in_ring_full")                                                                            \
    X(udp_in_shut_down, "udp.in_shut_down")                                                                            \
    X(udp_in_no_lane, "udp.in_no_lane")                                                                                \
    X(udp_forwarded, "udp.forwarded")                                                                                  \
    X(udp_forward_shed, "udp.forward_shed")                                                                            \
    X(udp_out, "udp.out")                                                                                              \
    X(udp_out_no_memory, "udp.out_no_memory")                                                                          \
    X(udp_out_refused, "udp.out_refused")                                                                              \
    X(udp_out_malformed, "udp.out_malformed")                                                                          \
    X(udp_errors_dropped, "udp.errors_dropped")                                                                        \
    X(udp_errors_in, "udp.icmp_errors")

struct alignas(64) StackCounters {
#define PROTOCOLS_COUNTER_FIELD(field, name) std::atomic<std::uint64_t> field{0};
    PROTOCOLS_STACK_COUNTERS(PROTOCOLS_COUNTER_FIELD)
#undef PROTOCOLS_COUNTER_FIELD
};

using base::count;

struct StackCounterName {
    const char* name;
    std::atomic<std::uint64_t> StackCounters::*field;
};
std::span<const StackCounterName> stack_counter_names();

} // namespace protocols
