/* Any bytes in any pieces from a peer that may be hostile: whatever comes, each frame is accepted,
 * lost, or breaks the stream, and pieces do not matter. libFuzzer; `fuzz_remote --seed DIR` writes
 * a small corpus.
 *
 * Input: a byte of channels, then pieces: a byte of length, its bytes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hold.h"
#include "pd_remote.h"

#define SLOTS 64
#define MOST 8

static _Atomic uint64_t memory[2][8 + SLOTS * (1 + PD_NATIVE_WORDS(MOST))];

struct side {
    struct pd_ring ring;
    struct pd_intake_counts counts;
    struct pd_intake intake;
    struct pd_remote remote;
};

static void begin(struct side *side, int which, uint32_t n)
{
    HOLD(!pd_ring_create(&side->ring, memory[which], sizeof memory[which], PD_NATIVE_WORDS(n),
                         SLOTS, 0));
    HOLD(!pd_intake_init(&side->intake, &side->ring, &side->counts, 128, 0, n));
    HOLD(!pd_remote_init(&side->remote, &side->intake, PD_REMOTE_HEAD + 4 * n, -1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct side pieces, single;
    if (size == 0) return 0;
    uint32_t n_channels = 1 + data[0] % MOST;
    begin(&pieces, 0, n_channels);
    begin(&single, 1, n_channels);
    int64_t t_ns = PD_NS_PER_S;
    for (size_t at = 1; at < size;) {
        size_t n = data[at++];
        if (n > size - at) n = size - at;
        t_ns += PD_GRID_NS;
        pd_remote_feed(&pieces.remote, data + at, n, t_ns);
        for (size_t k = 0; k < n; k++) pd_remote_feed(&single.remote, data + at + k, 1, t_ns);
        at += n;
        HOLD(pieces.remote.state.n_pending < pieces.remote.frame_bytes);
        HOLD(pieces.counts.accepted + pieces.counts.lost == pd_ring_next(&pieces.ring));
        HOLD(pieces.remote.fault == single.remote.fault);
        HOLD(pieces.counts.accepted == single.counts.accepted);
        HOLD(pieces.counts.lost == single.counts.lost);
    }
    uint64_t words[PD_NATIVE_WORDS(MOST)];
    for (uint64_t i = pd_ring_oldest(&pieces.ring); i < pd_ring_next(&pieces.ring); i++) {
        if (pd_ring_read(&pieces.ring, i, words)) continue;
        const struct pd_native *native = (const struct pd_native *)words;
        for (uint32_t v = 0; v < n_channels; v++)
            HOLD((native->flags & PD_NATIVE_LOST) || native->value[v] - native->value[v] == 0);
    }
    return 0;
}

static void seed(const char *folder, const char *name, uint64_t jump, int64_t shift_ns)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    fputc(1, file);                 /* two channels */
    for (uint64_t k = 0; k < 8; k++) {
        uint8_t frame[PD_REMOTE_HEAD + 8] = { 0 };
        uint64_t index = 1000 + k + (k > 4 ? jump : 0);
        int64_t t_ns = (int64_t)index * PD_GRID_NS + (k == 6 ? shift_ns : 0);
        float value[2] = { (float)k, -1.5f };
        memcpy(frame, &index, 8);
        memcpy(frame + 8, &t_ns, 8);
        frame[16] = k == 3;
        memcpy(frame + PD_REMOTE_HEAD, value, sizeof value);
        fputc(sizeof frame, file);
        fwrite(frame, 1, sizeof frame, file);
    }
    if (fclose(file)) perror(path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    if (*argc == 3 && strcmp((*argv)[1], "--seed") == 0) {
        seed((*argv)[2], "whole", 0, 0);
        seed((*argv)[2], "lost", 40, 0);
        seed((*argv)[2], "far", 1ull << 40, 0);
        seed((*argv)[2], "late", 0, 5);
        exit(EXIT_SUCCESS);
    }
    return 0;
}
