"""Frames: columnar batches of commands and outcomes, the unit of everything that costs."""
