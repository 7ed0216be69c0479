// The shared-memory ABI between netd (or an embedding process) and applications: the one header that both sides
// compile. netd creates and seals one memfd per family (a process and its fork descendants); everything in it is laid
// out here.
//
// Trust: the application may write anything anywhere at any time. netd therefore copies a field once, validates the
// copy, and keeps its own truth in private memory; nothing it reads here can harm another client.
// Keys: o = written by netd's owner CPU of the socket, u = written by the application, c = written once by netd before
// the application sees it. Offsets are absolute 64-bit byte counts; a position in a ring is
// (offset - start) & (size - 1), where `start` is 0 at first and moved by the ring's writer while the ring is empty.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace sockbuf {

inline constexpr std::uint32_t abi_magic = 0x4e455444; // "NETD"
inline constexpr std::uint32_t abi_version = 10;

inline constexpr std::uint32_t max_processes = 63; // bit 63 of SocketSlot::holders is lane_holder
inline constexpr std::uint32_t max_waiters = 128;  // threads and epoll sets of a family that can block at once
inline constexpr std::uint32_t max_cpus = 64;
inline constexpr std::uint32_t max_sockets = 15 * 64 * 64; // what MarkLine::summary can name
inline constexpr std::uint32_t max_prefixes = 64;
inline constexpr std::uint64_t lane_holder = std::uint64_t{1} << 63;
inline constexpr std::uint64_t no_offset = ~std::uint64_t{0};
inline constexpr std::uint32_t no_page = 0;
inline constexpr std::uint32_t page_wanted = ~std::uint32_t{0}; // netd has no ring memory now; it comes with an event
inline constexpr unsigned page_shift = 12;     // ring memory is named in pages of 4 KiB from the segment's begin
inline constexpr unsigned ring_shift_max = 24; // 16 MiB, what window scale 8 can use

// ---- Socket slots ---------------------------------------------------------------------------------------------------

enum class SlotKind : std::uint8_t { none = 0, stream = 1, datagram = 2 };

// The life of a slot as the application sees it.
enum class SlotState : std::uint32_t {
    free = 0,    // netd's
    granted = 1, // in a grant lane, or taken from it by socket(); netd holds no socket for it yet
    open = 2,    // netd has a socket: created, bound
    listening = 3,
    connecting = 4,
    connected = 5, // also while closing: the ends are offsets (rcv_end, snd_end), not states
    closed = 6,    // connection over or failed; see so_error and rcv_end
};

// netd -> application, cold: who and where. Written before `state` is stored (release).
struct alignas(64) SlotInfo {
    std::atomic<std::uint32_t> state;      // o: SlotState
    std::atomic<std::uint32_t> generation; // o: changes whenever the slot is given out again
    std::atomic<std::int32_t> so_error;    // o sets, u takes with exchange(0)
    std::atomic<std::uint16_t> owner_cpu;  // o: where marks and requests go; a wrong CPU forwards
    std::uint8_t kind;                     // o: SlotKind
    std::uint8_t family;                   // o: AF_INET or AF_INET6
    unsigned char local_addr[16];          // o: IpAddr bytes (IPv4 mapped)
    unsigned char peer_addr[16];           // o
    std::uint16_t local_port;              // o: host order
    std::uint16_t peer_port;               // o
    std::uint8_t snd_shift;                // o: log2 of the send ring's size, 0 = not known yet
    std::uint8_t rcv_shift;                // o: log2 of the receive ring's size, 0 = not known yet
    std::uint16_t lane_entries;            // o: listener: capacity of each accept lane (power of two)
    // Rings have memory while there is use for them (docs/decisions/0011-idle-connections.md). An idle stream has none
    // (no_page): a writer, holding snd_lock, sets want_space, marks the socket and waits for a page. netd takes a send
    // ring away only after it stored no_page, then saw snd_lock free and nothing published that is not acknowledged.
    std::atomic<std::uint32_t> snd_ring; // o: page of the send ring, or no_page, or page_wanted
    std::atomic<std::uint32_t> rcv_ring; // o: page of the receive ring; of a listener: of its accept lanes
};
static_assert(sizeof(SlotInfo) == 64);

