// What TCP counted on one CPU, with a name for each, so that netctl can print all of them. TcpCounters: owner = its
// domain's CPU; all fields s; added to by base::count().
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

namespace protocols {

// field, name. no_connection: segments answered by RST; drops: connections that ended by an error, gave_up: of these,
// when a timer had expired too often; time_wait_overflow: records that a newer one pushed out; no_packet: nothing to
// send with; no_memory: no Tcb; joins: ends of joined pairs; joined_ignored: segments for one, which has none;
// predicted: in order and nothing special (decision 0020).
#define PROTOCOLS_TCP_COUNTERS(X)                                                                                      \
    X(segments_in, "tcp.in")                                                                                           \
    X(segments_out, "tcp.out")                                                                                         \
    X(predicted, "tcp.in_predicted")                                                                                   \
    X(bad_header, "tcp.in_malformed")                                                                                  \
    X(bad_checksum, "tcp.in_bad_checksum")                                                                             \
    X(no_connection, "tcp.in_no_connection")                                                                           \
    X(resets_out, "tcp.out_resets")                                                                                    \
    X(resets_in, "tcp.in_resets")                                                                                      \
    X(challenge_acks, "tcp.out_challenge_acks")                                                                        \
    X(paws_drops, "tcp.in_paws")                                                                                       \
    X(out_of_window, "tcp.in_out_of_window")                                                                           \
    X(retransmits, "tcp.out_retransmits")                                                                              \
    X(timeouts, "tcp.timeouts")                                                                                        \
    X(gave_up, "tcp.gave_up")                                                                                          \
    X(fast_recoveries, "tcp.fast_recoveries")                                                                          \
    X(ecn_reductions, "tcp.ecn_reductions")                                                                            \
    X(probes, "tcp.out_tail_probes")                                                                                   \
    X(probe_repairs, "tcp.tail_probe_repairs")                                                                         \
    X(dsacks, "tcp.in_dsacks")                                                                                         \
    X(undos_eifel, "tcp.undone_by_timestamp")                                                                          \
    X(undos_dsack, "tcp.undone_by_dsack")                                                                              \
    X(undos_frto, "tcp.undone_by_frto")                                                                                \
    X(out_of_order, "tcp.in_out_of_order")                                                                             \
    X(reassembly_full, "tcp.in_reassembly_full")                                                                       \
    X(syn_cache_full, "tcp.syn_cache_full")                                                                            \
    X(half_open_full, "tcp.half_open_full")                                                                            \
    X(cookies_sent, "tcp.cookies_sent")                                                                                \
    X(cookies_valid, "tcp.cookies_valid")                                                                              \
    X(cookies_bad, "tcp.cookies_bad")                                                                                  \
    X(accept_refused, "tcp.accept_refused")                                                                            \
    X(accepts, "tcp.accepts")                                                                                          \
    X(connects, "tcp.connects")                                                                                        \
    X(drops, "tcp.connections_dropped")                                                                                \
    X(time_wait_overflow, "tcp.time_wait_overflow")                                                                    \
    X(no_packet, "tcp.out_no_memory")                                                                                  \
    X(no_memory, "tcp.no_tcb")                                                                                         \
    X(persist_probes, "tcp.out_persist_probes")                                                                        \
    X(keepalive_probes, "tcp.out_keepalive_probes")                                                                    \
    X(icmp_ignored, "tcp.icmp_ignored")                                                                                \
    X(slept, "tcp.idle_slept")                                                                                         \
    X(woken, "tcp.idle_woken")                                                                                         \
    X(no_ring, "tcp.in_no_ring_memory")                                                                                \
    X(fastopen_active, "tcp.fastopen_active")                                                                          \
    X(fastopen_active_fail, "tcp.fastopen_active_fail")                                                                \
    X(fastopen_passive, "tcp.fastopen_passive")                                                                        \
    X(fastopen_passive_fail, "tcp.fastopen_passive_fail")                                                              \
    X(fastopen_overflow, "tcp.fastopen_listen_overflow")                                                               \
    X(fastopen_requests, "tcp.fastopen_cookie_requests")                                                               \
    X(mtu_probes, "tcp.out_mtu_probes")                                                                                \
    X(black_holes, "tcp.black_holes")                                                                                  \
    X(joins, "tcp.joins")                                                                                              \
    X(joined_ignored, "tcp.in_joined")

struct TcpCounters {
#define PROTOCOLS_COUNTER_FIELD(field, name) std::atomic<std::uint64_t> field{0};
    PROTOCOLS_TCP_COUNTERS(PROTOCOLS_COUNTER_FIELD)
#undef PROTOCOLS_COUNTER_FIELD
};

struct TcpCounterName {
    const char* name;
    std::atomic<std::uint64_t> TcpCounters::*field;
};
std::span<const TcpCounterName> tcp_counter_names();

} // namespace protocols
