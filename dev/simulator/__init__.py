"""A simulator of the PBX: its API, its audio, its webhooks, and its faults."""

from dev.simulator.audio import AudioFile
from dev.simulator.simulator import Simulator, SimulatorProcess

__all__ = ["AudioFile", "Simulator", "SimulatorProcess"]
