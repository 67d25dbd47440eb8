#include "pd_answer.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define UNTIL_NOW 0                 /* "more bytes are needed" */

struct cursor {
    const uint8_t *at, *end;
};

enum kind { KIND_NIL, KIND_BOOL, KIND_INT, KIND_FLOAT, KIND_TEXT, KIND_BYTES, KIND_ARRAY, KIND_MAP };

struct value {
    enum kind kind;
    double number;                  /* INT, FLOAT */
    uint64_t natural;               /* INT that is not negative */
    int negative;
    const uint8_t *text;
    uint32_t size;                  /* bytes of TEXT and BYTES; items of ARRAY and MAP */
};

static uint64_t big_endian(const uint8_t *at, uint32_t bytes)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < bytes; i++) value = value << 8 | at[i];
    return value;
}

/* `bytes` more: 1, or UNTIL_NOW, or -EMSGSIZE for what no message may have. */
static int64_t need(const struct cursor *cursor, uint64_t bytes)
{
    if (bytes > PD_ANSWER_MAX_BYTES) return -EMSGSIZE;
    return (uint64_t)(cursor->end - cursor->at) >= bytes ? 1 : UNTIL_NOW;
}

static int64_t take_payload(struct cursor *cursor, struct value *value)
{
    int64_t rc = need(cursor, value->size);
    if (rc <= 0) return rc;
    value->text = cursor->at;
    cursor->at += value->size;
    return 1;
}

static void set_int(struct value *value, uint64_t bits, uint32_t bytes, int is_signed)
{
    value->kind = KIND_INT;
    value->negative = is_signed && bits >> (8 * bytes - 1) & 1;
    if (value->negative) {
        if (bytes < 8) bits |= ~0ull << (8 * bytes);
        value->number = (double)(int64_t)bits;
    } else {
        value->natural = bits;
        value->number = (double)bits;
    }
}

static void set_float(struct value *value, uint64_t bits, uint32_t bytes)
{
    value->kind = KIND_FLOAT;
    if (bytes == 4) {
        uint32_t narrow = (uint32_t)bits;
        float single;
        memcpy(&single, &narrow, sizeof single);
        value->number = (double)single;
    } else {
        memcpy(&value->number, &bits, sizeof value->number);
    }
}

/* The head of one value (and the payload of text and bytes): 1, UNTIL_NOW, or an error. */
static int64_t take_value(struct cursor *cursor, struct value *value)
{
    static const uint8_t width[32] = {
        [0x04] = 1, [0x05] = 2, [0x06] = 4,                             /* bin */
        [0x07] = 1, [0x08] = 2, [0x09] = 4,                             /* ext */
        [0x0a] = 4, [0x0b] = 8,                                         /* float */
        [0x0c] = 1, [0x0d] = 2, [0x0e] = 4, [0x0f] = 8,                 /* uint */
        [0x10] = 1, [0x11] = 2, [0x12] = 4, [0x13] = 8,                 /* int */
        [0x19] = 1, [0x1a] = 2, [0x1b] = 4,                             /* str */
        [0x1c] = 2, [0x1d] = 4, [0x1e] = 2, [0x1f] = 4,                 /* array, map */
    };
    memset(value, 0, sizeof *value);
    int64_t rc = need(cursor, 1);
    if (rc <= 0) return rc;
    uint8_t tag = *cursor->at;
    if (tag == 0xc1) return -EBADMSG;
    uint32_t wide = tag >= 0xc0 && tag <= 0xdf ? width[tag - 0xc0] : 0;
    rc = need(cursor, 1 + wide);
    if (rc <= 0) return rc;
    uint64_t bits = big_endian(cursor->at + 1, wide);
    cursor->at += 1 + wide;

    if (tag <= 0x7f) {
        set_int(value, tag, 1, 0);
    } else if (tag >= 0xe0) {
        set_int(value, tag, 1, 1);
    } else if (tag <= 0x8f) {
        value->kind = KIND_MAP;
        value->size = tag & 0x0f;
    } else if (tag <= 0x9f) {
        value->kind = KIND_ARRAY;
        value->size = tag & 0x0f;
    } else if (tag <= 0xbf) {
        value->kind = KIND_TEXT;
        value->size = tag & 0x1f;
        return take_payload(cursor, value);
    } else if (tag == 0xc0) {
        value->kind = KIND_NIL;
    } else if (tag <= 0xc3) {
        value->kind = KIND_BOOL;
    } else if (tag <= 0xc9 || (tag >= 0xd4 && tag <= 0xd8)) {          /* bin, ext, fixext */
        value->kind = KIND_BYTES;
        if (tag >= 0xd4) bits = (1ull << (tag - 0xd4)) + 1;
        else if (tag >= 0xc7) bits += 1;                                /* the ext's type */
        if (bits > PD_ANSWER_MAX_BYTES) return -EMSGSIZE;
        value->size = (uint32_t)bits;
        return take_payload(cursor, value);
    } else if (tag <= 0xcb) {
        set_float(value, bits, wide);
    } else if (tag <= 0xcf) {
        set_int(value, bits, wide, 0);
    } else if (tag <= 0xd3) {
        set_int(value, bits, wide, 1);
    } else {
        if (bits > PD_ANSWER_MAX_BYTES) return -EMSGSIZE;
        value->size = (uint32_t)bits;
        value->kind = tag <= 0xdb ? KIND_TEXT : tag <= 0xdd ? KIND_ARRAY : KIND_MAP;
        if (value->kind == KIND_TEXT) return take_payload(cursor, value);
    }
    return 1;
}

