"""A difference as Markdown for the comment of a pull request.

Whatever comes from the code or from DataHub stands in code spans: it is no Markdown, no HTML, and
notifies nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from datahub_eventlog.catalog.entries import (
    Detail,
    Entry,
    breaking_line,
    dependent_text,
    entries,
    headline,
)
from datahub_eventlog.cli.output import printable

if TYPE_CHECKING:
    from datahub_eventlog.cli.diff import Outcome

MAX_ROWS = 30
"""Of the table; all else is in the details."""
MAX_CHARACTERS = 60_000
"""GitHub takes comments of 65,536."""
MAX_NAME_CHARACTERS = 300
VERBS = {"+": "added", "-": "removed", "~": "changed"}
PLAIN = frozenset(" -./:,()=+→")
"""Letters beside those of words that mean nothing in Markdown and HTML."""


def markdown(outcome: Outcome) -> str:
    """The comment: a table of what happened, and everything in detail, folded."""
    found = outcome.difference
    all_entries = entries(found, outcome.impacts)
    breaking = f" — **{breaking_line(found)}**" if found.breaking else ""
    lines = ["### Data catalogue", "", f"{headline(found)}{breaking}"]
    if all_entries:
        lines += ["", "| | what | change |", "|---|---|---|"]
        # What is breaking must not be what is cut off.
        ranked = sorted(all_entries, key=lambda entry: not entry.is_breaking)
        lines += [_row(entry) for entry in ranked[:MAX_ROWS]]
        if len(ranked) > MAX_ROWS:
            lines.append(f"| | {len(ranked) - MAX_ROWS} more | |")
    remarks = [text for text in (*outcome.remarks, outcome.impacts.trouble) if text]
    for remark in remarks:
        lines += ["", f"> {code(remark)}"]
    size = sum(len(line) + 1 for line in lines)
    details = list(_bounded(list(_details(all_entries)), MAX_CHARACTERS - size))
    if details:
        lines += ["", "<details><summary>All changes</summary>", "", *details, "", "</details>"]
    return "\n".join(lines)


def code(text: str) -> str:
    """The text as a code span, in one line."""
    line = printable(text)
    if len(line) > MAX_NAME_CHARACTERS:
        line = f"{line[:MAX_NAME_CHARACTERS]}…"
    letters = (
        letter if letter.isalnum() or letter in PLAIN else f"&#{ord(letter)};" for letter in line
    )
    return f"<code>{''.join(letters)}</code>"


def _row(entry: Entry) -> str:
    mark = "⚠️" if entry.is_breaking else ""
    return f"| {mark} | {entry.kind} {code(entry.name)} | {_summary(entry)} |"


def _summary(entry: Entry) -> str:
    if entry.mark != "~":
        parts = [VERBS[entry.mark]]
    else:
        counts: dict[str, int] = {}
        for detail in entry.details:
            name = f"{detail.what} {VERBS[detail.mark]}"
            counts[name] = counts.get(name, 0) + 1
        parts = [f"{count} {name}" if count > 1 else name for name, count in counts.items()]
    downstream = sum(len(impact.dependents) + impact.more for impact in entry.impacts)
    if downstream:
        parts.append(f"**{downstream} downstream**")
    return ", ".join(parts)


def _details(all_entries: Iterable[Entry]) -> Iterator[str]:
    for entry in all_entries:
        if entry.details or entry.impacts:
            yield f"- {entry.kind} {code(entry.name)} {VERBS[entry.mark]}"
        yield from map(_detail, entry.details)
        for impact in entry.impacts:
            of = f"column {code(impact.column)}" if impact.column else "the asset"
            yield f"  - downstream of {of}:{'' if impact.dependents else ' nothing'}"
            yield from (f"    - {code(dependent_text(one))}" for one in impact.dependents)
            if impact.more:
                yield f"    - and {impact.more} more"


def _detail(detail: Detail) -> str:
    subject = f" {code(detail.subject)}" if detail.subject else ""
    values = f": {' → '.join(map(code, detail.values))}" if detail.values else ""
    mark = "⚠️ " if detail.is_breaking else ""
    return f"  - {mark}{detail.what}{subject} {VERBS[detail.mark]}{values}"


def _bounded(lines: Sequence[str], room: int) -> Iterator[str]:
    """As many of the lines as there is room for."""
    for index, line in enumerate(lines):
        room -= len(line) + 1
        if room < 0:
            yield f"- and {len(lines) - index} more lines"
            return
        yield line
