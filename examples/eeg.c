/* Reads port 7069 without any library: a header, then one frame each 1/128 s.
 *
 *     cc -o eeg examples/eeg.c && ./eeg [frames] [port]
 *
 * docs/wire.md says what the bytes are. This reads them as they stand: on a
 * little-endian machine. */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MISSING = 1 };

static int read_all(int fd, void *into, size_t n)
{
    for (char *at = into; n > 0;) {
        ssize_t got = read(fd, at, n);
        if (got <= 0) return -1;
        at += got;
        n -= (size_t)got;
    }
    return 0;
}

int main(int argc, char **argv)
{
    long frames = argc > 1 ? atol(argv[1]) : 128;
    struct sockaddr_in address = { .sin_family = AF_INET };
    address.sin_port = htons((uint16_t)(argc > 2 ? atoi(argv[2]) : 7069));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("nobody listens there: start phantomd");
        return 3;
    }
    unsigned char header[192 + 64 * 16];
    uint32_t header_bytes, frame_bytes;
    uint16_t channels;
    if (read_all(fd, header, 24) != 0 || memcmp(header, "PHANTOM1", 8) != 0) return 1;
    memcpy(&header_bytes, header + 8, 4);
    memcpy(&frame_bytes, header + 12, 4);
    memcpy(&channels, header + 16, 2);
    if (header_bytes > sizeof header || frame_bytes > 4096) return 1;
    if (read_all(fd, header + 24, header_bytes - 24) != 0) return 1;
    for (long n = 0; n < frames; n++) {
        unsigned char frame[4096];
        uint64_t index;
        int64_t t_ns;
        uint32_t flags;
        if (read_all(fd, frame, frame_bytes) != 0) return 1;
        memcpy(&index, frame, 8);
        memcpy(&t_ns, frame + 8, 8);
        memcpy(&flags, frame + 16, 4);
        printf("%llu %lld", (unsigned long long)index, (long long)t_ns);
        for (unsigned ch = 0; ch < channels; ch++) {
            float microvolt;
            memcpy(&microvolt, frame + 24 + 4 * ch, 4);
            if (flags & MISSING) printf(" -");
            else printf(" %.2f", microvolt);
        }
        putchar('\n');
    }
    close(fd);
    return 0;
}