/* What lies in an array or map, without looking at it. */
static int64_t skip_items(struct cursor *cursor, const struct value *value)
{
    uint32_t left[PD_ANSWER_MAX_DEPTH];
    int depth = 0;
    if (value->kind != KIND_ARRAY && value->kind != KIND_MAP) return 1;
    left[0] = value->size * (value->kind == KIND_MAP ? 2 : 1);
    while (depth >= 0) {
        struct value item;
        if (left[depth] == 0) {
            depth--;
            continue;
        }
        left[depth]--;
        int64_t rc = take_value(cursor, &item);
        if (rc <= 0) return rc;
        if ((item.kind == KIND_ARRAY || item.kind == KIND_MAP) && item.size) {
            /* The map of the message is the first level, `value` the second. */
            if (++depth >= PD_ANSWER_MAX_DEPTH - 1) return -EMSGSIZE;
            left[depth] = item.size * (item.kind == KIND_MAP ? 2 : 1);
        }
    }
    return 1;
}

static int is_key(const struct value *key, const char *name)
{
    return key->kind == KIND_TEXT && key->size == strlen(name)
           && memcmp(key->text, name, key->size) == 0;
}

static void refuse(struct pd_answer *answer, enum pd_answer_why why)
{
    if (answer->why == PD_ANSWER_FINE) answer->why = why;
}

static void take_number(struct pd_answer *answer, const struct value *value, double *out)
{
    if (value->kind != KIND_INT && value->kind != KIND_FLOAT)
        refuse(answer, PD_ANSWER_WRONG_TYPE);
    else if (!(fabs(value->number) <= PD_ANSWER_LIMIT))     /* NaN, too */
        refuse(answer, PD_ANSWER_NOT_FINITE);
    else
        *out = value->number;
}

enum { HAS_VX = 1, HAS_VY = 2, HAS_X = 4, HAS_Y = 8, HAS_SEQ = 16, HAS_ATTACH = 32 };

static uint32_t key_of(const struct value *key)
{
    if (is_key(key, "vx")) return HAS_VX;
    if (is_key(key, "vy")) return HAS_VY;
    if (is_key(key, "x")) return HAS_X;
    if (is_key(key, "y")) return HAS_Y;
    if (is_key(key, "seq")) return HAS_SEQ;
    if (is_key(key, "attach")) return HAS_ATTACH;
    return 0;
}

static void take_field(struct pd_answer *answer, uint32_t key, const struct value *value)
{
    switch (key) {
    case HAS_VX: take_number(answer, value, &answer->vx); break;
    case HAS_VY: take_number(answer, value, &answer->vy); break;
    case HAS_X: take_number(answer, value, &answer->x); break;
    case HAS_Y: take_number(answer, value, &answer->y); break;
    case HAS_SEQ:
        if (value->kind != KIND_INT || value->negative) {
            refuse(answer, PD_ANSWER_WRONG_TYPE);
        } else {
            answer->has_seq = 1;
            answer->seq = value->natural;
        }
        break;
    case HAS_ATTACH:
        if (value->kind != KIND_TEXT || value->size == 0 || value->size > PD_ANSWER_MAX_CODE) {
            refuse(answer, PD_ANSWER_WRONG_TYPE);
        } else {
            answer->code_bytes = value->size;
            memcpy(answer->code, value->text, value->size);
        }
        break;
    default: break;
    }
}

int64_t pd_answer_parse(const uint8_t *data, size_t n, struct pd_answer *answer)
{
    struct cursor cursor = { data, data + (n < PD_ANSWER_MAX_BYTES ? n : PD_ANSWER_MAX_BYTES) };
    struct value map, key, value;
    uint32_t has = 0;
    memset(answer, 0, sizeof *answer);
    int64_t rc = take_value(&cursor, &map);
    if (rc > 0 && map.kind != KIND_MAP) return -EBADMSG;
    for (uint32_t i = 0; rc > 0 && i < map.size; i++) {
        if ((rc = take_value(&cursor, &key)) <= 0) break;
        if ((rc = skip_items(&cursor, &key)) <= 0) break;
        if ((rc = take_value(&cursor, &value)) <= 0) break;
        uint32_t which = key_of(&key);
        if (has & which) refuse(answer, PD_ANSWER_TWO_MEANINGS);
        has |= which;
        take_field(answer, which, &value);
        rc = skip_items(&cursor, &value);
    }
    if (rc == UNTIL_NOW && n >= PD_ANSWER_MAX_BYTES) return -EMSGSIZE;
    if (rc <= 0) return rc;
    if (has & HAS_ATTACH) {
        if (has & (HAS_VX | HAS_VY)) refuse(answer, PD_ANSWER_TWO_MEANINGS);
        answer->kind = PD_ANSWER_ATTACH;
    } else {
        if ((has & (HAS_VX | HAS_VY)) != (HAS_VX | HAS_VY)) refuse(answer, PD_ANSWER_NO_VELOCITY);
        if (!(has & HAS_X) != !(has & HAS_Y)) refuse(answer, PD_ANSWER_NO_VELOCITY);
        answer->kind = PD_ANSWER_VELOCITY;
        answer->has_position = (has & HAS_X) != 0;
    }
    if (answer->why != PD_ANSWER_FINE) answer->kind = PD_ANSWER_INVALID;
    return cursor.at - data;
}
