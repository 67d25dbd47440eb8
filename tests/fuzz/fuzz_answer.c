/* Any bytes: the parser of answers reads no byte too many, comes to an end, and
 * says the same of a message whatever comes behind it and however it was cut.
 * libFuzzer; also `fuzz_answer --seed DIR` writes a small corpus.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hold.h"
#include "pd_answer.h"

/* In memory of exactly that size, so that the sanitizer sees one byte too many. */
static int64_t parse(const uint8_t *data, size_t n, struct pd_answer *answer)
{
    uint8_t *exact = malloc(n ? n : 1);
    if (!exact) abort();
    memcpy(exact, data, n);
    int64_t took = pd_answer_parse(exact, n, answer);
    free(exact);
    return took;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pd_answer answer, again;
    while (size) {
        int64_t took = parse(data, size, &answer);
        HOLD(took <= (int64_t)size && took <= PD_ANSWER_MAX_BYTES);
        HOLD(took >= 0 || took == -EBADMSG || took == -EMSGSIZE);
        if (took == 0) HOLD(size < PD_ANSWER_MAX_BYTES);
        if (took <= 0) return 0;
        HOLD(parse(data, (size_t)took, &again) == took);
        HOLD(memcmp(&answer, &again, sizeof answer) == 0);
        size_t cut = (size_t)took * data[0] / 256;
        HOLD(parse(data, cut, &again) == 0);
        if (answer.kind == PD_ANSWER_VELOCITY) {
            HOLD(fabs(answer.vx) <= PD_ANSWER_LIMIT && fabs(answer.vy) <= PD_ANSWER_LIMIT);
            HOLD(fabs(answer.x) <= PD_ANSWER_LIMIT && fabs(answer.y) <= PD_ANSWER_LIMIT);
            HOLD(answer.why == PD_ANSWER_FINE);
        } else if (answer.kind == PD_ANSWER_ATTACH) {
            HOLD(answer.code_bytes > 0 && answer.code_bytes <= PD_ANSWER_MAX_CODE);
        } else {
            HOLD(answer.kind == PD_ANSWER_INVALID && answer.why != PD_ANSWER_FINE);
        }
        data += took;
        size -= (size_t)took;
    }
    return 0;
}

static void write_seed(const char *directory, const char *name, const void *data, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, n, file) != n) exit(1);
    fclose(file);
}

#define SEED(name, bytes) write_seed(directory, name, bytes, sizeof(bytes) - 1)

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    if (*argc != 3 || strcmp((*argv)[1], "--seed")) return 0;
    const char *directory = (*argv)[2];
    SEED("answer", "\x83\xa2vx\x01\xa2vy\xff\xa3seq\xcd\x01\x00");
    SEED("doubles", "\x82\xa2vx\xcb?\xf0\0\0\0\0\0\0\xa2vy\xca\x3f\x80\0\0");
    SEED("attach", "\x81\xa6" "attach\xaf" "swift-neural-42");
    SEED("nested", "\x83\xa1" "a\x92\x81\x01\xc4\x02zz\xc0\xa2vx\x01\xa2vy\x02");
    exit(0);
}
