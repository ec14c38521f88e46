/* Splits a range over threads. The caller has released the interpreter lock. */
#ifndef DIP_PARALLEL_H
#define DIP_PARALLEL_H

#include <stddef.h>

#define DIP_THREADS_MAX 64

/* Calls body(context, from, to) on disjoint ranges that cover [0, n) exactly once, on at most
 * `threads` threads, the calling thread included (0 counts as 1, more than DIP_THREADS_MAX counts
 * as DIP_THREADS_MAX). Threads take ranges from a shared counter in steps of `grain` (>= 1,
 * asserted), so a slow core takes fewer of them. Returns when every call has returned. If a
 * thread cannot be started, the other threads do its work. `context` is the caller's and is passed
 * on unread. */
void dip_parallel(size_t n, size_t grain, unsigned threads,
                  void (*body)(void *context, size_t from, size_t to), void *context);

#endif
