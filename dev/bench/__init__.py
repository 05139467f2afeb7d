"""Benchmarks. Most figures are ratios to a limit that is measured in the same run, on the same host and emulator."""
