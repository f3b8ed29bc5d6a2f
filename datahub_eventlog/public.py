"""What may be shown of addresses and errors: in logs, on the screen, in a report."""

from __future__ import annotations

import re
import urllib.parse

# Dagster repeats a value that is not of the type that it expects.
_REPEATED = re.compile(r"(?s)(?<=[Vv]alue \").*?(?=\" of type)")


def address(url: str) -> str:
    """An address without user, password and query."""
    try:
        split = urllib.parse.urlsplit(url)
    except ValueError:
        return "the configured address"
    host = split.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit((split.scheme, host, split.path, "", ""))


def words(error: BaseException) -> str:
    """An error of somebody else's in one line, without the secrets that it may repeat."""
    lines = [each.strip() for each in str(error).splitlines() if each.strip()]
    return f"{type(error).__name__}: {without_secrets(' '.join(lines))}".removesuffix(": ")


def without_secrets(text: str) -> str:
    """The text without what looks like a secret in it."""
    from datahub_eventlog.redact import DEFAULT, HIDDEN

    return DEFAULT.text(_REPEATED.sub(HIDDEN, text))