// netd -> application, hot.
struct alignas(64) SlotOwnerLine {
    std::atomic<std::uint64_t> snd_acked;    // o: bytes below may be overwritten (acknowledged and unreferenced)
    std::atomic<std::uint64_t> rcv_produced; // o: bytes below are readable
    std::atomic<std::uint64_t> rcv_end;      // o: offset of EOF (or of the error so_error); no_offset while open
    std::atomic<std::uint64_t> rcv_ring_at;  // o: mark the socket when rcv_consumed reaches this (window update due)
    std::atomic<std::uint64_t> urgent_mark;  // o: offset just after the urgent byte; no_offset when none
    std::atomic<std::uint64_t> lanes;        // each CPU once: bit i = CPU i has made its DatagramLane of the socket
    std::atomic<std::uint32_t> snd_broken;   // o: 1 once nothing more can be sent (RST, timeout): EPIPE
    std::atomic<std::uint32_t> rcv_start;    // o: of the receive ring; read after rcv_produced
    std::atomic<std::uint32_t> accept_ready; // o: listener: entries ever pushed to its lanes (sum), for readiness
    std::atomic<std::uint32_t> armed;        // u: joined: armed_thread | armed_set, whom the other end must look for

    // Of a connection, which accepts nothing; stored before rcv_end.
    std::atomic<std::uint32_t>& fin_came() { return accept_ready; } // o: 1 = rcv_end is where the peer's FIN was
};
static_assert(sizeof(SlotOwnerLine) == 64);

// Joined pairs: both ends of a loopback connection in one segment (docs/decisions/0010-joined-pairs.md). Each end's
// send ring is the other's receive ring, offsets equal on both sides. A sender stores its own snd_produced and then, in
// netd's place, the partner's rcv_produced; a reader stores its own rcv_consumed and, at rcv_ring_at, the partner's
// snd_acked. Both wake the partner's waiters themselves. Ends and errors stay netd's. SlotOwnerLine::armed says whether
// there may be anybody to wake: the bit is stored before the last look at the offsets.
inline constexpr std::uint32_t armed_thread = 1; // until a look finds nobody asleep
inline constexpr std::uint32_t armed_set = 2;    // stays: an epoll set wants its ready bit for every event
// A reader gives back space in steps of this many bytes, so that its stores do not disturb the sender at every read. A
// sender's view of the free space is behind by less than a step, which never keeps it from half an empty ring.
constexpr std::uint64_t joined_step(std::uint64_t ring_bytes)
{
    return ring_bytes / 8;
}
// So a sender does not see at once that the ring is empty; it looks at the other end's rcv_consumed after this many
// bytes, to begin the ring again.
inline constexpr std::uint32_t joined_look_again = 8192;

// application -> netd, hot.
struct alignas(64) SlotAppLine {
    std::atomic<std::uint64_t> snd_produced; // u: bytes below are to be sent; single store makes them visible
    std::atomic<std::uint64_t> rcv_consumed; // u: bytes below are free again
    std::atomic<std::uint64_t> snd_end;      // u: FIN follows this offset (shutdown, close); no_offset while open
    std::atomic<std::uint64_t> waiters[2];   // u: bit w = wake waiter w on any event of this socket
    std::atomic<std::uint32_t> want_space;   // u: set to 1 when a send found the ring full; netd exchanges to 0, wakes
    std::atomic<std::uint32_t> want_level;   // u: SO_RCVLOWAT in bytes (0 = 1)
    std::atomic<std::uint32_t> accept_taken; // u: listener: entries taken from its lanes (sum)
    std::atomic<std::uint32_t> partner;      // o: joined pair: slot of the other end + 1; 0 = netd carries what is sent
    std::atomic<std::uint32_t> snd_start;    // u: of the send ring; stored before snd_produced
    std::atomic<std::uint32_t> rcv_turn;     // u: datagram, under rcv_lock: the lane that the next read looks at first

