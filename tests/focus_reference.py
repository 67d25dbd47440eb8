"""The specification's own Python for focus, mended: ``fs=`` and ``np.trapezoid``."""

import numpy as np
from scipy.signal import welch


def band_power(s, fs, band):
    freqs, psd = welch(s, fs=fs, nperseg=min(len(s), 64))
    idx = np.logical_and(freqs >= band[0], freqs <= band[1])
    return float(np.trapezoid(psd[idx], freqs[idx]))


def compute_focus(window, fs=128.0):
    """specs: [8 channels, 128 samples] → focus, or None."""
    ratios = []
    for channel in window:
        beta = band_power(channel, fs, (13.0, 30.0))
        alpha = band_power(channel, fs, (8.0, 12.0))
        if alpha > 0:
            ratios.append(beta / alpha)
    if not ratios:
        return None
    return float(1.0 / (1.0 + np.exp(-2.0 * (np.mean(ratios) - 1.0))))
