from libc.math cimport floor

import numpy as np


cdef class Resampler:

    def __cinit__(self, table, int ahead):
        rows = np.array(table, dtype=np.float64, order="C")
        if rows.ndim != 2 or rows.shape[0] < 2:
            raise ValueError(f"table has shape {rows.shape}, not (phases + 1, taps)")
        if not 1 <= rows.shape[1] <= PD_RESAMPLE_MAX_TAPS:
            raise ValueError(f"{rows.shape[1]} taps, not 1 to {PD_RESAMPLE_MAX_TAPS}")
        rows.flags.writeable = False
        self.rows = rows
        self.c.table = &self.rows[0, 0]
        self.c.phases = <uint32_t>(rows.shape[0] - 1)
        self.c.taps = <uint32_t>rows.shape[1]
        self.c.ahead = ahead

    @property
    def ahead(self):
        return self.c.ahead

    @property
    def taps(self):
        return self.c.taps

    cdef Py_ssize_t first(self, double position) noexcept nogil:
        return <Py_ssize_t>floor(position) + self.c.ahead - <Py_ssize_t>self.c.taps + 1

    cdef bint reads(self, double position, Py_ssize_t n) noexcept nogil:
        """Compared as doubles: no position is too large, and NaN is outside."""
        cdef double newest = floor(position) + self.c.ahead
        return newest - self.c.taps + 1 >= 0 and newest <= n - 1

    def at(self, x, double position):
        return self.at_many(x, (position,))[0]

    def at_many(self, x, positions):
        cdef const double[:, ::1] samples = np.ascontiguousarray(x, dtype=np.float64)
        cdef const double[::1] places = np.ascontiguousarray(positions, dtype=np.float64)
        cdef Py_ssize_t n = samples.shape[0], channels = samples.shape[1], m = places.shape[0], i
        out = np.empty((m, channels))
        if channels == 0 or m == 0:
            return out
        cdef double[:, ::1] values = out
        cdef Py_ssize_t refused = -1
        with nogil:
            for i in range(m):
                if not self.reads(places[i], n):
                    refused = i
                    break
                pd_resample_at(&self.c, &samples[self.first(places[i]), 0], <uint32_t>channels,
                               <uint32_t>channels, places[i] - floor(places[i]), &values[i, 0])
        if refused >= 0:
            raise ValueError(
                f"position {places[refused]} reads outside the {n} samples: "
                f"it needs {self.c.taps}, up to {self.c.ahead} ahead"
            )
        return out

    def between(self, x, double fraction):
        cdef const double[:, ::1] samples = np.ascontiguousarray(x, dtype=np.float64)
        if samples.shape[0] != <Py_ssize_t>self.c.taps or not 0 <= fraction < 1:
            raise ValueError(f"{self.c.taps} samples, not {samples.shape[0]}, and a fraction in "
                             f"[0, 1), not {fraction}")
        out = np.empty(samples.shape[1])
        cdef double[::1] values = out
        cdef uint32_t channels = <uint32_t>samples.shape[1]
        if channels:
            with nogil:
                pd_resample_at(&self.c, &samples[0, 0], channels, channels, fraction, &values[0])
        return out
