"""The C core under thin Cython: each module converts, releases the GIL, and does nothing else."""

from phantomd.core.artifact import ArtifactDetector as ArtifactDetector
from phantomd.core.connectivity import Connectivity as Connectivity
from phantomd.core.connectivity import PhaseSynchrony as PhaseSynchrony
from phantomd.core.pll import PhaseTracker as PhaseTracker
from phantomd.core.sos import FilterBank as FilterBank
from phantomd.core.spd import Spd as Spd
from phantomd.core.spectrum import Spectrogram as Spectrogram
from phantomd.core.spectrum import Welch as Welch
from phantomd.core.spike import SpikeDetector as SpikeDetector
