/* A fuzz target's check: what does not hold ends the run, and the fuzzer keeps the input. */
#ifndef HOLD_H
#define HOLD_H

#include <stdio.h>
#include <stdlib.h>

#define HOLD(condition)                                                     \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                        \
        }                                                                   \
    } while (0)

#endif
