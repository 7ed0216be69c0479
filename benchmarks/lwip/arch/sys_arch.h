/* The primitives of threads that lwIP asks of a platform, for its own threaded side (NO_SYS 0); lwip_sys.cpp has them.
 */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif
typedef struct bench_lwip_mbox* sys_mbox_t;
typedef struct bench_lwip_sem* sys_sem_t;
typedef struct bench_lwip_mutex* sys_mutex_t;
typedef int sys_thread_t;
typedef int sys_prot_t;

#define sys_mbox_valid(m) (*(m) != NULL)
#define sys_mbox_set_invalid(m) (*(m) = NULL)
#define sys_sem_valid(s) (*(s) != NULL)
#define sys_sem_set_invalid(s) (*(s) = NULL)

/* A thread waits with its own semaphore: none is made per connection. */
sys_sem_t* bench_lwip_thread_sem(void);
#define LWIP_NETCONN_THREAD_SEM_GET() bench_lwip_thread_sem()
#define LWIP_NETCONN_THREAD_SEM_ALLOC()
#define LWIP_NETCONN_THREAD_SEM_FREE()
#ifdef __cplusplus
}
#endif
