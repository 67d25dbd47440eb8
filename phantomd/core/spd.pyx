"""Symmetric positive definite matrices. See spd.pyi."""

from libc.errno cimport EDOM, EINVAL, ERANGE
from libc.stdint cimport uint32_t

import numpy as np

from phantomd.core.block cimport aligned

_KINDS = {"sample": PD_SPD_SAMPLE, "ledoit-wolf": PD_SPD_LEDOIT_WOLF, "oas": PD_SPD_OAS,
          "fixed": PD_SPD_FIXED}
_REASONS = {-EINVAL: "no symmetric matrix of finite numbers", -EDOM: "not positive definite",
            -ERANGE: "no convergence or too large"}


cdef class Spd:

    def __cinit__(self, n):
        if not 1 <= n <= PD_SPD_MAX:
            raise ValueError(f"matrices of {n} rows, not 1 to {PD_SPD_MAX}")
        self.n = n
        self.work = aligned(pd_spd_work(n) * sizeof(double)).view(np.float64)
        self.reason = ""
        self.criterion = self.shrinkage = np.nan

    cdef int begin(self) except -1:
        if self.busy:
            raise RuntimeError("another thread is working with this object")
        self.busy = True
        return 0

    cdef object end(self, int rc, result):
        self.busy = False
        self.reason = _REASONS[rc] if rc else ""
        return result

    @property
    def defined(self):
        return not self.reason

    cdef const double[:, ::1] square(self, a):
        matrix = np.ascontiguousarray(a, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[0] != self.n or matrix.shape[1] != self.n:
            raise ValueError(f"a matrix of shape {matrix.shape}, not {(self.n, self.n)}")
        return matrix

    def distance(self, a, b):
        cdef const double[:, ::1] x = self.square(a), y = self.square(b)
        cdef double found
        cdef int rc
        self.begin()
        if self.n <= 12:                # a few µs: who gives the GIL away may wait for it
            rc = pd_spd_distance(&x[0, 0], &y[0, 0], self.n, &found, &self.work[0])
        else:
            with nogil:
                rc = pd_spd_distance(&x[0, 0], &y[0, 0], self.n, &found, &self.work[0])
        return self.end(rc, found)

    def eigen(self, a):
        cdef const double[:, ::1] x = self.square(a)
        values, vectors = np.empty(self.n), np.empty((self.n, self.n))
        cdef double[::1] v = values
        cdef double[:, ::1] u = vectors
        cdef int rc
        self.begin()
        with nogil:
            rc = pd_spd_eigen(&x[0, 0], self.n, &v[0], &u[0, 0], &self.work[0])
        return self.end(rc, (values, vectors.T))

    cdef object apply(self, int f, a):
        cdef const double[:, ::1] x = self.square(a)
        out = np.empty((self.n, self.n))
        cdef double[:, ::1] y = out
        cdef int rc
        self.begin()
        with nogil:
            rc = pd_spd_apply(f, &x[0, 0], self.n, &y[0, 0], &self.work[0])
        return self.end(rc, out)

    def sqrt(self, a):
        return self.apply(PD_SPD_SQRT, a)

    def invsqrt(self, a):
        return self.apply(PD_SPD_INVSQRT, a)

    def log(self, a):
        return self.apply(PD_SPD_LOG, a)

    def exp(self, a):
        return self.apply(PD_SPD_EXP, a)

    def mean(self, x, *, weights=None, double tolerance=1e-8, uint32_t most=50):
        matrices = np.ascontiguousarray(x, dtype=np.float64)
        if matrices.ndim != 3 or matrices.shape[0] == 0 or matrices.shape[1] != self.n \
                or matrices.shape[2] != self.n:
            raise ValueError(f"matrices of shape {matrices.shape}, not (m, {self.n}, {self.n})")
        cdef const double[:, :, ::1] all_x = matrices
        cdef const double[::1] w
        cdef const double *at = NULL
        if weights is not None:
            w = np.ascontiguousarray(weights, dtype=np.float64)
            if w.shape[0] != all_x.shape[0]:
                raise ValueError(f"{w.shape[0]} weights for {all_x.shape[0]} matrices")
            at = &w[0]
        out = np.empty((self.n, self.n))
        cdef double[:, ::1] y = out
        cdef uint32_t m = all_x.shape[0]
        cdef int rc
        self.begin()
        self.iterations, self.criterion = 0, np.nan
        with nogil:
            rc = pd_spd_mean(&all_x[0, 0, 0], m, self.n, at, tolerance, most, &y[0, 0],
                             &self.iterations, &self.criterion, &self.work[0])
        return self.end(rc, out)

    def tangent(self, x, reference):
        cdef const double[:, ::1] a = self.square(x), r = self.square(reference)
        out = np.empty(self.n * (self.n + 1) // 2)
        cdef double[::1] t = out
        cdef int rc
        self.begin()
        with nogil:
            rc = pd_spd_tangent(&a[0, 0], &r[0, 0], self.n, &t[0], &self.work[0])
        return self.end(rc, out)

    def untangent(self, t, reference):
        cdef const double[:, ::1] r = self.square(reference)
        cdef const double[::1] v = np.ascontiguousarray(t, dtype=np.float64)
        if v.shape[0] != self.n * (self.n + 1) // 2:
            raise ValueError(f"{v.shape[0]} values, not {self.n * (self.n + 1) // 2}")
        out = np.empty((self.n, self.n))
        cdef double[:, ::1] y = out
        cdef int rc
        self.begin()
        with nogil:
            rc = pd_spd_untangent(&v[0], &r[0, 0], self.n, &y[0, 0], &self.work[0])
        return self.end(rc, out)

    def covariance(self, x, *, kind="sample", shrinkage=None):
        if kind not in _KINDS:
            raise ValueError(f"kind is one of {', '.join(_KINDS)}, not {kind!r}")
        if (kind == "fixed") != (shrinkage is not None):
            raise ValueError("a shrinkage goes with kind='fixed', and with that alone")
        if shrinkage is not None and not 0 <= shrinkage <= 1:
            raise ValueError(f"a shrinkage of {shrinkage}, not 0 to 1")
        samples = np.ascontiguousarray(x, dtype=np.float64)
        if samples.ndim != 2 or samples.shape[1] != self.n:
            raise ValueError(f"samples of shape {samples.shape}, not (rows, {self.n})")
        cdef const double[:, ::1] rows = samples
        out = np.empty((self.n, self.n))
        cdef double[:, ::1] y = out
        cdef uint32_t count = rows.shape[0]
        cdef int chosen = _KINDS[kind], rc
        self.begin()
        self.shrinkage = np.nan if shrinkage is None else shrinkage
        with nogil:
            rc = pd_spd_covariance(chosen, &rows[0, 0] if count else NULL, self.n, count, self.n,
                                   &self.shrinkage, &y[0, 0], &self.work[0])
        return self.end(rc, out)
