/* dip_parallel visits every index exactly once, for any n, grain and number of threads. */
#undef NDEBUG
#include <assert.h>
#include <string.h>

#include "par/parallel.h"

#define N_MAX 1000

typedef struct {
    size_t n, grain;
    unsigned char seen[N_MAX];
    unsigned calls;
} record;

static void mark(void *context, size_t from, size_t to) {
    record *r = context;
    assert(from < to && to <= r->n && to - from <= r->grain);
    for (size_t i = from; i < to; i++)
        r->seen[i]++;
    __atomic_fetch_add(&r->calls, 1, __ATOMIC_RELAXED);
}

int main(void) {
    static const size_t sizes[] = {0, 1, 2, 15, 16, 17, 100, N_MAX};
    static const size_t grains[] = {1, 2, 16, 999, N_MAX, N_MAX + 1, (size_t)-1};
    static const unsigned threads[] = {0, 1, 2, 3, 7, DIP_THREADS_MAX, 100000};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (size_t g = 0; g < sizeof grains / sizeof *grains; g++)
            for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
                record r = {sizes[s], grains[g], {0}, 0};
                dip_parallel(r.n, r.grain, threads[t], mark, &r);
                for (size_t i = 0; i < N_MAX; i++)
                    assert(r.seen[i] == (i < r.n));
                assert(r.calls == r.n / r.grain + (r.n % r.grain != 0));
            }
    return 0;
}
