#define _GNU_SOURCE
#include "pd_frames.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pd_time.h"

#define WAKE UINT32_MAX             /* epoll's name for the queue of orders, */
#define TICK (UINT32_MAX - 1)       /* and for the tick */
#define OTHER (1ull << 32)          /* the tick's PD_NOTIFY_OTHER */
#define READY 64                    /* sockets a round; what the tick has made goes first */
#define HISTORIES_BYTES (4u << 20)  /* of the news: for histories of those who lag and end */
#define TICKETS_BYTES (64u << 10)
#define FIRST_INDEX_AT 40           /* in the header (docs/wire.md) */
#define WALL_OFFSET_AT 32

static const uint8_t MAGIC[8] = "PHANTOM1";

/* What everybody may tell before the event loop takes any of it. */
static uint64_t reserve(uint32_t max_clients)
{
    const uint64_t head = sizeof(uint32_t) + sizeof(struct pd_frames_news);
    return (uint64_t)max_clients * (2 * head + PD_FRAMES_OUT_BYTES) + TICKETS_BYTES;
}

uint32_t pd_frames_news_bytes(uint32_t max_clients)
{
    uint64_t bytes = 1;
    while (bytes < reserve(max_clients) + HISTORIES_BYTES) bytes *= 2;
    return bytes > UINT32_MAX ? 0 : (uint32_t)bytes;
}

