"""Cyton packets: encoder, parser, driver. See cyton.pyi."""

from cython cimport no_gc_clear
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from phantomd.core.intake cimport Driver, Intake

import numpy as np

PACKET_BYTES = PD_CYTON_BYTES
N_CHANNELS = PD_CYTON_CHANNELS
MAX_CHANNELS = PD_CYTON_MAX_CHANNELS
AUX = {"accel": PD_CYTON_ACCEL, "analog": PD_CYTON_ANALOG, "digital": PD_CYTON_DIGITAL,
       "marker": PD_CYTON_MARKER}
N_AUX = pd_cyton_n_aux(PD_CYTON_ACCEL)

PACKET = np.dtype({
    "names": ["counter", "stop", "count", "aux", "junk_before"],
    "formats": ["u1", "u1", ("i4", 8), ("u1", 6), "u4"],
    "offsets": [0, 1, 4, 36, 44],
    "itemsize": sizeof(pd_cyton_packet),
})


def n_aux(str aux):
    return pd_cyton_n_aux(AUX[aux])


def uv_per_count(double gain):
    return pd_cyton_uv_per_count(gain)


UV_PER_COUNT = uv_per_count(24)


def encode(const uint8_t[::1] counters, const int32_t[:, ::1] counts,
           const uint8_t[:, ::1] aux=None, uint8_t stop=0xC0):
    cdef Py_ssize_t n = counters.shape[0], i, c
    if counts.shape[0] != n or counts.shape[1] != PD_CYTON_CHANNELS:
        raise ValueError(f"counts must be {n} × {PD_CYTON_CHANNELS}")
    if aux is not None and (aux.shape[0] != n or aux.shape[1] != 6):
        raise ValueError(f"aux must be {n} × 6")
    cdef bint with_aux = aux is not None
    out = np.empty((n, PD_CYTON_BYTES), np.uint8)
    cdef uint8_t[:, ::1] bytes_out = out
    cdef pd_cyton_packet packet
    with nogil:
        packet.stop = stop
        packet.junk_before = 0
        for c in range(6):
            packet.aux[c] = 0
        for i in range(n):
            packet.counter = counters[i]
            for c in range(PD_CYTON_CHANNELS):
                packet.count[c] = counts[i, c]
            if with_aux:
                for c in range(6):
                    packet.aux[c] = aux[i, c]
            pd_cyton_encode(&packet, &bytes_out[i, 0])
    return out.tobytes()


cdef class Parser:
    def __init__(self):
        pd_cyton_parser_init(&self.parser)

    def feed(self, const uint8_t[::1] data):
        cdef size_t n = data.shape[0], found, used = 0
        out = np.zeros(n // PD_CYTON_BYTES + 5, PACKET)
        cdef uint8_t[::1] room = out.view(np.uint8)
        with nogil:
            found = pd_cyton_parse(&self.parser, &data[0] if n else NULL, n,
                                   <pd_cyton_packet *>&room[0],
                                   room.shape[0] // sizeof(pd_cyton_packet), &used)
        return out[:found]

    @property
    def synced(self):
        return bool(self.parser.synced)

    @property
    def junk(self):
        return self.parser.junk

    @property
    def n_pending(self):
        return self.parser.n_pending


@no_gc_clear                        # its pump may be running until it goes
cdef class CytonDriver(Driver):
    def __init__(self, Intake intake not None, gains=(24.0,) * 8, str aux="accel"):
        cdef double gain[PD_CYTON_MAX_CHANNELS]
        cdef Py_ssize_t c
        cdef uint32_t n = len(gains), modulus
        if n != PD_CYTON_CHANNELS and n != PD_CYTON_MAX_CHANNELS:
            raise ValueError(f"a Cyton has 8 gains, 16 with its Daisy, not {n}")
        if aux not in AUX:
            raise ValueError(f"aux is one of {', '.join(AUX)}, not {aux}")
        for c in range(n):
            gain[c] = gains[c]
            if not gain[c] > 0:
                raise ValueError(f"a gain must be positive, not {gain[c]}")
        modulus = 256 if n == PD_CYTON_CHANNELS else 128
        if intake.modulus != modulus or intake.n_values != n + n_aux(aux):
            raise ValueError(f"this Cyton's intake has modulus {modulus} and {n + n_aux(aux)} values")
        self.intake = intake
        self.form = (tuple(gains), aux)
        pd_cyton_driver_init(&self.cyton, &intake.intake, n, gain, AUX[aux])
        self.driver.self = &self.cyton
        self.driver.intake = &intake.intake
        self.driver.feed = pd_cyton_feed
        self.driver.advance = NULL
        self.driver.reset = pd_cyton_reset
        self.driver.state = &self.cyton.state
        self.driver.state_bytes = sizeof(pd_cyton_state)

    @property
    def synced(self):
        return bool(self.cyton.state.parser.synced)
