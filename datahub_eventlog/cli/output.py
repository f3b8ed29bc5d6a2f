"""How the commands print: text that wraps and has colours on a terminal only, and JSON."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from datahub_eventlog.values import AssetKey

EXAMPLE_RUN = "5f0f5e1c-1111-4222-8333-0123456789ab"


def examples(*commands: str) -> str:
    """The end of a command's help."""
    lines = "".join(f"  datahub-eventlog {command}\n" for command in commands)
    return f"\b\nExamples:\n{lines}"


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2))


def asset_key(_context: click.Context, _parameter: click.Parameter, text: str) -> AssetKey:
    """A callback of click: the parts of a key as the UI shows it, such as `sales/orders`."""
    key = tuple(part.strip() for part in text.split("/"))
    if not all(key):
        raise click.BadParameter(f"{text!r}: expected parts joined by /, as in sales/orders")
    return key


class Lines:
    """Lines of text on a console; nothing in them is taken for markup or control characters."""

    def __init__(self, console: Console) -> None:
        """Take a console; rich handles NO_COLOR and output that is no terminal."""
        self._console = console
        self._is_first = True

    def title(self, text: str, style: str = "bold") -> None:
        """A heading, with an empty line before it."""
        if not self._is_first:
            self._console.print()
        self._is_first = False
        self.whole(text, indent=0, style=style)

    def whole(self, text: str, indent: int = 2, style: str = "") -> None:
        """A line that is never broken, so that it can be copied and searched for."""
        shown = Text(" " * indent + printable(text), style=style)
        self._console.print(shown, soft_wrap=True)

    def paragraph(self, text: str, indent: int, style: str = "") -> None:
        """A text that wraps on a terminal, with its lines aligned."""
        if not self._console.is_terminal:
            self.whole(text, indent, style)
            return
        room = max(20, self._console.width - indent)
        shown = Text(printable(text), style=style, overflow="fold")
        self._console.print(Padding(shown, (0, 0, 0, indent)), width=room + indent)

    def pair(self, name: str, text: str, width: int, style: str = "") -> None:
        """A name in a column of that width, and what belongs to it beside it."""
        if not self._console.is_terminal:
            self.whole(f"{printable(name):<{width}}{text}")
            return
        table = Table.grid()
        table.add_column(width=width + 2, overflow="fold")
        table.add_column(overflow="fold")
        table.add_row(Text(f"  {printable(name)}", style=style), Text(printable(text)))
        self._console.print(table)


def printable(text: str) -> str:
    """The text in one line, without control characters."""
    return "".join(letter if letter.isprintable() else _ESCAPES.get(letter, "�") for letter in text)


_ESCAPES = {"\n": "⏎", "\t": " "}
