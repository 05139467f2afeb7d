"""What runs on a laptop only: the PBX simulator, the function host, the demonstration and the benchmarks."""
