"""Headsets and what stands in for them: one file a device, one line in the registry."""
