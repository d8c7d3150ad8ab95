"""Run a grid of trainings: each in a fresh process, retried from its checkpoint if the process dies."""

from __future__ import annotations

from landscape.execution.events import Event, Outcome, endings
from landscape.execution.slots import available_cpus, execute
from landscape.execution.start import prepare

__all__ = ["Event", "Outcome", "available_cpus", "endings", "execute", "prepare"]
