"""A simulator of the PBX for tests and for a laptop: its API, its audio, its webhooks, and its faults."""

from dev.simulator.audio import AudioFile
from dev.simulator.calls import Call
from dev.simulator.faults import Fault
from dev.simulator.process import SimulatorProcess
from dev.simulator.simulator import Simulator
from dev.simulator.wire import Options

__all__ = ["AudioFile", "Call", "Fault", "Options", "Simulator", "SimulatorProcess"]