    // Of a connection, which accepts nothing and has one lane; stored before snd_produced.
    std::atomic<std::uint32_t>& snd_urgent()
    {
        return accept_taken;
    }                                                           // u: offset behind the last MSG_OOB byte, low half
    std::atomic<std::uint32_t>& snd_more() { return rcv_turn; } // u: 1 = the last write announced more (MSG_MORE)
    // Of a datagram socket, under snd_lock; netd never looks: datagram_corked, datagram_asked, and 1 + the payload
    // bytes of the record that is being built at snd_produced (UDP_CORK, MSG_MORE), 0 = none.
    std::atomic<std::uint32_t>& building() { return accept_taken; }
};
static_assert(sizeof(SlotAppLine) == 64);

// application <-> application (several writers), and who holds the slot. Shares its line with the reply.
struct alignas(16) SlotShare {
    std::atomic<std::uint32_t> snd_lock; // u: SideLock (sockbuf/side_lock.hpp); netd releases those of a dead process
    std::atomic<std::uint32_t> rcv_lock; // u
    std::atomic<std::uint32_t> ctl_lock; // u: held over a request until its reply is read
    std::atomic<std::uint32_t> status;   // u: O_NONBLOCK and other description flags shared by all descriptors
    std::atomic<std::uint64_t> holders;  // u: bit p = process p has descriptors of it; bit 63 = waits in a lane
    std::atomic<std::int64_t> rcv_timeout_us; // u: SO_RCVTIMEO, 0 = none
    std::atomic<std::int64_t> snd_timeout_us; // u: SO_SNDTIMEO, 0 = none
    std::atomic<std::uint32_t> segment_bytes; // u: UDP_SEGMENT, 0 = a send is one datagram
    std::atomic<std::uint32_t> coalesces;     // u: UDP_GRO

    // Of a stream, under rcv_lock: low half of the urgent mark whose byte was read out of band, 0 = none.
    std::atomic<std::uint32_t>& urgent_read() { return segment_bytes; }
};
static_assert(sizeof(SlotShare) == 48);

// The reply to the one outstanding request of the slot (serialised by ctl_lock). A getsockopt result of more than
// four bytes lies in the ReplyArea of the process that asked.
inline constexpr std::uint32_t reply_inline_bytes = 4;
struct SlotReply {
    std::atomic<std::uint32_t> done;        // o: sequence number of the request answered (release, after the rest)
    std::int32_t result;                    // o: 0 or a positive errno
    std::uint32_t size;                     // o: bytes of the getsockopt result
    unsigned char data[reply_inline_bytes]; // o: ... when it fits
};
static_assert(sizeof(SlotReply) == 16);

// What an idle socket costs in shared memory: four lines.
struct SocketSlot {
    SlotInfo info;       // offset 0
    SlotOwnerLine owner; // 64
    SlotAppLine app;     // 128
    SlotShare share;     // 192
    SlotReply reply;     // 240
};
static_assert(sizeof(SocketSlot) == 256 && alignof(SocketSlot) == 64 && offsetof(SocketSlot, reply) == 240);

// Long getsockopt results (TCP_INFO), one area a process: its threads take turns.
inline constexpr std::uint32_t reply_data_max = 308;
struct alignas(64) ReplyArea {
    std::atomic<std::uint32_t> lock; // u: SideLock, from before the request until the result is read
    unsigned char data[reply_data_max];
};

// ---- Requests -------------------------------------------------------------------------------------------------------

// How a stream connects (RFC 7413).
enum class FastConnect : std::int32_t {
    no = 0,
    with_text = 1, // result 0 = the SYN waits for the first text, the state is `connected` already
    bare = 2,      // there is none: the SYN asks for a cookie or shows it; so does any other value
};

// Control operations; arguments by value. Every request but `close` is answered in the slot's reply line.
enum class Op : std::uint32_t {
    none = 0,
    bind = 1,       // addr, port
    listen = 2,     // value = backlog
    connect = 3,    // addr, port, value = FastConnect; result EINPROGRESS, then state changes (datagram: done at
                    // once); sequence 0 = no reply, a refusal shows as so_error
    shutdown = 4,   // value = SHUT_*; for SHUT_WR snd_end is already stored
    close = 5,      // last holder gone; snd_end is stored; value 1 = abort (RST)
    setsockopt = 6, // level, name, size, data
    getsockopt = 7, // level, name, size; result in reply.data or the process's ReplyArea
    disconnect = 8, // connect to AF_UNSPEC; value 0: of a stream only when its connect failed
    may_send = 9,   // datagram: data = DatagramQuestion; result = what a send of it would be refused with. Binds a
                    // socket that is not
};

