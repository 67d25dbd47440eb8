/* A decoder of spikes in C, without any library:
 *
 *     cc -o gauntlet examples/gauntlet.c && ./gauntlet SESSION [PORT] [PACKETS]
 *
 * docs/wire.md says what the messages are. The model is a stand-in for yours: a leaky sum of the
 * counts, pulled one way by even units and the other way by odd ones. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* -- MessagePack: a cursor over bytes that may not be all there --------------------- */

struct cursor {
    const uint8_t *at, *end;
};

enum kind { NONE, NUMBER, STRING, LIST, MAP, OTHER };   /* NONE: not all there */

struct item {
    enum kind kind;
    double number;
    const uint8_t *text;
    uint32_t n;                     /* bytes of a string, items of a list, pairs of a map */
};

static uint64_t big_endian(const uint8_t *at, unsigned n)
{
    uint64_t value = 0;
    while (n--) value = value << 8 | *at++;
    return value;
}

/* The next item; of a list or map only its head. */
static struct item next(struct cursor *c)
{
    static const uint8_t more[32] = { [0x04] = 1, [0x05] = 2, [0x06] = 4, [0x0a] = 4, [0x0b] = 8,
        [0x0c] = 1, [0x0d] = 2, [0x0e] = 4, [0x0f] = 8, [0x10] = 1, [0x11] = 2, [0x12] = 4,
        [0x13] = 8, [0x19] = 1, [0x1a] = 2, [0x1b] = 4, [0x1c] = 2, [0x1d] = 4, [0x1e] = 2,
        [0x1f] = 4 };
    struct item item = { .kind = NONE };
    if (c->at == c->end) return item;
    uint8_t tag = *c->at;
    unsigned extra = tag >= 0xc0 && tag < 0xe0 ? more[tag - 0xc0] : 0;
    if ((size_t)(c->end - c->at) < 1 + extra) return item;
    uint64_t value = big_endian(c->at + 1, extra);
    c->at += 1 + extra;
    item.kind = NUMBER;
    if (tag < 0x80) item.number = tag;
    else if (tag < 0x90) item = (struct item){ .kind = MAP, .n = tag & 15 };
    else if (tag < 0xa0) item = (struct item){ .kind = LIST, .n = tag & 15 };
    else if (tag < 0xc0) item = (struct item){ .kind = STRING, .n = tag & 31 };
    else if (tag >= 0xe0) item.number = (int8_t)tag;
    else if (tag == 0xcb) memcpy(&item.number, &value, 8);
    else if (tag == 0xca) {
        float single;
        uint32_t bits = (uint32_t)value;
        memcpy(&single, &bits, 4);
        item.number = (double)single;
    } else if (tag >= 0xcc && tag <= 0xcf) item.number = (double)value;
    else if (tag >= 0xd0 && tag <= 0xd3)
        item.number = (double)((int64_t)(value << (64 - 8 * extra)) >> (64 - 8 * extra));
    else if (tag >= 0xd9 && tag <= 0xdb) item = (struct item){ .kind = STRING, .n = (uint32_t)value };
    else if (tag == 0xdc || tag == 0xdd) item = (struct item){ .kind = LIST, .n = (uint32_t)value };
    else if (tag == 0xde || tag == 0xdf) item = (struct item){ .kind = MAP, .n = (uint32_t)value };
    else item.kind = OTHER;         /* nil, false, true */
    if (item.kind == STRING) {
        if ((size_t)(c->end - c->at) < item.n) return (struct item){ .kind = NONE };
        item.text = c->at;
        c->at += item.n;
    }
    return item;
}

/* Past a whole value, whatever is in it. 0: not all there. */
static int skip(struct cursor *c)
{
    for (uint64_t open = 1; open > 0; open--) {
        struct item item = next(c);
        if (item.kind == NONE) return 0;
        if (item.kind == LIST) open += item.n;
        if (item.kind == MAP) open += 2ull * item.n;
    }
    return 1;
}

