"""Write docs/command-line.md from the commands themselves: python docs/command_line.py."""

from __future__ import annotations

import inspect
from pathlib import Path

import click

from landscape_cli.main import main

PAGE = Path(__file__).with_name("command-line.md")
HEAD = """\
# The command line

This page is written by `python docs/command_line.py` from the commands themselves; `landscape COMMAND --help` says the
same.

| exit code | means |
|---|---|
| 0 | done |
| 1 | a run failed (the others are kept), a file can't be read or written, data is missing |
| 2 | bad usage: an unknown name, a wrong value, a folder that holds something else |
| 130 | stopped with Ctrl-C; nothing is lost |

An error is a few plain lines: what, where, why, what to do. `--debug`, or `LANDSCAPE_DEBUG=1` in the environment, shows
its traceback. Results go to standard output, progress and notes to standard error. Tables are ruled in a terminal and
tab-separated in a pipe.
"""


def page() -> str:
    """The whole page."""
    context = click.Context(main, info_name="landscape")
    sections = []
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        sections.append(_command(command, click.Context(command, parent=context, info_name=name)))
    return "\n".join([HEAD, *sections])


def _command(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## {context.command_path}", f"    {usage}", _text(command.help or "")]
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    rows = [_row(option, context) for option in options]
    rows += ["| `-h`, `--help` | Show this message and exit. |"]
    parts.append("\n".join(["| option | |", "|---|---|", *rows]))
    if command.epilog:
        parts.append("\n".join(f"    {line}".rstrip() for line in _text(command.epilog).splitlines()))
    return "\n\n".join(parts) + "\n"


def _row(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    assert record is not None, option
    names, text = record
    spelled = ", ".join(f"`{name}`" for name in names.split(", "))
    return f"| {spelled} | {' '.join(text.split())} |".replace("FILE|", r"FILE\|")


def _text(text: str) -> str:
    return inspect.cleandoc(text.replace("\b\n", "").replace("\b", ""))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
