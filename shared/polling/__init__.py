"""Polls of the PBX's lists on a schedule, and their checkpoints; serves no API requests."""