/* `c` at a map: moves to the value of a key. 0: it has none. */
static int find(struct cursor *c, const char *key)
{
    struct item map = next(c);
    for (uint32_t i = 0; map.kind == MAP && i < map.n; i++) {
        struct item name = next(c);
        if (name.kind == STRING && name.n == strlen(key) && memcmp(name.text, key, name.n) == 0)
            return 1;
        if (!skip(c)) return 0;
    }
    return 0;
}

static int is(struct cursor message, const char *key, const char *text)
{
    if (!find(&message, key)) return 0;
    struct item item = next(&message);
    return item.kind == STRING && item.n == strlen(text) && memcmp(item.text, text, item.n) == 0;
}

/* -- the decoder -------------------------------------------------------------------- */

static size_t put_double(uint8_t *to, const char *key, double value)
{
    size_t n = strlen(key);
    uint64_t bits;
    memcpy(&bits, &value, 8);
    to[0] = (uint8_t)(0xa0 | n);
    memcpy(to + 1, key, n);
    to[1 + n] = 0xcb;
    for (int i = 0; i < 8; i++) to[2 + n + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
    return 10 + n;
}

static size_t encode_answer(uint8_t *to, double vx, double vy, uint64_t seq)
{
    size_t n = 1;
    to[0] = 0x83;
    n += put_double(to + n, "vx", vx);
    n += put_double(to + n, "vy", vy);
    memcpy(to + n, "\xa3seq\xcf", 5);
    for (int i = 0; i < 8; i++) to[n + 5 + (size_t)i] = (uint8_t)(seq >> (56 - 8 * i));
    return n + 13;
}

static void decode(struct cursor counts, double *vx, double *vy)
{
    struct item list = next(&counts);
    *vx *= 0.9;
    *vy *= 0.9;
    for (uint32_t unit = 0; list.kind == LIST && unit < list.n; unit++) {
        double count = next(&counts).number;
        *vx += unit % 2 ? -count : count;
        *vy += unit < list.n / 2 ? count : -count;
    }
}

int main(int argc, char **argv)
{
    if (argc < 2 || strlen(argv[1]) > 31) {
        fprintf(stderr, "usage: gauntlet SESSION [PORT] [PACKETS]\n");
        return 2;
    }
    long packets = argc > 3 ? atol(argv[3]) : 0, answered = 0;
    struct sockaddr_in address = { .sin_family = AF_INET };
    address.sin_port = htons((uint16_t)(argc > 2 ? atoi(argv[2]) : 7072));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("nobody listens there: start phantomd");
        return 3;
    }
    /* Else an answer waits until the one before it is confirmed. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    uint8_t out[64];
    size_t name = strlen(argv[1]);
    memcpy(out, "\x81\xa6" "attach", 8);
    out[8] = (uint8_t)(0xa0 | name);
    memcpy(out + 9, argv[1], name);
    if (write(fd, out, 9 + name) != (ssize_t)(9 + name)) return 1;

    static uint8_t in[1 << 20];
    size_t have = 0;
    double vx = 0, vy = 0;
    int ours = 0;
    while (!packets || answered < packets) {
        ssize_t got = read(fd, in + have, sizeof in - have);
        if (got <= 0) break;
        have += (size_t)got;
        struct cursor all = { in, in + have };
        for (;;) {
            struct cursor message = all, data;
            if (!skip(&all)) {      /* `message` is where a whole one would begin */
                have = (size_t)(message.end - message.at);
                memmove(in, message.at, have);
                break;
            }
            data = message;
            if (is(message, "type", "metadata")) {
                ours = find(&data, "data") && is(data, "session", argv[1]);
            } else if (is(message, "type", "error")) {
                fprintf(stderr, "the daemon refuses: is there a session %s?\n", argv[1]);
                return 1;
            } else if (ours && is(message, "type", "data") && find(&data, "data")) {
                struct cursor spikes = data, seq = message;
                if (!find(&spikes, "spikes") || !find(&spikes, "spike_counts")) return 1;
                if (!find(&seq, "seq")) return 1;
                decode(spikes, &vx, &vy);
                size_t n = encode_answer(out, vx, vy, (uint64_t)next(&seq).number);
                if (write(fd, out, n) != (ssize_t)n) return 1;
                answered++;
            }
        }
    }
    printf("%ld packets answered\n", answered);
    close(fd);
    return 0;
}
