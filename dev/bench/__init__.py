"""Speed as ratios: each figure against a limit measured in the same run, on the same host and emulator."""