struct alignas(64) Request {
    std::uint32_t op; // Op
    std::uint32_t slot;
    std::uint32_t generation;
    std::uint32_t sequence; // comes back in reply.done
    std::uint8_t kind;      // SlotKind: netd creates the socket on the first request for a granted slot
    std::uint8_t family;
    std::uint16_t port;
    std::int32_t value;
    std::int32_t level;
    std::int32_t name;
    unsigned char addr[16];
    std::uint32_t size;
    std::uint32_t process; // netd's, in its copy: whose ring it came from
    unsigned char data[72];
};
static_assert(sizeof(Request) == 128);
inline constexpr std::uint32_t request_data_max = 72;

// The value of the options MCAST_JOIN_GROUP to MCAST_LEAVE_SOURCE_GROUP, whose structures are too long for a request.
struct GroupRequest {
    unsigned char group[16];
    unsigned char source[16];
    std::uint32_t interface; // index, 0 = as the route says
};
static_assert(sizeof(GroupRequest) <= request_data_max);

// IP_MSFILTER and MCAST_MSFILTER, whole lists of sources, go in pieces: set, the list holds from the piece with which
// it is whole; asked for, `first` says where the piece of the answer begins.
struct FilterPiece {
    unsigned char group[16];
    std::uint32_t interface; // index, 0 = as the address or else the route says; of an answer to MCAST_MSFILTER exact
    std::uint32_t address;   // of the interface (IPv4, host order), 0 = not named by one
    std::uint8_t exclude;    // MCAST_EXCLUDE, else MCAST_INCLUDE
    std::uint8_t total;      // sources of the whole list
    std::uint8_t first;      // of this piece: its place in the list
    std::uint8_t count;
    // unsigned char sources[count][16] follow
};
static_assert(sizeof(FilterPiece) == 28);
inline constexpr std::uint32_t filter_sources_max = 64; // net.ipv6.mld_max_msf; Linux allows IPv4 ten
constexpr std::uint32_t filter_fits(std::uint32_t bytes)
{
    return (bytes - static_cast<std::uint32_t>(sizeof(FilterPiece))) / 16;
}

inline constexpr std::uint32_t request_slots = 256;
// One per process and CPU; producer = the process (its threads take turns under `lock`), consumer = that CPU.
struct RequestRing {
    alignas(64) std::atomic<std::uint32_t> produced; // u, release
    std::atomic<std::uint32_t> lock;                 // u: SideLock; netd clears it with the ring
    alignas(64) std::atomic<std::uint32_t> consumed; // o, release
    alignas(64) Request entries[request_slots];
};

// ---- Marks: "look at socket S", collapsed ---------------------------------------------------------------------------

// One per CPU. The application sets the socket's bit in mark_bits, then its word's bit in summary unless that is set,
// then looks at the CPU's sleep word. netd looks at the words that summary names, exchanges those that are not 0, then
// reads offsets: a mark is cleared before the offset is read. It clears a summary bit only when its word has been 0 for
// a while, and looks at the word once more afterwards; both sides sequentially consistent.
struct alignas(64) MarkLine {
    std::atomic<std::uint64_t> processes;   // u sets, o exchanges: bit p = request ring of process p has entries
    std::atomic<std::uint64_t> summary[15]; // u sets, o clears: bit j of word i = mark_bits word i*64+j may be not 0
};
static_assert(sizeof(MarkLine) == 128);

// ---- Lanes: slot ids handed to applications -------------------------------------------------------------------------

// A ring of slot ids from one CPU to any thread of the family. Grant lanes hand out free slots for socket(); accept
// lanes hand out connections. Takers hold `lock`: set their holder bit in the slot, store consumed, then clear
// lane_holder; a claim by a process that dies before `consumed` is stored is still in the lane.
struct alignas(64) LaneHeader {
    std::atomic<std::uint32_t> produced; // o, release
    std::uint32_t capacity;              // c: power of two
    std::atomic<std::uint32_t> consumed; // u, release, under lock
    std::atomic<std::uint32_t> lock;     // u: SideLock
    unsigned char reserved[48];
    // std::atomic<std::uint64_t> entries[capacity] follow: slot id | generation << 32
};
static_assert(sizeof(LaneHeader) == 64);
inline constexpr std::uint32_t grant_lane_entries = 64;

