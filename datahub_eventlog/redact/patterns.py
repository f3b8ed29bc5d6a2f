"""The secrets that can be told in any text: by a name before them, by their place, by their shape.

Each pattern takes time linear in the text, whatever the text is: what repeats is bounded, or begins
only at the beginning of a word. The shapes of tokens are those that their makers document, the
list was compared with the detectors of detect-secrets and the rules of gitleaks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HIDDEN = "***"
"""What stands where a secret stood."""
_CUT = "\N{HORIZONTAL ELLIPSIS} \\["
"""Where a text that is too long was cut: what ends a password may have stood behind it."""


@dataclass(frozen=True)
class Known:
    """A kind of secret."""

    hints: tuple[str, ...]
    """A text that has one holds at least one of these, once it is in lower case."""
    pattern: re.Pattern[str]
    replacement: str = HIDDEN


NAMES = (
    r"(?:pass(?:word|wd|phrase|code)s?|pwd|secrets?|token|credentials?|signature|authorization"
    r"|(?<![a-z0-9])sig|user\.info"
    r"|(?:api|access|account|secret|private|signing|encryption|subscription|storage|master|auth"
    r"|client|shared)[ _.-]?key(?:[ _.-]?id)?)\d{0,3}"
)
"""A word, or the end of one, that names a secret; matched in any case."""
NAME_HINTS = (
    *("pass", "pwd", "secret", "token", "credential", "signature", "authorization", "sig"),
    *("user.info", "identified"),
)
"""A text in which a name gives a secret away holds one of these, or what `KEY_HINT` matches."""
KEY_HINT = re.compile(
    r"(?:api|access|account|secret|private|signing|encryption|subscription|storage|master|auth"
    r"|client|shared)[ _.-]?key"
)
_STAND_IN = r"\*\*\*|\$\{[^{}]*\}|\{\{[^{}]*\}\}"
HARMLESS = re.compile(
    rf"(?i)true|false|yes|no|on|off|null|none|nil|undefined|\*+|%s|\?|\$\d+|{_STAND_IN}"
    r"|\{[\"']?env[\"']?: *[\"']?\w+[\"']?\}"
)
"""Values that say that there is no secret, or where it is to be found."""

# The end of a text may be cut off.
_QUOTED = (
    r"'(?:''|\\.|[^'\\])*(?:'|\Z)|\"(?:\"\"|\\.|[^\"\\])*(?:\"|\Z)"
    r"|\\+\"(?:(?!\\+\").)*\\+\"|`[^`]*`"
)
_BRACKETED = r"\{(?:\}\}|[^{}])*\}|[\[(][^\[\](){}]*[\])]"
_ENDS = r"\s&;,\"'<>)\]}|\\"
# What ends a value may stand in the middle of one, unless another name and value follow it.
_BARE = (
    rf"(?:[^{_ENDS}]|[&,\"'<>)\]}}|\\](?=[^{_ENDS}])(?!\w[\w.-]{{0,40}}=)"
    rf"|;(?=[^{_ENDS}])(?!\w[\w .-]{{0,40}}=))+"
)
_AUTH_SCHEME = r"(?:(?:bearer|basic|digest|token|negotiate|aws4-hmac-sha256)[ \t]+)?"


def assignment_to(names: str) -> re.Pattern[str]:
    """What gives one of those names a value, in whatever language; see `hide_value`.

    `names` is a regular expression. The forms: `name=value`, `name: value`, `"name": "value"`,
    `name => 'value'`, `Name={value};`, `name%3Dvalue`, `Authorization: Bearer value`.
    """
    return re.compile(
        rf"(?is)(?P<name>{names})(?P<between>(?:\\*[\"'`]|%22)?\]?[ \t]*"
        rf"(?:=>|:=|={{1,3}}|:|%3D)[ \t]*{_AUTH_SCHEME})"
        rf"(?P<value>{_STAND_IN}|{_QUOTED}|{_BRACKETED}|\\*[\"']?{_BARE})"
    )


def hide_value(match: re.Match[str]) -> str:
    """The name with its value hidden, unless the value says that there is no secret."""
    value = match["value"]
    bare = value.strip("\\\"'`")
    is_column = bare.lower().rpartition(".")[2] == match["name"].lower()  # on a.token = b.token
    if not bare or is_column or HARMLESS.fullmatch(bare) or HARMLESS.fullmatch(value):
        return match[0]
    quote = value[: len(value) - len(value.lstrip("\\\"'`"))]
    end = quote if len(value) > len(quote) and value.endswith(quote) else ""
    return f"{match['name']}{match['between']}{quote}{HIDDEN}{end}"


NAMED = (
    re.compile(
        rf"(?is)(?P<name>\bidentified\s+(?:with\s+\S+\s+)?by(?:\s+password)?|\bpassword)"
        rf"(?P<between>\s+)(?P<value>{_QUOTED})"
    ),
    re.compile(
        rf"(?is)(?P<name>--?(?:\w+-){{0,5}}{NAMES})(?P<between>[ \t]+)"
        rf"(?P<value>{_STAND_IN}|{_BARE})"
    ),
    re.compile(rf"(?i)(?P<name><(?:[\w.-]{{1,40}}[_:.-])?{NAMES}>)(?P<between>)(?P<value>[^<\s]+)"),
    re.compile(r"(?i)(?P<name>\blogin\s+\S+\s+password)(?P<between>\s+)(?P<value>\S+)"),
    assignment_to(NAMES),
)
"""Values behind a secret's name: in SQL, in a command, in XML, in a netrc, assigned."""

