"""Counting what is asked of storage."""

from dev.bench.spending import counted

__all__ = ["counted"]
