/* What lwIP asks of a platform: this compiler's attributes, the byte order, and two routines that lwIP lets its port
   provide because its own portable ones are slow: the Internet checksum and the heap (lwip_port.cpp). */
#pragma once

#include <endian.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
uint16_t bench_lwip_checksum(const void* data, int size);
void* bench_lwip_malloc(size_t size);
void* bench_lwip_calloc(size_t count, size_t size);
void bench_lwip_free(void* block);
#ifdef __cplusplus
}
#endif

#define LWIP_NOASSERT 1 /* no checks of lwIP by itself */
#define LWIP_CHKSUM bench_lwip_checksum
#define mem_clib_malloc bench_lwip_malloc
#define mem_clib_calloc bench_lwip_calloc
#define mem_clib_free bench_lwip_free

/* A random number is wanted once per start. */
#define LWIP_RAND() 0x5eed5eedU

#define PACK_STRUCT_BEGIN
#define PACK_STRUCT_STRUCT __attribute__((packed))
#define PACK_STRUCT_END
#define PACK_STRUCT_FIELD(x) x

/* bswap instructions instead of calls into lwIP. */
#define lwip_htons(x) __builtin_bswap16((uint16_t)(x))
#define lwip_htonl(x) __builtin_bswap32((uint32_t)(x))
