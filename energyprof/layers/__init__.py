"""Joules per layer: timed in place while a program trains (`in_place`), or replayed alone (`replay`)."""