# A password may have any of `@ / # ' "` in it, although they should have been encoded. Digits alone
# before the path are a port.
_IN_AUTHORITY = r"(?:(?!://)[^\s\"'?]|[\"'](?![\s,:;)\]}<>]|$)){0,2000}"
_PORT = r"\d*(?:[/?#\s]|[,;)\]}\"'<>](?![^\s\"'<>]{0,500}@)|$)"

# A token stands alone, or behind an escaped character: it is not the middle of another word.
_BEGIN = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"

_GITLAB = ("pat", "dt", "ft", "soat", "rt", "cbt", "imt", "ptt", "agent", "oas")

KNOWN: tuple[Known, ...] = (
    Known(
        ("-----begin",),
        re.compile(
            r"(?s)-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            r".*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)"
        ),
    ),
    Known(("eyj",), re.compile(rf"{_BEGIN}eyJ[\w-]{{6,}}=*\.[\w-]{{4,}}=*(?:\.[\w+/=-]*)*")),
    Known(
        ("akia", "asia", "abia", "acca", "a3t"),
        re.compile(rf"{_BEGIN}(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{{16}}(?![A-Za-z0-9])"),
    ),
    Known(
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        re.compile(r"(?:gh[pousr]_|github_pat_)\w{20,}"),
    ),
    Known(
        tuple(f"gl{kind}-" for kind in _GITLAB),
        re.compile(rf"gl(?:{'|'.join(_GITLAB)})-[\w-]{{20,}}"),
    ),
    Known(
        ("xox", "xapp-"),
        re.compile(r"(?i)xox[a-z](?:\.xox[bp])?-[\w-]{3,}|xapp-\d-[\w-]{8,}"),
    ),
    Known(
        ("hooks.slack", "/webhooks/", "webhook.office"),
        re.compile(
            r"(?i)(hooks\.slack\.com/(?:services|workflows|triggers)/"
            r"|/api/webhooks/\d+/|\.webhook\.office\.com/webhookb?2?/)[\w@/-]+"
        ),
        rf"\g<1>{HIDDEN}",
    ),
    Known(
        ("aiza", "ya29.", "gocspx-"),
        re.compile(r"AIza[\w-]{35}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,}"),
    ),
    Known(
        ("k_live_", "k_test_", "whsec_"),
        re.compile(r"[srp]k_(?:live|test)_\w{10,}|whsec_\w{16,}"),
    ),
    Known(
        (
            *("sg.", "npm_", "pypi-", "dapi", "hvs.", "dop_v1_", "dbtc_", "dbtu_", "shpat_"),
            *("sk-", "sq0csp-", "-us", "gr1348941"),
        ),
        re.compile(
            rf"{_BEGIN}(?:SG\.[\w-]{{16,}}\.[\w-]{{16,}}|npm_\w{{30,}}|pypi-[\w-]{{40,}}"
            r"|dapi[0-9a-f]{32}(?:-\d)?|hvs\.[\w-]{20,}|dop_v1_[0-9a-f]{32,}|dbt[cu]_[\w-]{20,}"
            r"|shpat_[0-9a-f]{32}|sk-[\w-]{20,}|sq0csp-[\w\\-]{40,}|[0-9a-z]{32}-us\d\d?|GR1348941[\w-]{20,})"
        ),
    ),
    # An account key of Azure Storage.
    Known(("==",), re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{86}==")),
    Known(
        ("bearer",),
        re.compile(r"(?i)\b(bearer[ \t]+)(?=[^\s\"']{0,500}[\d.])[\w.~+/=-]{8,}"),
        rf"\g<1>{HIDDEN}",
    ),
    Known(
        ("jdbc:oracle",),
        re.compile(r"(?i)(jdbc:oracle:\w+:[^\s/@:]{0,100}/)[^\s@]{1,500}(?=@)"),
        rf"\g<1>{HIDDEN}",
    ),
    # The DSNs of Go's drivers.
    Known(
        ("@tcp(", "@unix("),
        re.compile(r"(?<![\w.-])([\w.-]{1,100}:)[^\s@]{1,500}(?=@(?:tcp|unix)\()"),
        rf"\g<1>{HIDDEN}",
    ),
    Known(("/bot",), re.compile(r"(/bot\d{8,10}:)[\w-]{35}"), rf"\g<1>{HIDDEN}"),
    # The user of curl.
    Known(
        ("-u ", "--user "),
        re.compile(r"((?:^|\s)(?:-u|--user)[ \t]+[^\s:]{1,100}:)[^\s\"']+"),
        rf"\g<1>{HIDDEN}",
    ),
    # Keys of Google's and Azure's functions.
    Known(
        ("key=", "code="),
        re.compile(r"(?i)([?&](?:key|code)=)[\w.~+=%-]{16,}"),
        rf"\g<1>{HIDDEN}",
    ),
    Known(
        ("@", " more characters are left out"),
        re.compile(
            rf"(//[^\s:@/?#\"']{{0,500}}:)(?!{_PORT})"
            rf"(?:{_IN_AUTHORITY}(?=@|{_CUT})|{_IN_AUTHORITY}\?{_IN_AUTHORITY}(?=@))"
        ),
        rf"\g<1>{HIDDEN}",
    ),
)
HINTS = tuple(hint for known in KNOWN for hint in known.hints)
