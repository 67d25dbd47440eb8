/* The C tests' whole framework: CHECK says what failed and where, and the
 * program goes on, so that one run shows all of it. main returns
 * check_report(). */
#ifndef CHECK_H
#define CHECK_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned check_count, check_failed;

#define CHECK(condition, ...)                                                   \
    do {                                                                        \
        check_count++;                                                          \
        if (!(condition)) {                                                     \
            check_failed++;                                                     \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);     \
            fprintf(stderr, "" __VA_ARGS__);                                    \
            fputc('\n', stderr);                                                \
        }                                                                       \
    } while (0)

static int check_report(const char *name)
{
    printf("%s: %u checks, %u failed\n", name, check_count, check_failed);
    return check_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
