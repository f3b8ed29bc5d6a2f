"""Lines of text for people: wrapped and coloured on a terminal, one fact a line anywhere else."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


class Lines:
    """Writes to a console; what it is given may be anybody's, and is only ever read."""

    def __init__(self, console: Console) -> None:
        """Take the console: rich sees to NO_COLOR and to what is no terminal."""
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
        """A text that wraps on a terminal, under its own beginning."""
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
    """The text in one line, without what a terminal would take for a command."""
    return "".join(each if each.isprintable() else _ESCAPES.get(each, "�") for each in text)


_ESCAPES = {"\n": "⏎", "\t": " "}
