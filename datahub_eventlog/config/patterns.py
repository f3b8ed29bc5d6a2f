"""Regular expressions of the configuration, matched in bounded time."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from datahub_eventlog.config.constraints import NO_OTHER_KEYS, text
from datahub_eventlog.error_text import one_line
from datahub_eventlog.errors import PatternTooSlow

PATTERN_SECONDS = 1.0
"""How long one pattern may take for one name; others take microseconds."""


def fits(pattern: str, name: str) -> bool:
    """Whether the name begins as the pattern says; raises `PatternTooSlow`.

    Not with Python's own `re`: a pattern such as `(a|a)*$` would never end there, and block all
    other threads. `regex` knows the same syntax, has a timeout, and releases the GIL.
    """
    try:
        match = _compiled(pattern).match(name, timeout=PATTERN_SECONDS, concurrent=True)
    except TimeoutError:
        raise PatternTooSlow(
            f"the pattern {one_line(pattern)} does not decide within {PATTERN_SECONDS:g} s whether "
            f"it fits {one_line(name, 60)}: there is more than one way to repeat the same. Repeat "
            "only one thing, such as a+ for (a+)+ or (a|aa)+, and [^_]* for .* where a _ follows"
        ) from None
    return match is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    import regex

    return regex.compile(as_regex(pattern), regex.IGNORECASE | regex.VERSION0)


def check_pattern(pattern: str) -> str:
    """Refuse what is no regular expression; `obstacle_for_regex` has the rest, for delivery."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return pattern


def obstacle_for_regex(pattern: str) -> str | None:
    """Why `regex` can't use the pattern, if so; None where `regex` is not installed.

    It takes several times as long to compile a pattern as `re`, so only what delivers asks.
    """
    try:
        import regex
    except ImportError:
        return None
    try:
        _compiled(pattern)
    except regex.error as error:
        return f"{pattern!r} is a regular expression that can't be used: {error}"
    return None


@dataclass(frozen=True)
class Pattern:
    """Regular expressions for names; a name passes if one of `allow` and none of `deny` fits.

    They are matched at the start and ignore case, as in DataHub's recipes (`AllowDenyPattern`).
    """

    __pydantic_config__ = NO_OTHER_KEYS

    allow: tuple[Annotated[str, text(check_pattern)], ...] = (".*",)
    deny: tuple[Annotated[str, text(check_pattern)], ...] = ()

    def allows(self, name: str) -> bool:
        """Whether a thing of that name is to be delivered; raises `PatternTooSlow`."""
        if any(fits(pattern, name) for pattern in self.deny):
            return False
        return any(fits(pattern, name) for pattern in self.allow)


_TOKENS = (
    r"\\N\{[^}]*\}|\\.|\(\?\#[^)]*\)"  # letters by their names, other escapes, comments
    r"|\[\^?\]?(?:\\.|[^\]\\])*\]"  # classes
    r"|\{(?:[0-9]+(?:,[0-9]*)?|,[0-9]*)\}|\{"  # repetitions, and braces that are none
)
_BRACKET = r"(\\.)|\["
_VERBOSE = r"\(\?[aimsu]*x[aimsux]*\)"


def as_regex(pattern: str) -> str:
    """The pattern with a backslash before each character that only `regex` treats as special.

    To `re` a `{` that begins no number of repetitions is a letter, and so is a `[` in a class.
    """

    def escaped(match: re.Match[str]) -> str:
        part = match[0]
        if part.startswith("["):
            return "[" + re.sub(
                _BRACKET, lambda inner: inner[1] or r"\[", part[1:], flags=re.DOTALL
            )
        return r"\{" if part == "{" else part

    tokens = _TOKENS + (r"|\#[^\n]*" if re.search(_VERBOSE, pattern) else "")
    return re.sub(tokens, escaped, pattern, flags=re.DOTALL)
