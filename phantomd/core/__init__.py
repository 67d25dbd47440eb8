"""The C core under thin Cython: each module converts, releases the GIL, and does nothing else."""

from phantomd.core.sos import FilterBank as FilterBank
