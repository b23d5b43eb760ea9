"""The page of all commands, made from their parsers, so that it can't go stale.

``python -m scripts.commands_page docs/commands.md`` writes it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

from hpcnn.__main__ import COMMANDS, main
from hpcnn.job.reference import as_text
from hpcnn.system.atomic import write_text

INTRODUCTION = """# Commands

This page is made from the code, and says what `--help` says. Each command can be called as `hpcnn NAME` and as
`python -m hpcnn.NAME` (with `_` for `-`); those that compute also run on many ranks, as in `mpirun -n 4 hpcnn train`.
All keys of a job file are listed in [settings](settings.md).
"""


def parsers() -> Iterator[argparse.ArgumentParser]:
    """Yield the parser of every command, each followed by those of its actions."""
    for name in COMMANDS:
        parser = parser_of([name])
        yield parser
        for action in actions_of(parser):
            below = parser_of([name, action])
            if below.prog != parser.prog:
                yield below


def parser_of(words: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser that would print the help of a command."""
    asked: list[argparse.ArgumentParser] = []
    with patch.object(argparse.ArgumentParser, "print_help", lambda parser: asked.append(parser)), suppress(SystemExit):
        main([*words, "--help"])
    return asked[0]


def actions_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return what the first word after the command may be, if it is one of a few."""
    return [str(choice) for one in parser._actions if not one.option_strings for choice in one.choices or ()]


def as_markdown(parser: argparse.ArgumentParser) -> str:
    """Return a heading, what the command is for, an example, and a table of its arguments."""
    level = "#" * len(parser.prog.split())
    lines = [f"{level} {parser.prog}", "", *filter(None, [" ".join((parser.description or "").split()), ""])]
    example, _, rest = (parser.epilog or "").replace(as_text(), "").partition("\n\n")
    if example:
        lines += ["", "```text", example.removeprefix("example:\n").strip(), "```", ""]
    lines += ["| argument | |", "|---|---|"]
    arguments = [one for one in parser._actions if one.dest not in ("help", "version")]
    lines += [f"| `{names(one)}` | {help_of(parser, one)} |" for one in arguments]
    if rest.strip():
        lines += ["", "```text", rest.strip(), "```"]
    return "\n".join([*lines, ""])


def names(action: argparse.Action) -> str:
    """Return how an argument is written, with its value. Within code, no bar can be told from the end of a cell."""
    choices = "|".join(map(str, action.choices or ()))
    value = str(action.metavar or choices or action.dest.upper()).replace("|", " or ")
    flags = ", ".join(action.option_strings)
    return f"{flags} {value}".strip() if action.nargs != 0 else flags


def help_of(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return what an argument does; for a choice of actions, what each of them does."""
    if isinstance(action, argparse._SubParsersAction):
        return escaped("; ".join(f"`{one.dest}`: {one.help}" for one in action._choices_actions))
    return escaped((action.help or "") % {"prog": parser.prog})


def escaped(text: str) -> str:
    """Return a text that neither ends the cell of a table nor begins a tag of HTML."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def page() -> str:
    """Return the whole page."""
    return "\n".join([INTRODUCTION, *map(as_markdown, parsers())])


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), page())
