/* What a decoder sends on port 7072: one MessagePack map a message.
 *
 * The parser is strict and bounded: at most PD_ANSWER_MAX_BYTES a message and
 * PD_ANSWER_MAX_DEPTH levels, nothing outside `data` is read, and whatever the
 * bytes are it comes to an end. Unknown keys are stepped over. It keeps no
 * state: half a message is parsed again when more of it is there.
 *
 * Any thread. Nothing allocates.
 */
#ifndef PD_ANSWER_H
#define PD_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#define PD_ANSWER_MAX_BYTES 4096
#define PD_ANSWER_MAX_DEPTH 8
#define PD_ANSWER_MAX_CODE 64
#define PD_ANSWER_LIMIT 1e9         /* of a velocity or position, either way */

enum pd_answer_kind {
    PD_ANSWER_VELOCITY = 1,
    PD_ANSWER_ATTACH,
    PD_ANSWER_INVALID,              /* a whole map, but no answer: `why` */
};

enum pd_answer_why {
    PD_ANSWER_FINE,
    PD_ANSWER_NO_VELOCITY,          /* neither an answer nor an attach */
    PD_ANSWER_WRONG_TYPE,           /* of vx, vy, x, y, seq or attach */
    PD_ANSWER_NOT_FINITE,           /* NaN, infinity, or beyond PD_ANSWER_LIMIT */
    PD_ANSWER_TWO_MEANINGS,         /* a key twice, or attach in an answer */
};

struct pd_answer {
    uint32_t kind, why;
    uint32_t has_seq, has_position; /* position: x and y, both */
    uint64_t seq;
    double vx, vy, x, y;
    uint32_t code_bytes;
    char code[PD_ANSWER_MAX_CODE];
};

/* Bytes of the first message; 0 when it is not all there yet; -EBADMSG when
 * the bytes are no MessagePack map; -EMSGSIZE when it is too long or too deep. */
int64_t pd_answer_parse(const uint8_t *data, size_t n, struct pd_answer *answer);

#endif