// ---- Waiters --------------------------------------------------------------------------------------------------------

// Who sleeps for sockets: a thread (blocking call, poll, select) or an epoll set. Each has a pipe whose write end only
// netd holds, so a sleeper reads EOF when netd dies and gets exact EINTR and SA_RESTART behaviour from the kernel
// (docs/decisions/0003-waiter-pipes.md).
enum class WaiterKind : std::uint32_t { none = 0, thread = 1, set = 2 };
struct alignas(64) Waiter {
    std::atomic<std::uint32_t>
        sleeping;                    // u stores 1 (seq_cst) then looks again; netd exchanges to 0 and writes the pipe
    std::atomic<std::uint32_t> kind; // o: WaiterKind; `set`: who wakes it also sets ready bits (waiter_bits)
    std::uint32_t process;           // c: index of the process it was made for
    std::atomic<std::uint32_t> generation; // o: changes whenever the waiter is given out again
    unsigned char reserved[48];
    std::atomic<std::uint64_t> summary[16]; // set: o sets, u exchanges: bit j of word i = ready word i*64+j is not 0
};
static_assert(sizeof(Waiter) == 192);

// ---- Datagrams ------------------------------------------------------------------------------------------------------

// A record in a datagram ring, 32-byte aligned so that a header never wraps; the payload may. Records follow each
// other; offsets advance by datagram_stride(size of what follows the header).
struct DatagramHeader {
    std::uint16_t size;     // payload bytes
    std::uint16_t segment;  // send: UDP_SEGMENT: it is cut into datagrams of so many bytes, 0 = it is one; receive: see
                            // answer_v4()
    std::uint16_t port;     // peer port, host order; send: 0 = the connected peer
    std::uint8_t tos;       // send: with datagram_has_tos
    std::uint8_t ttl;       // receive: as received; send: 0 = the socket's
    unsigned char addr[16]; // peer address; receive: source, send and error: destination
    std::uint16_t interface; // receive: index it came in on; send: to leave by, 0 = as the route says
    std::uint16_t flags;     // send: datagram_has_*; receive: see answer_v4()
    std::uint32_t local_v4;  // our IPv4 address (host order), for IP_PKTINFO; receive: destination; send: source, 0 =
                             // the socket's. Over IPv6 its 16 bytes follow the payload instead; of a datagram sent only
                             // with datagram_has_source
};
static_assert(sizeof(DatagramHeader) == 32);
// Of a datagram received over IPv4: the address to answer from (ipi_spec_dst), which of one to all or to a group is not
// its destination. Host order; 0 = none. It lies in the two halves that otherwise only a sender uses.
inline std::uint32_t answer_v4(const DatagramHeader& h)
{
    return std::uint32_t{h.segment} << 16 | h.flags;
}
inline void set_answer_v4(DatagramHeader& h, std::uint32_t address)
{
    h.segment = static_cast<std::uint16_t>(address >> 16);
    h.flags = static_cast<std::uint16_t>(address);
}
inline constexpr std::uint16_t datagram_has_tos = 1;
inline constexpr std::uint16_t datagram_has_source = 2;
inline constexpr std::uint32_t datagram_corked = 0x80000000; // of SlotAppLine::building(): UDP_CORK
inline constexpr std::uint32_t datagram_asked = 0x40000000;  // likewise: sends need not ask first (decision 0029)
inline constexpr std::uint32_t datagram_segments_max = 128;  // of one send, as Linux (UDP_MAX_SEGMENTS)
inline constexpr std::uint32_t datagram_align = 32;
constexpr std::uint64_t datagram_stride(std::uint32_t size)
{
    return sizeof(DatagramHeader) + ((std::uint64_t{size} + datagram_align - 1) & ~std::uint64_t{datagram_align - 1});
}
inline constexpr std::uint32_t datagram_local_bytes = 16;
inline constexpr std::uint32_t datagram_payload_max = 65527; // over IPv6, whose header does not count
inline constexpr std::uint32_t datagram_payload_max_v4 = 65507;

