"""What may be shown of addresses and errors: in logs, on the screen, in a report."""

from __future__ import annotations

import re
import traceback
import urllib.parse

# Dagster repeats a value that is not of the type that it expects.
_REPEATED = re.compile(r"(?s)(?<=[Vv]alue \").*?(?=\" of type)")

LONGEST_LINE = 2000
"""Letters of an error that are shown."""
LONGEST_READ = 8000
"""Letters of it that are looked at: to find secrets takes longer for a long text."""
LONGEST_CHAIN = 10
LONGEST_STACK = 30
"""Errors behind an error, and frames of each, that are shown."""


def address(url: str) -> str:
    """An address without user, password and query."""
    try:
        split = urllib.parse.urlsplit(url)
    except ValueError:
        return "the configured address"
    host = split.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit((split.scheme, host, split.path, "", ""))


def describe(error: BaseException) -> str:
    """Any error in one line of printable letters, without the secrets that it may repeat.

    Never raises, whatever somebody's class does when it is asked for its text.
    """
    try:
        text = _beginning(str(error))
    except BaseException as broken:  # noqa: BLE001 - `__str__` is somebody else's code
        text = f"its text can't be had: {type(broken).__name__}"
    return one_line(f"{type(error).__name__}: {without_secrets(text)}").removesuffix(":")


def trace(error: BaseException) -> str:
    """Where an error and those behind it were raised, each as `describe` has it.

    What Python's own traceback shows, but for the raw texts. Never raises.
    """
    parts: list[str] = []
    seen: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in seen and len(seen) < LONGEST_CHAIN:
        seen.add(id(inner))
        stack = traceback.StackSummary.from_list(
            traceback.extract_tb(inner.__traceback__)[-LONGEST_STACK:]
        )
        parts.append("".join([*stack.format(), describe(inner)]))
        inner = inner.__cause__ or (None if inner.__suppress_context__ else inner.__context__)
    return "\n\nafter which came:\n\n".join(reversed(parts))


def one_line(text: str, length: int = LONGEST_LINE) -> str:
    """A text of somebody else's in one line: bounded, and what can't be printed as an escape."""
    short = " ".join(text[: 2 * length].split())
    escaped = "".join(each if each.isprintable() else _escaped(each) for each in short)
    is_whole = len(text) <= 2 * length and len(escaped) <= length
    return escaped if is_whole else f"{escaped[:length]}…"


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


def _beginning(text: str) -> str:
    """As much as is looked at, without the torn word at its end, which may be half a secret."""
    if len(text) <= LONGEST_READ:
        return text
    words = text[:LONGEST_READ].rsplit(maxsplit=1)
    return f"{words[0] if len(words) > 1 else ''} …"


def without_secrets(text: str) -> str:
    """The text without what looks like a secret in it."""
    from datahub_eventlog.redact import DEFAULT, HIDDEN

    return DEFAULT.text(_REPEATED.sub(HIDDEN, text))
