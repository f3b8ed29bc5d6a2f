"""What may be shown of addresses and errors: in logs, on the screen, in a report."""

from __future__ import annotations

import re
import urllib.parse

HIDDEN = "…"
SECRETS = (
    # User and password of an address; a password may well have an @ in it.
    (re.compile(r"(?<=://)[^\s'\"]+(?=@)"), HIDDEN),
    # A password among the parameters of an address, or in a database's connection string.
    (re.compile(r"(?i)\b(password|token|secret|api_?key)=[^\s&'\"]+"), rf"\1={HIDDEN}"),
    # Dagster repeats a value that is not of the type that it expects.
    (re.compile(r"(?s)(?<=[Vv]alue \").*?(?=\" of type)"), HIDDEN),
)


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
    """The text without what looks like a password in it."""
    for pattern, replacement in SECRETS:
        text = pattern.sub(replacement, text)
    return text
