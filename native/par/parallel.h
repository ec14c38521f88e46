/* Splits a range over threads; the caller holds no interpreter lock. */
#ifndef DIP_PARALLEL_H
#define DIP_PARALLEL_H

#include <stddef.h>

#define DIP_THREADS_MAX 64

/* Calls body(context, from, to) on disjoint ranges that cover [0, n) exactly once, from at most
 * `threads` threads, the calling one among them; ranges are taken from a shared counter in steps
 * of `grain` (>= 1), so that a slow core takes fewer. Returns when every call has returned. Where a
 * thread cannot be started, the others do its work. */
void dip_parallel(size_t n, size_t grain, unsigned threads,
                  void (*body)(void *context, size_t from, size_t to), void *context);

#endif
