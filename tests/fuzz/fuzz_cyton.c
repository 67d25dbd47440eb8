/* Any bytes in any chunks at any times: the parser, the driver and the intake
 * hold their invariants. libFuzzer; also `fuzz_cyton --seed DIR` writes a small
 * corpus.
 *
 * Input: a byte that says which board it is (bits 0-1: what the auxiliary bytes hold, bit 2: a
 * Daisy); then per chunk a byte of length, a byte of time in units of 1 ms (255: the
 * device was reset), then its bytes; so cuts and gaps are the fuzzer's to choose.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hold.h"
#include "pd_cyton.h"

#define SLOTS 64
#define MOST_VALUES (PD_CYTON_MAX_CHANNELS + PD_CYTON_MAX_AUX)
#define WORDS PD_NATIVE_WORDS(MOST_VALUES)

static _Atomic uint64_t memory[8 + SLOTS * (1 + WORDS)];

struct tally {
    uint64_t packets, junk;
};

/* Takes packets in threes, where the driver takes many: that must not matter. */
static void feed_parser(struct pd_cyton_parser *parser, struct tally *tally, const uint8_t *bytes,
                        size_t n)
{
    struct pd_cyton_packet packet[3];
    uint8_t again[PD_CYTON_BYTES];
    size_t at = 0, found;
    do {
        size_t used;
        found = pd_cyton_parse(parser, bytes + at, n - at, packet, 3, &used);
        at += used;
        for (size_t i = 0; i < found; i++) {
            tally->packets++;
            tally->junk += packet[i].junk_before;
            pd_cyton_encode(&packet[i], again);
            HOLD(again[0] == 0xA0 && again[32] >= 0xC0 && again[32] <= 0xC6);
        }
    } while (found == 3);
    HOLD(at == n);
    HOLD(parser->n_pending <= 2 * PD_CYTON_BYTES);
}

static int same(const struct pd_cyton_parser *a, const struct pd_cyton_parser *b)
{
    return a->n_pending == b->n_pending && a->synced == b->synced && a->junk == b->junk &&
           a->last_counter == b->last_counter && !memcmp(a->pending, b->pending, a->n_pending);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    const enum pd_cyton_aux aux = data[0] & 3;
    const int daisy = data[0] >> 2 & 1;
    const uint32_t n_channels = daisy ? PD_CYTON_MAX_CHANNELS : PD_CYTON_CHANNELS;
    const uint32_t n_values = n_channels + pd_cyton_n_aux(aux);
    double gain[PD_CYTON_MAX_CHANNELS];
    for (int c = 0; c < PD_CYTON_MAX_CHANNELS; c++) gain[c] = 24;
    struct pd_ring ring;
    struct pd_intake_counts counts;
    static struct pd_intake intake;
    struct pd_cyton_driver driver;
    struct pd_cyton_parser parser;
    struct tally tally = { 0 };
    pd_cyton_parser_init(&parser);
    HOLD(!pd_ring_create(&ring, memory, sizeof memory, PD_NATIVE_WORDS(n_values), SLOTS, 0));
    HOLD(!pd_intake_init(&intake, &ring, &counts, daisy ? 125 : 250, daisy ? 128 : 256, n_values));
    pd_cyton_driver_init(&driver, &intake, n_channels, gain, aux);

    int64_t t_ns = PD_NS_PER_S;
    uint64_t fed = 0;
    size_t at = 1;
    while (at + 2 <= size) {
        size_t n = data[at];
        uint8_t wait_ms = data[at + 1];
        at += 2;
        if (n > size - at) n = size - at;
        t_ns += wait_ms * PD_NS_PER_MS;
        if (wait_ms == 255) pd_intake_reset(&intake);
        feed_parser(&parser, &tally, data + at, n);
        pd_cyton_feed(&driver, data + at, n, t_ns);
        fed += n;
        at += n;

        HOLD(same(&parser, &driver.state.parser));
        HOLD(tally.packets * PD_CYTON_BYTES + tally.junk + parser.junk + parser.n_pending == fed);
        uint64_t samples = counts.accepted + counts.duplicates + counts.strays;
        HOLD(daisy ? 2 * samples <= tally.packets : samples == tally.packets);
        HOLD(counts.junk_bytes == tally.junk + parser.junk);
        HOLD(counts.accepted + counts.lost == pd_ring_next(&ring));
    }

    /* What is in the ring is whole, in order, and says the same as the counts. */
    uint64_t words[WORDS];
    uint64_t lost_run = 0, oldest = pd_ring_oldest(&ring);
    for (uint64_t i = oldest; i < pd_ring_next(&ring); i++) {
        if (pd_ring_read(&ring, i, words)) continue;
        const struct pd_native *native = (const struct pd_native *)words;
        if (native->flags & PD_NATIVE_LOST) {
            lost_run++;
            continue;
        }
        HOLD(native->lost_before == lost_run || lost_run == i - oldest);
        HOLD(native->behind <= 255);
        lost_run = 0;
        for (uint32_t c = 0; c < n_channels; c++) HOLD(fabs(native->value[c]) < 187501);
    }
    return 0;
}

static void seed(const char *folder, const char *name, size_t cut, int spoil, uint8_t board)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    fputc(board, file);
    uint8_t stream[12 * PD_CYTON_BYTES];
    for (uint32_t i = 0; i < 12; i++) {
        struct pd_cyton_packet packet = { .counter = (uint8_t)(250 + i) };
        packet.stop = (uint8_t)(0xC0 + (board & 8 ? i % 7 : 0));
        for (int c = 0; c < PD_CYTON_CHANNELS; c++) packet.count[c] = (int32_t)(i * 1000u) + c;
        packet.aux[0] = (uint8_t)i;
        pd_cyton_encode(&packet, stream + i * PD_CYTON_BYTES);
    }
    if (spoil >= 0) stream[4 * PD_CYTON_BYTES + spoil] ^= 0x55;
    for (size_t at = 0; at < sizeof stream; at += cut) {
        size_t n = cut < sizeof stream - at ? cut : sizeof stream - at;
        fputc((int)n, file);
        fputc((int)(4 * n / PD_CYTON_BYTES), file);
        fwrite(stream + at, 1, n, file);
    }
    if (fclose(file)) perror(path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    if (*argc == 3 && strcmp((*argv)[1], "--seed") == 0) {
        seed((*argv)[2], "whole", PD_CYTON_BYTES, -1, 0);
        seed((*argv)[2], "clumps", 4 * PD_CYTON_BYTES, -1, 0);
        seed((*argv)[2], "cut", 20, -1, 0);
        seed((*argv)[2], "header", PD_CYTON_BYTES, 0, 0);
        seed((*argv)[2], "counter", PD_CYTON_BYTES, 1, 0);
        seed((*argv)[2], "footer", 62, PD_CYTON_BYTES - 1, 0);
        seed((*argv)[2], "daisy", PD_CYTON_BYTES, -1, 4);
        seed((*argv)[2], "stamped", PD_CYTON_BYTES, -1, 8);
        seed((*argv)[2], "daisy-marker", 4 * PD_CYTON_BYTES, -1, 15);
        seed((*argv)[2], "digital", PD_CYTON_BYTES, -1, 10);
        exit(EXIT_SUCCESS);
    }
    return 0;
}
