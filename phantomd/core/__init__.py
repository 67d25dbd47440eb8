"""The C core under thin Cython: each module converts, releases the GIL, and does nothing else."""
