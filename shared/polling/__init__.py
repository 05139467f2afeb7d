"""Polls of the PBX's lists on a schedule, and their checkpoints; nothing here serves callers."""
