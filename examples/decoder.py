"""A decoder's whole program: what comes out of the headset, as it comes."""

from phantomd.client import connect

with connect("eeg") as eeg:
    for frame in eeg:
        print(frame.index, frame.t_ns, frame.flags, frame.values)