// What may_send is about: the header that the record will have, its size taken from there, and what follows it.
struct DatagramQuestion {
    DatagramHeader header;
    unsigned char source[datagram_local_bytes]; // with datagram_has_source
};
static_assert(sizeof(DatagramQuestion) <= request_data_max);

// An entry of the error queue (IP_RECVERR): a DatagramHeader that says to whom the datagram was, this, and what is
// known of its payload. 32 bytes, so that it does not wrap either.
struct DatagramError {
    std::uint32_t error; // errno
    std::uint32_t info;  // MTU, or what is wrong where, by type
    std::uint8_t origin; // SO_EE_ORIGIN_*
    std::uint8_t type;   // ICMP's, as it came
    std::uint8_t code;
    unsigned char reserved[5];
    unsigned char offender[16]; // who sent the ICMP error
};
static_assert(sizeof(DatagramError) == 32);
inline constexpr std::uint32_t datagram_error_payload_max = 1024;
inline constexpr std::uint32_t error_ring_shift = 14;

// What a datagram socket receives on one CPU (decision 0007): a flow hashes to one CPU, so its order holds within
// the lane. Its ring is made when the first datagram arrives there; bit `cpu` of SlotOwnerLine::lanes is set after the
// place of the ring is written. A reader takes turns over the lanes that exist, under rcv_lock. Behind the lanes of the
// CPUs lies one more, the socket's error queue, which its owner CPU writes; its ring is there when produced is not 0.
struct DatagramLane {
    alignas(64) std::atomic<std::uint64_t> produced; // o = the CPU of the lane: bytes below are readable
    std::atomic<std::uint64_t> dropped;              // o: datagrams that found the ring full
    std::uint64_t ring;                              // o: byte offset of the ring in the segment
    std::uint32_t shift;                             // o: log2 of its size
    std::atomic<std::uint32_t> start;                // o: of the ring; read after produced
    alignas(64) std::atomic<std::uint64_t> consumed; // u: bytes below are free again
};
static_assert(sizeof(DatagramLane) == 128);

// ---- Segment --------------------------------------------------------------------------------------------------------

struct AnnouncedPrefix {
    unsigned char addr[16];
    std::uint8_t length;
    std::uint8_t is_local; // an address of netd itself
    std::uint8_t reserved[6];
};

struct SegmentHeader {
    std::uint32_t magic;        // c
    std::uint32_t version;      // c
    std::uint64_t bytes;        // c: of the whole segment
    std::uint32_t cpus;         // c
    std::uint32_t sockets;      // c: a multiple of 64
    std::uint32_t page_bytes;   // c: of the sleep page (a second, read-only memfd), one 64-byte line per CPU
    std::uint32_t prefix_count; // c
    std::uint64_t slots;        // c: offset of SocketSlot[sockets]
    std::uint64_t mark_lines;   // c: offset of MarkLine[cpus]
    std::uint64_t mark_bits;    // c: offset of u64[cpus][sockets / 64]
    std::uint64_t grant_lanes;  // c: offset of cpus grant lanes, lane_stride(grant_lane_entries) apart
    std::uint64_t requests;     // c: offset of RequestRing[max_processes][cpus]
    std::uint64_t replies;      // c: offset of ReplyArea[max_processes]
    std::uint64_t waiters;      // c: offset of Waiter[max_waiters]
    std::uint64_t waiter_bits;  // c: offset of u64[max_waiters][sockets / 64]
    std::uint64_t lanes;        // c: offset of DatagramLane[sockets][cpus + 1]
    std::uint64_t rings;        // c: offset of ring memory, page aligned
    std::uint64_t heads[ring_shift_max - page_shift + 1]; // c: by shift: offset of the heads of rings of that size
    AnnouncedPrefix prefixes[max_prefixes];               // c: which destinations are netd's
    std::int16_t pins[max_cpus];                          // c: the OS CPU each protocol thread is pinned to, -1 = none
};

constexpr std::uint64_t lane_stride(std::uint32_t entries)
{
    return sizeof(LaneHeader) + std::uint64_t{entries} * 8;
}

static_assert(std::atomic<std::uint64_t>::is_always_lock_free && sizeof(std::atomic<std::uint64_t>) == 8);

} // namespace sockbuf