static int listen_to(struct pd_frames *frames, int fd, uint32_t name)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = name };
    return epoll_ctl(frames->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

int pd_frames_init(struct pd_frames *frames, const struct pd_frames_config *config)
{
    if (config->max_clients == 0 || config->max_clients >= TICK
        || config->news->bytes < pd_frames_news_bytes(config->max_clients))
        return -EINVAL;
    memset(frames, 0, sizeof *frames);
    frames->clients = config->clients;
    frames->out = config->out;
    frames->rest = config->rest;
    frames->max_clients = config->max_clients;
    frames->loop_fd = config->loop_fd;
    frames->deadline_ns = config->deadline_ns;
    frames->lateness = config->lateness;
    frames->virtual_ns = PD_NO_TIME;
    atomic_init(&frames->newest_ns, PD_NO_TIME);
    for (uint32_t i = 0; i < frames->max_clients; i++) frames->clients[i].peer.fd = -1;
    frames->epoll_fd = frames->tick_fd = -1;
    int rc = pd_post_init(&frames->post, config->orders, config->news, config->notify_fd);
    if (rc) return rc;
    frames->tick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    frames->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (frames->tick_fd < 0 || frames->epoll_fd < 0 || listen_to(frames, frames->tick_fd, TICK)
        || listen_to(frames, frames->post.wake_fd, WAKE)) {
        int error = errno;
        pd_frames_close(frames);
        return -error;
    }
    return 0;
}

void pd_frames_close(struct pd_frames *frames)
{
    if (frames->epoll_fd >= 0) close(frames->epoll_fd);
    if (frames->tick_fd >= 0) close(frames->tick_fd);
    frames->epoll_fd = frames->tick_fd = -1;
    pd_post_close(&frames->post);
}

int pd_frames_order(struct pd_frames *frames, const struct pd_frames_command *order,
                    const void *message)
{
    if (order->bytes > PD_FRAMES_OUT_BYTES) return -EMSGSIZE;
    return pd_post_order(&frames->post, order, sizeof *order, message, order->bytes);
}

void pd_frames_hold(struct pd_frames *frames)
{
    atomic_store(&frames->held, 1);
}

void pd_frames_let_go(struct pd_frames *frames)
{
    atomic_store(&frames->held, 0);
    pd_post_ring(frames->tick_fd);
}

void pd_frames_loop_from(struct pd_frames *frames, uint64_t index)
{
    atomic_store(&frames->loop_from, index);
}

static int64_t clock_of(const struct pd_frames *frames)
{
    return frames->virtual_ns == PD_NO_TIME ? pd_time_now() : frames->virtual_ns;
}

/* -- clients ----------------------------------------------------------------------------- */

static void set_flag(struct pd_frames *frames, uint32_t number, uint32_t flag, int on)
{
    struct pd_peer *peer = &frames->clients[number].peer;
    uint32_t *count = flag == PD_PEER_BLOCKED ? &frames->n_blocked : &frames->n_slowed;
    if (!(peer->flags & flag) == !on) return;
    peer->flags ^= flag;
    if (on) ++*count;
    else --*count;
}

static const uint8_t *slot_of(const struct pd_frames *frames, uint64_t position)
{
    return frames->history + (position % PD_FRAMES_HISTORY) * frames->frame_bytes;
}

/* Frames of [from, until) that lie in one piece of the history. */
static struct iovec piece_of(const struct pd_frames *frames, uint64_t from, uint64_t until)
{
    uint64_t run = PD_FRAMES_HISTORY - from % PD_FRAMES_HISTORY;
    if (run > until - from) run = until - from;
    return (struct iovec){ (void *)(uintptr_t)slot_of(frames, from), run * frames->frame_bytes };
}

/* The socket goes back to the event loop, with what was begun and the frames before
 * `until`, as far as there is room to tell. */
static void leave(struct pd_frames *frames, uint32_t number, enum pd_frames_left code,
                  uint64_t until)
{
    struct pd_frames_client *client = &frames->clients[number];
    struct pd_peer *peer = &client->peer;
    struct pd_frames_news news = { .what = PD_FRAMES_LEFT, .connection = number, .code = code,
                                   .value = peer->fd };
    pd_peer_leave(peer, frames->epoll_fd);
    set_flag(frames, number, PD_PEER_BLOCKED, 0);
    set_flag(frames, number, PD_PEER_SLOWED, 0);
    if (code != PD_FRAMES_GONE) {
        news.bytes = peer->out_to - peer->out_from;
        memcpy(frames->rest, peer->out + peer->out_from, news.bytes);
        uint64_t room = pd_post_room(&frames->post), kept = reserve(frames->max_clients);
        uint64_t most = room > kept ? (room - kept) / frames->frame_bytes : 0;
        if (until > client->cursor + most) until = client->cursor + most;
        while (client->cursor < until) {
            struct iovec piece = piece_of(frames, client->cursor, until);
            memcpy(frames->rest + news.bytes, piece.iov_base, piece.iov_len);
            news.bytes += (uint32_t)piece.iov_len;
            client->cursor += piece.iov_len / frames->frame_bytes;
        }
    }
    pd_post_tell(&frames->post, &news, sizeof news, frames->rest, news.bytes);
}

/* What was sent of its own bytes and, after them, of the history. */
static void settle(struct pd_frames *frames, struct pd_frames_client *client, uint64_t sent)
{
    struct pd_peer *peer = &client->peer;
    uint64_t own = peer->out_to - peer->out_from;
    uint64_t took = sent < own ? sent : own;
    peer->out_from += (uint32_t)took;
    if (peer->out_from == peer->out_to) peer->out_from = peer->out_to = 0;
    sent -= took;
    client->cursor += sent / frames->frame_bytes;
    uint32_t begun = (uint32_t)(sent % frames->frame_bytes);
    if (begun) {                            /* so it will be finished */
        pd_peer_put(peer, slot_of(frames, client->cursor) + begun, frames->frame_bytes - begun);
        client->cursor++;
    }
}

/* One send of all that it is owed. */
static void give(struct pd_frames *frames, uint32_t number)
{
    struct pd_frames_client *client = &frames->clients[number];
    struct pd_peer *peer = &client->peer;
    struct iovec parts[3];
    uint32_t n = 0;
    if (peer->out_to) parts[n++] = (struct iovec){ peer->out + peer->out_from,
                                                   peer->out_to - peer->out_from };
    for (uint64_t at = client->cursor; at < frames->head; n++) {
        parts[n] = piece_of(frames, at, frames->head);
        at += parts[n].iov_len / frames->frame_bytes;
    }
    if (n) {
        int64_t sent = pd_peer_send(peer, parts, n);
        if (sent < 0) {
            leave(frames, number, PD_FRAMES_GONE, 0);
            return;
        }
        settle(frames, client, (uint64_t)sent);
    }
    set_flag(frames, number, PD_PEER_BLOCKED, peer->out_to || client->cursor < frames->head);
    pd_peer_watch(peer, frames->epoll_fd, number);
}

static void flush(struct pd_frames *frames)
{
    for (uint32_t i = 0; i < frames->n_used; i++) {
        const struct pd_peer *peer = &frames->clients[i].peer;
        if (peer->fd >= 0 && !(peer->flags & PD_PEER_BLOCKED)) give(frames, i);
    }
    frames->flushed = frames->head;
}

/* -- what they send -------------------------------------------------------------------------- */

static void half_close(struct pd_frames *frames, uint32_t number)
{
    struct pd_frames_news news = { .what = PD_FRAMES_HALF, .connection = number };
    frames->clients[number].peer.flags |= PD_PEER_HALF_CLOSED;
    pd_peer_watch(&frames->clients[number].peer, frames->epoll_fd, number);
    pd_post_tell(&frames->post, &news, sizeof news, NULL, 0);
}

/* One read, thrown away; it is read again a grid period later. */
static void receive(struct pd_frames *frames, uint32_t number)
{
    struct pd_frames_client *client = &frames->clients[number];
    struct pd_peer *peer = &client->peer;
    const uint32_t opening = client->opening_bytes;
    ssize_t got = opening < sizeof MAGIC
                      ? recv(peer->fd, client->opening + opening, sizeof MAGIC - opening, MSG_DONTWAIT)
                      : recv(peer->fd, frames->in, sizeof frames->in, MSG_DONTWAIT);
    if (got < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            leave(frames, number, PD_FRAMES_GONE, 0);
        return;
    }
    if (got == 0) {
        half_close(frames, number);
        return;
    }
    if (opening < sizeof MAGIC) {
        client->opening_bytes += (uint32_t)got;
        if (memcmp(client->opening, MAGIC, client->opening_bytes)) {
            leave(frames, number, PD_FRAMES_NOT_OURS, client->cursor);
            return;
        }
    }
    if (frames->n_slowed == 0) frames->slowed_until_ns = clock_of(frames) + PD_GRID_NS;
    set_flag(frames, number, PD_PEER_SLOWED, 1);
    pd_peer_watch(peer, frames->epoll_fd, number);
}

static void read_again(struct pd_frames *frames)
{
    if (frames->n_slowed == 0 || clock_of(frames) < frames->slowed_until_ns) return;
    for (uint32_t i = 0; i < frames->n_used; i++) {
        struct pd_peer *peer = &frames->clients[i].peer;
        if (peer->fd < 0 || !(peer->flags & PD_PEER_SLOWED)) continue;
        set_flag(frames, i, PD_PEER_SLOWED, 0);
        pd_peer_watch(peer, frames->epoll_fd, i);
    }
}

/* -- frames --------------------------------------------------------------------------------- */

static void count(_Atomic uint64_t *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* The oldest frame goes, and who has not had it loses it. */
static void forget_oldest(struct pd_frames *frames)
{
    for (uint32_t i = 0; frames->n_blocked && i < frames->n_used; i++) {
        struct pd_frames_client *client = &frames->clients[i];
        if (client->peer.fd < 0 || client->cursor != frames->base) continue;
        client->cursor++;
        count(&frames->dropped);
    }
    frames->base++;
}

static void append(struct pd_frames *frames, const struct pd_grid *frame, int64_t now_ns)
{
    if (frames->head - frames->base == PD_FRAMES_HISTORY) {
        if (frames->flushed == frames->base) flush(frames);
        forget_oldest(frames);
    }
    pd_grid_encode(frame, frames->next, frames->n_channels, now_ns, frames->deadline_ns,
                   (uint8_t *)(uintptr_t)slot_of(frames, frames->head));
    frames->head++;
    count(&frames->published);
    atomic_store_explicit(&frames->newest_ns, frame->t_ns, memory_order_relaxed);
    if (frames->lateness) pd_hist_add(frames->lateness, now_ns - frame->due_ns);
}

static void publish(struct pd_frames *frames, uint64_t until)
{
    const struct pd_grid *frame = (const struct pd_grid *)frames->frame;
    const int64_t now_ns = clock_of(frames);
    while (frames->next < until) {
        uint64_t oldest = pd_ring_oldest(frames->grid);
        if (frames->next < oldest) frames->next = oldest;
        /* One that was overtaken by the tick is left out: the indices tell. */
        if (frames->next < until && pd_ring_read(frames->grid, frames->next, frames->frame) == 0)
            append(frames, frame, now_ns);
        frames->next++;
    }
    if (frames->flushed != frames->head) flush(frames);
}

/* All that the tick has made, and that is not held. */
static void publish_new(struct pd_frames *frames)
{
    if (frames->grid == NULL) return;
    uint64_t until = pd_ring_next(frames->grid);
    if (frames->next < until && !atomic_load(&frames->held)) publish(frames, until);
}

/* -- orders --------------------------------------------------------------------------------- */

static void end_all(struct pd_frames *frames)
{
    for (uint32_t i = 0; i < frames->n_used; i++)
        if (frames->clients[i].peer.fd >= 0) leave(frames, i, PD_FRAMES_ENDED, frames->head);
}

static void switch_grid(struct pd_frames *frames, const struct pd_frames_command *order,
                        const uint8_t *header)
{
    const uint64_t first = (uint64_t)order->value;
    if (frames->grid) publish(frames, first);
    end_all(frames);
    frames->grid = order->grid;
    frames->n_channels = order->grid->words - PD_GRID_WORDS(0);
    frames->frame_bytes = PD_FRAME_BYTES(frames->n_channels);
    frames->header_bytes = order->bytes;
    memcpy(frames->header, header, order->bytes);
    frames->next = first;
    frames->base = frames->flushed = frames->head;
    atomic_store(&frames->held, 0);
}

static void join(struct pd_frames *frames, const struct pd_frames_command *order)
{
    const uint32_t number = order->connection;
    struct pd_frames_client *client = &frames->clients[number];
    const int64_t wall_offset_ns = pd_time_wall_offset();
    uint64_t oldest = pd_ring_oldest(frames->grid);
    if (frames->next < oldest) frames->next = oldest;
    client->cursor = frames->head;
    client->opening_bytes = 0;
    if (number >= frames->n_used) frames->n_used = number + 1;
    if (pd_peer_join(&client->peer, (int)order->value, frames->out + (size_t)number * PD_FRAMES_OUT_BYTES,
                     PD_FRAMES_OUT_BYTES, frames->epoll_fd, number)) {
        leave(frames, number, PD_FRAMES_GONE, 0);
        return;
    }
    memcpy(frames->header + WALL_OFFSET_AT, &wall_offset_ns, sizeof wall_offset_ns);
    memcpy(frames->header + FIRST_INDEX_AT, &frames->next, sizeof frames->next);
    pd_peer_put(&client->peer, frames->header, frames->header_bytes);
    give(frames, number);
}

static void obey(struct pd_frames *frames, const struct pd_frames_command *order,
                 const uint8_t *message)
{
    const uint32_t number = order->connection;
    switch (order->what) {
    case PD_FRAMES_SWITCH: switch_grid(frames, order, message); break;
    case PD_FRAMES_JOIN: join(frames, order); break;
    case PD_FRAMES_END:
        if (number < frames->n_used && frames->clients[number].peer.fd >= 0)
            leave(frames, number, PD_FRAMES_ENDED, 0);
        break;
    case PD_FRAMES_END_ALL:
        publish_new(frames);
        end_all(frames);
        break;
    case PD_FRAMES_TICKET: {
        struct pd_frames_news news = { .what = PD_FRAMES_DONE, .value = order->value };
        pd_post_tell(&frames->post, &news, sizeof news, NULL, 0);
        break;
    }
    default: break;
    }
}

static void take_orders(struct pd_frames *frames)
{
    struct pd_frames_command order;
    pd_post_read(&frames->post);
    while (pd_spsc_take(frames->post.orders, frames->order, sizeof frames->order) > 0) {
        memcpy(&order, frames->order, sizeof order);
        obey(frames, &order, frames->order + sizeof order);
        publish_new(frames);
    }
}

/* -- the round ------------------------------------------------------------------------------ */

static void serve_client(struct pd_frames *frames, uint32_t number, uint32_t what)
{
    const struct pd_peer *peer = &frames->clients[number].peer;
    if (peer->fd >= 0 && what & EPOLLOUT) give(frames, number);
    if (peer->fd >= 0 && what & EPOLLIN) receive(frames, number);
    if (peer->fd >= 0 && what & (EPOLLERR | EPOLLHUP)) leave(frames, number, PD_FRAMES_GONE, 0);
}

/* The tick, then sockets, then orders: a number that an order gives to somebody else
 * must have no event of the one before it to come. */
static void serve_ready(struct pd_frames *frames, const struct epoll_event *ready, int n)
{
    uint64_t times;
    int ordered = 0;
    for (int i = 0; i < n; i++) {
        if (ready[i].data.u32 == WAKE) ordered = 1;
        if (ready[i].data.u32 != TICK) continue;
        if (read(frames->tick_fd, &times, sizeof times) < 0) continue;
        publish_new(frames);
        if (times >= OTHER || frames->next > atomic_load(&frames->loop_from))
            pd_post_ring(frames->loop_fd);
    }
    for (int i = 0; i < n; i++) {
        if (ready[i].data.u32 >= TICK) continue;
        serve_client(frames, ready[i].data.u32, ready[i].events);
        publish_new(frames);
    }
    if (ordered) take_orders(frames);
    read_again(frames);
    pd_post_notify(&frames->post);
}

void pd_frames_step(struct pd_frames *frames, int64_t now_ns)
{
    struct epoll_event ready[READY];
    int n;
    frames->virtual_ns = now_ns;
    publish_new(frames);
    while ((n = epoll_wait(frames->epoll_fd, ready, READY, 0)) > 0) serve_ready(frames, ready, n);
    read_again(frames);
}

static void *run(void *argument)
{
    struct pd_frames *frames = argument;
    struct epoll_event ready[READY];
    if (frames->priority > 0)
        atomic_store_explicit(&frames->promote_error,
                              -pd_thread_promote(frames->priority, frames->cpu), memory_order_relaxed);
    pd_thread_touch_stack(PD_FRAMES_STACK / 2);
    while (!atomic_load_explicit(&frames->stop, memory_order_acquire)) {
        const int rest_ms = frames->n_slowed ? (int)(PD_GRID_NS / PD_NS_PER_MS) + 1 : -1;
        int n = epoll_wait(frames->epoll_fd, ready, READY, rest_ms);
        if (n < 0 && errno != EINTR) break;
        serve_ready(frames, ready, n);
    }
    return NULL;
}

int pd_frames_start(struct pd_frames *frames, int priority, int cpu)
{
    pthread_attr_t attr;
    frames->priority = priority;
    frames->cpu = cpu;
    frames->virtual_ns = PD_NO_TIME;
    atomic_store(&frames->stop, 0);
    int rc = pthread_attr_init(&attr);
    if (rc) return -rc;
    if (frames->stack) rc = pthread_attr_setstack(&attr, frames->stack, PD_FRAMES_STACK);
    if (rc == 0) rc = pthread_create(&frames->thread, &attr, run, frames);
    pthread_attr_destroy(&attr);
    return -rc;
}

void pd_frames_stop(struct pd_frames *frames)
{
    atomic_store_explicit(&frames->stop, 1, memory_order_release);
    pd_post_wake(&frames->post);
    pthread_join(frames->thread, NULL);
}
