"""Addresses and errors as text without secrets, for logs, the screen and reports."""

from __future__ import annotations

import re
import traceback
import urllib.parse

# Dagster's messages repeat a value of the wrong type.
_REPEATED = re.compile(r"(?s)(?<=[Vv]alue \").*?(?=\" of type)")

MAX_LINE_LENGTH = 2000
"""Characters of an error that are shown."""
MAX_SEARCHED_LENGTH = 8000
"""Characters of an error that are searched for secrets, which takes time."""
MAX_CHAIN = 10
MAX_FRAMES = 30
"""Causes of an error, and frames of each, that are shown."""


def address(url: str) -> str:
    """An address without user, password and query."""
    try:
        split = urllib.parse.urlsplit(url)
    except ValueError:
        return "the configured address"
    host = split.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit((split.scheme, host, split.path, "", ""))


def describe(error: BaseException) -> str:
    """An error in one line of printable characters, without secrets.

    Never raises, even if the error's `__str__` does.
    """
    try:
        text = _beginning(str(error))
    except BaseException as broken:  # noqa: BLE001 - `__str__` may be user code
        text = f"its __str__ raises {type(broken).__name__}"
    return one_line(f"{type(error).__name__}: {without_secrets(text)}").removesuffix(":")


def trace(error: BaseException) -> str:
    """The traceback of an error and of its causes, each described by `describe`.

    Never raises.
    """
    parts: list[str] = []
    seen: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in seen and len(seen) < MAX_CHAIN:
        seen.add(id(inner))
        stack = traceback.StackSummary.from_list(
            traceback.extract_tb(inner.__traceback__)[-MAX_FRAMES:]
        )
        parts.append("".join([*stack.format(), describe(inner)]))
        inner = inner.__cause__ or (None if inner.__suppress_context__ else inner.__context__)
    return "\n\nafter which came:\n\n".join(reversed(parts))


def one_line(text: str, length: int = MAX_LINE_LENGTH) -> str:
    """Any text in one line: bounded, with unprintable characters escaped."""
    short = " ".join(text[: 2 * length].split())
    escaped = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in short
    )
    is_whole = len(text) <= 2 * length and len(escaped) <= length
    return escaped if is_whole else f"{escaped[:length]}…"


def _beginning(text: str) -> str:
    """The part that is searched, without an incomplete word, which may be half a secret."""
    if len(text) <= MAX_SEARCHED_LENGTH:
        return text
    words = text[:MAX_SEARCHED_LENGTH].rsplit(maxsplit=1)
    return f"{words[0] if len(words) > 1 else ''} …"


def without_secrets(text: str) -> str:
    """The text without what looks like a secret in it."""
    from datahub_eventlog.redact import DEFAULT, HIDDEN

    return DEFAULT.text(_REPEATED.sub(HIDDEN, text))
