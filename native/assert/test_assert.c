/* DIP_ASSERT holds in builds with NDEBUG, names its place, and evaluates its condition once. */
#define NDEBUG
#include "assert/dip_assert.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs a false assertion in a child: 1 if the child aborted and said where. */
static int aborts(void) {
    int ends[2], status;
    char said[256] = {0};
    if (pipe(ends))
        return 0;
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        DIP_ASSERT(1 + 1 == 3);
        _exit(0);
    }
    close(ends[1]);
    size_t len = 0;
    for (ssize_t n; len < sizeof said - 1 && (n = read(ends[0], said + len, 1)) > 0;)
        len += (size_t)n;
    close(ends[0]);
    return child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) &&
           WTERMSIG(status) == SIGABRT && strstr(said, "test_assert.c:") &&
           strstr(said, "1 + 1 == 3");
}

int main(void) {
    int evaluated = 0;
    DIP_ASSERT(++evaluated == 1);
    return evaluated == 1 && aborts() ? 0 : 1;
}
