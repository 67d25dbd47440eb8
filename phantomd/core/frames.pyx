"""Port 7069's thread. See frames.pyi."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cython cimport no_gc_clear
from libc.errno cimport ENOSPC
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

import os

from phantomd.core.block cimport munmap, pages
from phantomd.core.hist cimport Histogram
from phantomd.core.ring cimport Ring

HISTORY = PD_FRAMES_HISTORY
ORDERS = {"switch": 1, "join": 2, "end": 3, "end-all": 4, "ticket": 5}
TELLS = ("", "left", "half", "done")
LEFT = ("gone", "ended", "not-ours")
ORDERS_BYTES = 1 << 17


cdef inline size_t whole_pages(size_t size) noexcept nogil:
    return (size + 4095) // 4096 * 4096


@no_gc_clear                        # its thread may be running until it goes
cdef class Frames:
    def __cinit__(self, uint32_t max_clients, *, int64_t deadline_ns, int notify_fd=-1,
                  int loop_fd=-1, Histogram lateness=None):
        cdef pd_frames_config config
        cdef size_t structure = whole_pages(sizeof(pd_frames))
        cdef size_t out_bytes = <size_t>max_clients * PD_FRAMES_OUT_BYTES
        cdef uint32_t news_bytes = pd_frames_news_bytes(max_clients)
        cdef int rc
        if not max_clients or not news_bytes:
            raise ValueError(f"a port has no room for {max_clients} clients")
        self.grids = []
        self.lateness = lateness
        self.memory_bytes = PD_FRAMES_STACK + structure + max_clients * sizeof(pd_frames_client)
        self.memory = pages(self.memory_bytes, &self.memory_error)
        # calloc: a page that was never used takes no memory.
        self.own = <uint8_t *>calloc(1, out_bytes + PD_FRAMES_REST_BYTES + news_bytes
                                     + <size_t>ORDERS_BYTES)
        self.taken = <uint8_t *>calloc(1, sizeof(pd_frames_news) + PD_FRAMES_REST_BYTES)
        if self.memory == NULL or self.own == NULL or self.taken == NULL:
            raise MemoryError
        self.frames = <pd_frames *>(<char *>self.memory + PD_FRAMES_STACK)
        memset(&config, 0, sizeof(config))
        config.clients = <pd_frames_client *>(<char *>self.frames + structure)
        config.max_clients = max_clients
        config.out = self.own
        config.rest = self.own + out_bytes
        config.orders, config.news = &self.orders, &self.news
        config.notify_fd, config.loop_fd = notify_fd, loop_fd
        config.deadline_ns = deadline_ns
        if lateness is not None:
            config.lateness = lateness.hist
        pd_spsc_init(&self.news, config.rest + PD_FRAMES_REST_BYTES, news_bytes)
        pd_spsc_init(&self.orders, config.rest + PD_FRAMES_REST_BYTES + news_bytes, ORDERS_BYTES)
        rc = pd_frames_init(self.frames, &config)
        if rc:
            self.frames = NULL
            raise OSError(-rc, os.strerror(-rc))
        self.frames.stack = self.memory

    def __dealloc__(self):
        if self.running:
            with nogil:
                pd_frames_stop(self.frames)
        if self.frames != NULL:
            pd_frames_close(self.frames)
        if self.memory != NULL:
            munmap(self.memory, self.memory_bytes)
        free(self.own)
        free(self.taken)

    def order(self, what, *, uint32_t connection=0, int64_t value=0, Ring grid=None,
              bytes message=b""):
        cdef pd_frames_command order
        cdef uint32_t n_channels
        memset(&order, 0, sizeof(order))
        order.what = ORDERS[what]
        order.connection = connection
        order.value = value
        order.bytes = len(message)
        if order.what == PD_FRAMES_SWITCH:
            n_channels = grid.ring.words - PD_GRID_WORDS(0)
            if not 0 < n_channels <= PD_MAX_VALUES or \
                    order.bytes != PD_FRAMES_HEADER_BYTES(n_channels):
                raise ValueError(f"{order.bytes} bytes are no header of {n_channels} channels")
            order.grid = &grid.ring
        cdef int rc = pd_frames_order(self.frames, &order, <const char *>message)
        if rc == -ENOSPC:
            return False
        if rc:
            raise OSError(-rc, os.strerror(-rc))
        if grid is not None:
            self.grids.append(grid)
        return True

    def forget(self, Ring grid not None):
        self.grids.remove(grid)

    def hold(self):
        pd_frames_hold(self.frames)

    def let_go(self):
        pd_frames_let_go(self.frames)

    def loop_from(self, uint64_t index):
        pd_frames_loop_from(self.frames, index)

    def take_news(self, uint32_t most=4096):
        cdef pd_frames_news news
        out = []
        while len(out) < most and pd_spsc_take(
                &self.news, self.taken, sizeof(pd_frames_news) + PD_FRAMES_REST_BYTES) > 0:
            memcpy(&news, self.taken, sizeof(news))
            out.append((TELLS[news.what], news.connection, LEFT[news.code], news.value,
                        PyBytes_FromStringAndSize(<char *>self.taken + sizeof(news), news.bytes)))
        return out

    def step(self, int64_t now_ns):
        if self.running:
            raise RuntimeError("the thread is running")
        with nogil:
            pd_frames_step(self.frames, now_ns)

    def start(self, int priority=0, int cpu=-1):
        cdef int64_t locked = pd_text_lock()
        if locked < 0 and not self.memory_error:
            self.memory_error = -locked
        cdef int rc = pd_frames_start(self.frames, priority, cpu)
        if rc:
            raise OSError(-rc, os.strerror(-rc))
        self.running = True

    def stop(self):
        if self.running:
            with nogil:
                pd_frames_stop(self.frames)
            self.running = False

    @property
    def tick_fd(self):
        return self.frames.tick_fd

    @property
    def lock_error(self):
        return self.memory_error

    @property
    def promote_error(self):
        return self.frames.promote_error

    @property
    def published(self):
        return self.frames.published

    @property
    def dropped(self):
        return self.frames.dropped

    @property
    def newest_ns(self):
        cdef int64_t newest_ns = self.frames.newest_ns
        return None if newest_ns == PD_NO_TIME else newest_ns
