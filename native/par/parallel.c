#include "par/parallel.h"

#include <pthread.h>
#include <signal.h>

#include "assert/dip_assert.h"

typedef struct {
    size_t n, grain, steps, next;
    void (*body)(void *context, size_t from, size_t to);
    void *context;
} work;

static void *take(void *argument) {
    work *w = argument;
    for (;;) {
        size_t step = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED);
        if (step >= w->steps)
            return NULL;
        size_t from = step * w->grain;
        size_t to = step + 1 == w->steps ? w->n : from + w->grain;
        w->body(w->context, from, to);
    }
}

void dip_parallel(size_t n, size_t grain, unsigned threads,
                  void (*body)(void *context, size_t from, size_t to), void *context) {
    DIP_ASSERT(grain);
    work w = {n, grain, n / grain + (n % grain != 0), 0, body, context};
    pthread_t started[DIP_THREADS_MAX - 1];
    unsigned count = 0;
    if (threads > DIP_THREADS_MAX)
        threads = DIP_THREADS_MAX;
    if (threads > w.steps)
        threads = (unsigned)w.steps;
    if (threads > 1) {
        sigset_t all, before; /* signals go to the interpreter's thread, never to a worker */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        while (count < threads - 1 && !pthread_create(&started[count], NULL, take, &w))
            count++;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    take(&w);
    while (count)
        pthread_join(started[--count], NULL);
}
