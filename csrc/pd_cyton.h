/* OpenBCI Cyton packets: parser and encoder, and the driver that ties the
 * parser to an intake.
 *
 * 33 bytes: 0xA0, counter 0..255, 8 × signed 24-bit big-endian, 6 auxiliary
 * bytes, stop byte 0xC0..0xC6. There is no checksum. A packet that stands where
 * the last one ended is handed over with its 33rd byte. After damage three
 * things speak for a candidate: its counter is as far on as the bytes in between
 * account for, the bytes after it begin a packet, and that packet's counter is
 * the next. One that overlaps it is preferred when more speaks for it. A damaged
 * packet costs itself and not its neighbours; bytes outside packets are counted.
 *
 * What can't be told, in principle: a packet of the right length whose payload
 * or counter is wrong; an inserted byte when the last auxiliary byte (then in the
 * stop byte's place) is itself 0xC0..0xC6; bytes cut out when the byte that moves
 * into the stop byte's place is 0xC0..0xC6 and the read ends on it; damage that
 * spells a start byte, a due counter and a stop byte in their places; and a good
 * packet alone between damage whose counter the bytes since the last one don't
 * account for: it is dropped. Reads outside bytes: fuzzed.
 *
 * Owner: intake thread. No allocation, nothing blocks, no input is an error.
 */
#ifndef PD_CYTON_H
#define PD_CYTON_H

#include <stddef.h>
#include <stdint.h>

#include "pd_intake.h"
#include "pd_pump.h"

#define PD_CYTON_BYTES 33
#define PD_CYTON_CHANNELS 8         /* in a packet */
#define PD_CYTON_MAX_CHANNELS 16    /* with a Daisy */
#define PD_CYTON_MAX_AUX 5

enum pd_cyton_aux {                 /* what the auxiliary bytes hold: the board mode */
    PD_CYTON_ACCEL = 0,             /* /0: x y z in g, 25 times a second */
    PD_CYTON_ANALOG = 1,            /* /2: A5 A6 A7 in V */
    PD_CYTON_DIGITAL = 2,           /* /3: D11 D12 D13 D17 D18, 0 or 1 */
    PD_CYTON_MARKER = 3,            /* /4: no values; markers */
};

struct pd_cyton_packet {
    uint8_t counter;
    uint8_t stop;                   /* 0xC0..0xC6 */
    int32_t count[PD_CYTON_CHANNELS];   /* ADC counts */
    uint8_t aux[6];
    uint32_t junk_before;           /* bytes dropped since the packet before */
};

#define PD_CYTON_NO_COUNTER 256u

struct pd_cyton_parser {            /* plain state: may be copied and saved */
    uint8_t pending[4 * PD_CYTON_BYTES];    /* bytes not yet decided on */
    uint32_t n_pending;
    uint32_t synced;                /* the last packet ended where pending begins */
    uint32_t junk;                  /* bytes dropped since the last packet */
    uint32_t last_counter;          /* of the last packet, or PD_CYTON_NO_COUNTER */
};

void pd_cyton_parser_init(struct pd_cyton_parser *parser);

/* Takes bytes until it has consumed all or filled `out`; returns the packets
 * found, and in *used how many bytes it took. When it returns `room`, more may
 * be decided already: call again, if need be with n = 0. */
size_t pd_cyton_parse(struct pd_cyton_parser *parser, const uint8_t *bytes, size_t n,
                      struct pd_cyton_packet *out, size_t room, size_t *used);

/* The 33 bytes of a packet. Counts beyond 24 bits are clipped. */
void pd_cyton_encode(const struct pd_cyton_packet *packet, uint8_t out[PD_CYTON_BYTES]);

/* µV a count at this gain: 4.5 V / gain / (2^23 - 1). */
double pd_cyton_uv_per_count(double gain);

struct pd_cyton_state {             /* plain state: may be copied and saved */
    struct pd_cyton_parser parser;
    int32_t half[PD_CYTON_CHANNELS];    /* the board's half of a 16-channel sample */
    uint32_t have_half, half_counter;
    uint32_t marker;                /* seen, and not handed over yet */
    uint32_t stamped;               /* packets had the board's time */
    uint32_t stamp_ms, stamp_turns; /* the newest, and how often it went round */
    double aux[PD_CYTON_MAX_AUX];   /* the newest readings, and for how many packets */
    uint32_t hold[PD_CYTON_MAX_AUX];    /* they are still good */
    uint32_t junk_told;             /* of the parser's junk, the intake knows so much already */
};

struct pd_cyton_driver {
    struct pd_intake *intake;
    double uv_per_count[PD_CYTON_MAX_CHANNELS];
    uint32_t n_channels;            /* 8, or 16 with a Daisy */
    uint32_t aux;                   /* enum pd_cyton_aux */
    uint32_t n_aux;
    struct pd_cyton_state state;
};

/* Auxiliary values a sample in this mode. */
uint32_t pd_cyton_n_aux(enum pd_cyton_aux aux);

/* Of a gain for each channel. n_channels: 8 or 16. The intake has modulus 256, or 128
 * with a Daisy, and n_channels + pd_cyton_n_aux(aux) values. */
void pd_cyton_driver_init(struct pd_cyton_driver *driver, struct pd_intake *intake,
                          uint32_t n_channels, const double *gain, enum pd_cyton_aux aux);

/* A chunk as it was read: parses, scales to µV, and hands all its samples to
 * the intake (EEG, then aux values) with the number of newer ones behind each, a
 * repeated packet counted once. Signature of pd_driver.feed.
 *
 * With a Daisy the packet with an odd counter has channels 1..8 and the even one after
 * it 9..16; both are averages over two conversions, so there are 125 samples a second. A
 * sample is handed over when its second half has come; one of which a half is lost is lost.
 * An auxiliary reading is held for a tenth of a second, then the value is NaN. A packet's
 * own stamp (ms since the board started) is the sample's device_ns. */
void pd_cyton_feed(void *driver, const uint8_t *bytes, size_t n, int64_t arrival_ns);

/* The board was started anew: forgets what was pending. Signature of pd_driver.reset. */
void pd_cyton_reset(void *driver);

#endif
