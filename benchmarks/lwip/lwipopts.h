/* Options of the lwIP that bench-lwip measures: everything that makes it faster on a server-sized machine, nothing that
   it can leave out and still speak TCP, and the conditions that both sides of the comparison have in common: a window
   of 512 KiB, checksums made and verified. benchmarks/README.md says why each. */
#pragma once

#ifdef BENCH_LWIP_THREADS
/* Its own thread, and netconns for application threads; LWIP_TCPIP_CORE_LOCKING is given by the build, both ways.
   Netconns carry a `socket` for whoever makes sockets of them, which is where the benchmark keeps its own. */
#define NO_SYS 0
#define SYS_LIGHTWEIGHT_PROT 1
#define LWIP_NETCONN 1
#define LWIP_SOCKET 1
#define LWIP_SOCKET_SELECT 0
#define LWIP_SOCKET_POLL 0
#define LWIP_COMPAT_SOCKETS 0
#define LWIP_TIMEVAL_PRIVATE 0
#define LWIP_DONT_PROVIDE_BYTEORDER_FUNCTIONS 1
#define LWIP_ERRNO_STDINCLUDE 1
#define LWIP_SOCKET_EXTERNAL_HEADERS 1 /* the system's, where lwIP's core wants types of them */
#define LWIP_SOCKET_EXTERNAL_HEADER_SOCKETS_H <netinet/in.h>
#define LWIP_SOCKET_EXTERNAL_HEADER_INET_H <arpa/inet.h>
#define LWIP_NETCONN_SEM_PER_THREAD 1
#define LWIP_NETCONN_FULLDUPLEX 0
#define MEMP_NUM_NETCONN 60000
#define MEMP_NUM_NETBUF 65000
#define MEMP_NUM_TCPIP_MSG_API 64
#define MEMP_NUM_TCPIP_MSG_INPKT 1 /* the wire hands in by itself */
#define TCPIP_MBOX_SIZE 4096
#define DEFAULT_TCP_RECVMBOX_SIZE 1024 /* a window of segments of 1,460 B fits twice */
#define DEFAULT_UDP_RECVMBOX_SIZE 20000
#define DEFAULT_ACCEPTMBOX_SIZE 20000
#else
/* One thread, callbacks only: lwIP's fastest interface. */
#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_NETCONN 0
#define LWIP_SOCKET 0
#endif

/* IPv4, TCP, UDP and nothing else. */
#define LWIP_ARP 0
#define LWIP_ETHERNET 0
#define LWIP_RAW 0
#define LWIP_ICMP 0
#define LWIP_IPV6 0
#define IP_FORWARD 0
#define IP_REASSEMBLY 0
#define IP_FRAG 0
#define PBUF_LINK_HLEN 0
#define LWIP_NETIF_LOOPBACK 0 /* the wire of bench-lwip is a netif */
#define LWIP_SINGLE_NETIF 1   /* no route lookup */

/* Memory: PCBs, segments and pbuf heads from preallocated pools with free lists; bytes from free lists too. */
#define MEM_ALIGNMENT 8
#define MEMP_MEM_MALLOC 0
#define MEM_LIBC_MALLOC 1 /* bench_lwip_malloc, see arch/cc.h */
#define MEMP_NUM_TCP_PCB 65000
#define MEMP_NUM_TCP_PCB_LISTEN 8
#define MEMP_NUM_UDP_PCB 33000
#define MEMP_NUM_TCP_SEG 65000
#define MEMP_NUM_PBUF 65000
#define MEMP_NUM_SYS_TIMEOUT 8
#define PBUF_POOL_SIZE 0 /* the wire takes PBUF_RAM */

/* TCP. TCP_MSS is only the upper bound: the MTU of the wire decides (--mss), and with 65,495 super-frames are possible.
   A threshold that is derived from it is therefore set by itself. */
#define TCP_MSS 65495
#define TCP_CALCULATE_EFF_SEND_MSS 1
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 4
#define TCP_WND (512 * 1024)
#define TCP_SND_BUF (512 * 1024)
#define TCP_SND_QUEUELEN 65000
#ifdef BENCH_LWIP_THREADS
#define TCP_SNDLOWAT 49152 /* netconns see at most 65,535 bytes of room, however much there is */
#else
#define TCP_SNDLOWAT (TCP_SND_BUF / 2)
#endif
#define TCP_SNDQUEUELOWAT 1000
#define TCP_WND_UPDATE_THRESHOLD (TCP_WND / 4)
#define TCP_OVERSIZE 1460
#define TCP_QUEUE_OOSEQ 1
#define LWIP_TCP_TIMESTAMPS 0
#define LWIP_TCP_SACK_OUT 0
#define TCP_LISTEN_BACKLOG 0
#define LWIP_DISABLE_TCP_SANITY_CHECKS 1 /* they compare with TCP_MSS */
/* 55,000 ephemeral ports instead of 16,384. */
#define TCP_LOCAL_PORT_RANGE_START 10000
#define TCP_LOCAL_PORT_RANGE_END 65000
#define TCP_ENSURE_LOCAL_PORT_RANGE(port) (TCP_LOCAL_PORT_RANGE_START + (port) % 55000)
#define UDP_LOCAL_PORT_RANGE_START TCP_LOCAL_PORT_RANGE_START
#define UDP_LOCAL_PORT_RANGE_END TCP_LOCAL_PORT_RANGE_END
#define UDP_ENSURE_LOCAL_PORT_RANGE TCP_ENSURE_LOCAL_PORT_RANGE

/* Checksums are made and verified; --checksums off can drop both. */
#define LWIP_CHECKSUM_CTRL_PER_NETIF 1
#define LWIP_CHECKSUM_ON_COPY 0
#define LWIP_CHKSUM_ALGORITHM 3 /* the fastest of its own, for --routines lwip */

#define LWIP_STATS 0
