"""Frameworks that energyprof can follow: one file each. None attaches itself, and none is imported unasked."""
