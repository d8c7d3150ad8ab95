"""The real command with a checkpoint after every step, so that a kill at any instant has one to go on from.

As a program: ``often_saving.py run FILE.toml ...``. As a module: what the command's worker processes train with.
"""

from __future__ import annotations

from pathlib import Path

from landscape import training


def train(run, store, *, data_dir, **others):
    """The real training; notes in ``data_dir`` which step each attempt goes on from."""
    training.CHECKPOINT_SECONDS = 0.0
    state = store.load_checkpoint()
    with open(Path(data_dir, "attempts"), "a") as out:
        out.write(f"{run.key} {0 if state is None else state['step']}\n")
    training.train(run, store, data_dir=data_dir, **others)


if __name__ == "__main__":
    from landscape.execution import execute
    from landscape_cli.main import main

    assert execute.__kwdefaults__ is not None
    execute.__kwdefaults__["target"] = "often_saving:train"
    main(prog_name="landscape")
