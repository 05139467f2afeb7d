"""Tools for a laptop: the PBX simulator, the function host, the demonstration and the benchmarks."""
