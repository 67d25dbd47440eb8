"""Histogram of durations. See hist.pyi."""

from libc.stdint cimport int64_t


cdef class Histogram:
    def __init__(self, int64_t deadline_ns):
        pd_hist_init(&self.own, deadline_ns)
        self.hist = &self.own

    @staticmethod
    cdef Histogram view(pd_hist *hist, object owner):
        cdef Histogram self = Histogram.__new__(Histogram)
        self.hist = hist
        self.owner = owner
        return self

    def add(self, int64_t ns):
        pd_hist_add(self.hist, ns)

    def quantile(self, double q):
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile lies in 0..1, not at {q}")
        return pd_hist_quantile(self.hist, q)

    @property
    def count(self):
        return self.hist.count

    @property
    def missed(self):
        return self.hist.missed

    @property
    def max_ns(self):
        return self.hist.max_ns

    @property
    def deadline_ns(self):
        return self.hist.deadline_ns


cdef class Window:
    def __init__(self, Histogram histogram not None):
        self.histogram = histogram
        pd_hist_init(&self.before, histogram.hist.deadline_ns)
        self.take()

    def take(self):
        cdef Histogram since = Histogram(self.histogram.hist.deadline_ns)
        pd_hist_since(self.histogram.hist, &self.before, &since.own)
        return since
