/* Writing MessagePack: each function puts one value at `p` and returns the end.
 *
 * The caller has made sure of the room. Integers take their shortest form;
 * floats are 64 bits wide, and nil where there is no number.
 */
#ifndef PD_PACK_H
#define PD_PACK_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* A short string and its length, at compile time. */
#define PD_PACK_TEXT(p, text) pd_pack_text(p, text, sizeof(text) - 1)

static inline uint8_t *pd_pack_be(uint8_t *p, uint64_t value, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) p[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
    return p + bytes;
}

static inline uint8_t *pd_pack_text(uint8_t *p, const char *text, uint32_t bytes)
{
    if (bytes < 32) {
        *p++ = (uint8_t)(0xa0 | bytes);
    } else {
        *p++ = 0xd9;                            /* up to 255 */
        *p++ = (uint8_t)bytes;
    }
    memcpy(p, text, bytes);
    return p + bytes;
}

static inline uint8_t *pd_pack_map(uint8_t *p, uint32_t n)
{
    *p++ = (uint8_t)(0x80 | n);                 /* up to 15 */
    return p;
}

static inline uint8_t *pd_pack_array(uint8_t *p, uint32_t n)
{
    if (n < 16) {
        *p++ = (uint8_t)(0x90 | n);
        return p;
    }
    *p++ = 0xdc;
    return pd_pack_be(p, n, 2);
}

static inline uint8_t *pd_pack_uint(uint8_t *p, uint64_t value)
{
    if (value < 0x80) {
        *p++ = (uint8_t)value;
        return p;
    }
    int width = value < 0x100 ? 0 : value < 0x10000 ? 1 : value < 0x100000000ull ? 2 : 3;
    *p++ = (uint8_t)(0xcc + width);
    return pd_pack_be(p, value, 1u << width);
}

static inline uint8_t *pd_pack_int(uint8_t *p, int64_t value)
{
    if (value >= 0) return pd_pack_uint(p, (uint64_t)value);
    if (value >= -32) {
        *p++ = (uint8_t)value;
        return p;
    }
    *p++ = 0xd3;
    return pd_pack_be(p, (uint64_t)value, 8);
}

static inline uint8_t *pd_pack_nil(uint8_t *p)
{
    *p++ = 0xc0;
    return p;
}

static inline uint8_t *pd_pack_bool(uint8_t *p, int value)
{
    *p++ = value ? 0xc3 : 0xc2;
    return p;
}

static inline uint8_t *pd_pack_float(uint8_t *p, double value)
{
    uint64_t bits;
    if (!isfinite(value)) return pd_pack_nil(p);
    memcpy(&bits, &value, sizeof bits);
    *p++ = 0xcb;
    return pd_pack_be(p, bits, 8);
}

#endif
