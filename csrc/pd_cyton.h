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
#define PD_CYTON_CHANNELS 8
#define PD_CYTON_AUX 3              /* accelerometer x y z in g; NaN where a packet has none */

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

struct pd_cyton_driver {
    struct pd_intake *intake;
    double uv_per_count[PD_CYTON_CHANNELS];
    struct pd_cyton_parser parser;
};

void pd_cyton_driver_init(struct pd_cyton_driver *driver, struct pd_intake *intake,
                          const double gain[PD_CYTON_CHANNELS]);

/* A chunk as it was read: parses, scales to µV, and hands all its packets to
 * the intake (8 EEG + 3 aux values a sample) with the number of newer packets
 * behind each, a repeated packet counted once. Signature of pd_driver.feed. */
void pd_cyton_feed(void *driver, const uint8_t *bytes, size_t n, int64_t arrival_ns);

#endif
