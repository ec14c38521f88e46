/* DIP_ASSERT(condition): an invariant of this code, checked in every build. A false condition is a
 * bug and never bad input: it prints the file, the line and the condition to stderr and aborts, so
 * that a wrong state is neither stored nor answered. NDEBUG does not remove it; use it where the
 * check is cheap beside the work that it guards. */
#ifndef DIP_ASSERT_H
#define DIP_ASSERT_H

#include <stdio.h>
#include <stdlib.h>

static inline _Noreturn void dip_assert_failed(const char *file, int line, const char *condition) {
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition);
    abort();
}

#define DIP_ASSERT(condition)                                    \
    do {                                                         \
        if (__builtin_expect(!(condition), 0))                   \
            dip_assert_failed(__FILE__, __LINE__, #condition);   \
    } while (0)

#endif
