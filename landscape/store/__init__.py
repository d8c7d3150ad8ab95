"""What a run leaves on disk: measurements, a checkpoint and a status, each safe against a kill at any instant."""

from __future__ import annotations

from landscape.store.folder import Folder, RunProgress
from landscape.store.manifest import describe
from landscape.store.runs import RunStore

__all__ = ["Folder", "RunProgress", "RunStore", "describe"]
