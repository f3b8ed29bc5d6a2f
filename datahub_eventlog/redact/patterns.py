"""How secrets are recognized in text: by a name before them, by their place, or by their shape.

Repetitions in a pattern are bounded, or only begin at a word's beginning, so that the time stays
linear in the text. The shapes of tokens are those that their makers document; the tests compare
them with the detectors of detect-secrets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HIDDEN = "***"
"""What replaces a secret."""
_CUT = "\N{HORIZONTAL ELLIPSIS} \\["
"""Where a text was cut, possibly in the middle of a password."""

NAMES = (
    r"(?:pass(?:word|wd|phrase|code)s?|(?<![a-z0-9])(?:pgpass|pass|pw|sig|jwt)|pwd|(?<!\d:)secrets?"
    r"|token|credentials?|signature|authorization|user\.info|account\.key\.[\w.-]{1,100}"
    r"|(?:api|access|account|secret|private|signing|encryption|subscription|storage|master|auth"
    r"|client|shared|fernet|hmac|ssh|app|deploy|consumer|license)[ _.-]?key(?:[ _.-]?(?:id|base))?)"
    r"(?:[_.-](?:prod|dev|test|stage|old|new|v\d{1,2}))?\d{0,3}"
)
"""A word, or the end of one, that names a secret; matched in any case."""
NAME_HINTS = (
    *("pass", "pwd", "pw", "secret", "token", "credential", "signature", "authorization", "sig"),
    *("key", "jwt", "user.info", "identified", "cookie"),
)
"""A text with a secret's name contains one of these, and what `NAME_HINT` matches."""
NAME_HINT = re.compile(rf"{NAMES}(?![a-z])|identified|cookie")

_STAND_IN = r"\*\*\*|\$\{\w+\}|\{\{ *\w+(?:\([\"']\w+[\"']\))? *\}\}"
HARMLESS = re.compile(
    rf"(?i)true|false|yes|no|on|off|null|none|nil|undefined|\*+|%s|\?|\$\d+|{_STAND_IN}"
    r"|\{[\"']?env[\"']?: *[\"']?\w+[\"']?\}|:\w+|@\w+|%\(\w+\)s"
    r"|str|string|varchar|text|u?int(?:eger)?|bigint|bytes|bool(?:ean)?|float|uuid"
)
"""Values that are no secret: a placeholder, a type, or a reference to where the secret is."""
_NUMBER = re.compile(r"-?\d{1,4}(?:\.\d+)?")
_COLUMN = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*")
_STRONG = re.compile(r"(?i)pass(?:w|phrase|code)|pwd|secret")
"""Names after which every value that is not `HARMLESS` is a secret."""

# The end of a text may be cut off.
_QUOTED = (
    r"'(?:''|\\.|[^'\\])*(?:'|\Z)|\"(?:\"\"|\\.|[^\"\\])*(?:\"|\Z)"
    r"|\\+\"(?:(?!\\+\").)*\\+\"|`[^`]*`"
)
_FLAT = r"[^\[\](){}]"
_INNER = rf"[\[({{]{_FLAT}*[\])}}]"
_OUTER = rf"[\[({{](?:{_FLAT}|{_INNER})*[\])}}]"
_BRACKETED = rf"\{{(?:\}}\}}|{_FLAT}|{_OUTER})*\}}|[\[(](?:{_FLAT}|{_OUTER})*[\])]"
_ENDS = r"\s&;,\"'<>)\]}|\\"
# What ends a value may stand in the middle of one, unless another name and value follow it.
_BARE = (
    rf"(?:[^{_ENDS}]|[&,\"'<>)\]}}|\\](?=[^{_ENDS}])(?!\w[\w.-]{{0,40}}=)"
    rf"|;(?=[^{_ENDS}])(?!\w[\w .-]{{0,40}}=))+"
)
_AUTH_SCHEME = r"(?:(?:bearer|basic|digest|token|negotiate|aws4-hmac-sha256)[ \t]+)?"


def assignment_to(names: str) -> re.Pattern[str]:
    """A pattern for assignments to these names in many notations; see `hide_value`.

    `names` is a regular expression. The forms: `name=value`, `name: value`, `"name": "value"`,
    `name => 'value'`, `Name={value};`, `name%3Dvalue`, `Authorization: Bearer value`.
    """
    return re.compile(
        rf"(?is)(?P<name>{names})(?P<between>(?:\\*[\"'`]|%22|&quot;|&#34;)?\]?[ \t]*"
        rf"(?:=>|:=|={{1,3}}|:(?!:)|%3D)[ \t]*(?:(?:[rbfu]{{1,2}}|N)(?=[\"']))?{_AUTH_SCHEME})"
        rf"(?P<value>{_STAND_IN}|{_QUOTED}|{_BRACKETED}|\\*[\"']?{_BARE})"
    )


def hide_value(match: re.Match[str], *, is_sure: bool = False) -> str:
    """The name with its value hidden, unless the value is clearly no secret.

    `is_sure`: whether only a secret can follow that name.
    """
    name, value = match["name"], match["value"]
    bare = value.strip("\\\"'`")
    if not bare or HARMLESS.fullmatch(bare) or HARMLESS.fullmatch(value):
        return match[0]
    if bare.lower().rpartition(".")[2] == name.lower():  # on a.token = b.token
        return match[0]
    if not (is_sure or _STRONG.search(name)) and _is_readable(match, bare):
        return match[0]
    quote = value[: len(value) - len(value.lstrip("\\\"'`"))]
    end = quote if len(value) > len(quote) and value.endswith(quote) else ""
    return f"{match[0][: match.start('value') - match.start()]}{quote}{HIDDEN}{end}"


def _is_readable(match: re.Match[str], bare: str) -> bool:
    """Whether what follows a word such as token or key is a number, a column, or a sentence."""
    if _NUMBER.fullmatch(bare):
        return True
    between, text = match["between"], match.string
    if not between.endswith(" "):
        return False
    is_sentence = bare.isalpha() and bool(re.compile(" [A-Za-z]").match(text, match.end()))
    is_column = between == " = " and match["value"] == bare and _COLUMN.fullmatch(bare)
    return bool(is_column) or (between.strip() == ":" and is_sentence)


NAMED = (
    re.compile(
        rf"(?is)(?P<name>\b(?:create|alter|grant)\b[^;]{{0,200}}?\bidentified\s+"
        rf"(?:with\s+\S+\s+)?(?:by|as)(?:\s+password)?|\bpassword(?:\s+for\s+\S+\s*=)?|\bsecret"
        rf"|\b\w{{0,40}}access_key(?:_id)?)(?P<between>\s+)(?P<value>{_QUOTED})"
    ),
    re.compile(
        rf"(?is)(?P<name>(?<![\w-])--?(?!no-)(?:\w+-){{0,5}}{NAMES})(?P<between>[ \t]+)"
        rf"(?P<value>{_STAND_IN}|{_QUOTED}|(?!-){_BARE})"
    ),
    re.compile(rf"(?i)(?P<name><(?:[\w.-]{{1,40}}[_:.-])?{NAMES}>)(?P<between>)(?P<value>[^<\s]+)"),
    re.compile(
        rf"(?i)(?P<name>\b(?:key|name)=[\"'][\w.-]{{0,40}}{NAMES}[\"'])(?P<between>\s+value=)"
        rf"(?P<value>{_QUOTED})"
    ),
    re.compile(
        rf"(?i)(?P<name>[\"'][\w.-]{{0,40}}{NAMES}[\"'])(?P<between>,\s*)(?P<value>{_QUOTED})"
    ),
    re.compile(
        r"(?i)(?P<name>\blogin\s+\S+\s+password)(?P<between>\s+)"
        rf"(?P<value>{_STAND_IN}|{_QUOTED}|\S+)"
    ),
    re.compile(
        r"(?i)(?P<name>\bpassword\s+(?:is|was))(?P<between>\s+)"
        rf"(?P<value>{_STAND_IN}|{_QUOTED}|(?=[^\s.]*[\d!#$%*+^~_-])\S+)"
    ),
    # A block of YAML: lines that are indented deeper than the name's.
    re.compile(
        rf"(?im)^(?P<indent>[ \t]*)(?P<name>[^\s:]{{0,60}}{NAMES})"
        r"(?P<between>:[ \t]*(?:[|>][+-]?|&\w+)?[ \t]*\n(?P=indent)[ \t]+)"
        r"(?P<value>[^\s:]+(?:\n(?P=indent)[ \t]+[^\n:]+)*)$"
    ),
    re.compile(r"(?i)(?P<name>\b(?:set-)?cookie)(?P<between>:[ \t]*)(?P<value>[^\n\"']+)"),
    assignment_to(NAMES),
)
"""Values after a secret's name: in SQL, commands, XML, pairs, netrc, YAML, HTTP, assignments."""

# A password may contain any of `@ / # ' "`, although they should be encoded. Only digits before the
# path are a port.
_IN_AUTHORITY = r"(?:(?!://)[^\s\"'?]|[\"'](?![\s,:;)\]}<>]|$)){0,2000}"
_PORT = r"\d*(?:[/?#\s]|[,;)\]}\"'<>](?![^\s\"']{0,500}@)|$)"
USER_INFO = re.compile(
    rf"(?i)((?://|\\/\\/|%2F%2F)[^\s:/?#\"']{{0,500}}(?::|%3A))(?!{_PORT})"
    rf"(?:{_IN_AUTHORITY}(?=@|%40|{_CUT})|{_IN_AUTHORITY}\?{_IN_AUTHORITY}(?=@))"
)
"""A URI's password; the first group is what precedes it."""

# A token begins a word, or follows an escaped character.
_BEGIN = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"
_GITLAB = ("pat", "dt", "ft", "soat", "rt", "cbt", "imt", "ptt", "agent", "oas")


@dataclass(frozen=True)
class Known:
    """A kind of secret."""

    hints: tuple[str, ...]
    """A text with such a secret, in lower case, contains at least one of these."""
    pattern: re.Pattern[str]
    replacement: str = HIDDEN


KNOWN: tuple[Known, ...] = (
    Known(
        ("-----begin", "---- begin"),
        re.compile(
            r"(?s)-{4,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}"
            r".*?(?:-{4,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}|\Z)"
        ),
    ),
    Known(("eyj",), re.compile(rf"{_BEGIN}eyJ[\w-]{{6,}}=*\.[\w-]{{4,}}=*(?:\.[\w+/=-]*)*")),
    Known(
        ("akia", "asia", "abia", "acca", "a3t"),
        re.compile(rf"{_BEGIN}(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{{16}}(?![A-Za-z0-9])"),
    ),
    Known(
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        re.compile(rf"{_BEGIN}(?:gh[pousr]_\w{{36,}}|github_pat_\w{{22,}})"),
    ),
    Known(
        tuple(f"gl{kind}-" for kind in _GITLAB),
        re.compile(rf"{_BEGIN}gl(?:{'|'.join(_GITLAB)})-[\w-]{{20,}}"),
    ),
    Known(
        ("xox", "xapp-"),
        re.compile(rf"(?i){_BEGIN}(?:xox[a-z](?:\.xox[bp])?-\d[\w-]{{2,}}|xapp-\d-[\w-]{{8,}})"),
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
        re.compile(rf"{_BEGIN}(?:AIza[\w-]{{35}}(?![\w-])|ya29\.[\w-]{{20,}}|GOCSPX-[\w-]{{20,}})"),
    ),
    Known(
        ("k_live_", "k_test_", "whsec_"),
        re.compile(
            rf"{_BEGIN}(?:[srp]k_(?:live|test)_[A-Za-z0-9]{{10,}}(?!\w)"
            r"|whsec_[A-Za-z0-9+/=]{16,})"
        ),
    ),
    Known(
        (
            *("sg.", "npm_", "pypi-", "dapi", "hvs.", "dop_v1_", "dbtc_", "dbtu_", "shpat_", "hf_"),
            *("sk-", "sq0csp-", "-us", "gr1348941", "dckr_pat_", "glsa_", "lin_api_"),
        ),
        re.compile(
            rf"{_BEGIN}(?:SG\.[\w-]{{22}}\.[\w-]{{43}}|npm_[A-Za-z0-9]{{36}}|pypi-Ag[\w-]{{40,}}"
            r"|dapi[0-9a-f]{32}(?:-\d)?|hvs\.[\w-]{20,}|dop_v1_[0-9a-f]{32,}|dbt[cu]_[\w-]{20,}"
            r"|shpat_[0-9a-f]{32}|hf_[A-Za-z]{34}|glsa_\w{32,}|lin_api_[A-Za-z0-9]{32,}"
            r"|sk-(?=[\w-]*\d)(?=[\w-]*[A-Z])[\w-]{20,}|sq0csp-[\w\\-]{40,}|dckr_pat_[\w-]{20,}"
            r"|[0-9a-z]{32}-us\d\d?|GR1348941[\w-]{20,})(?!\w)"
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
        ("basic",),
        re.compile(r"\b([Bb]asic[ \t]+)(?=[^\s\"']*[A-Z0-9=])(?![A-Z]?[a-z]+\b)[A-Za-z0-9+/=]{8,}"),
        rf"\g<1>{HIDDEN}",
    ),
    Known(
        ("jdbc:oracle",),
        re.compile(r"(?i)(jdbc:oracle:\w+:[^\s/@:]{0,100}/)[^\s@]{1,100}(?=@)"),
        rf"\g<1>{HIDDEN}",
    ),
    # The DSNs of Go's drivers.
    Known(
        ("@tcp(", "@unix("),
        re.compile(r"(?<![\w.-])([\w.-]{1,100}:)[^\s@]{1,100}(?=@(?:tcp|unix)\()"),
        rf"\g<1>{HIDDEN}",
    ),
    Known(("/bot",), re.compile(r"(/bot\d{8,10}:)[\w-]{35}"), rf"\g<1>{HIDDEN}"),
    Known(
        ("curl",),
        re.compile(r"(?s)(\bcurl\b.{0,300}?\s(?:-u|--user)[ \t=]*[^\s:]{1,100}:)[^\s\"']+"),
        rf"\g<1>{HIDDEN}",
    ),
    Known(
        ("mysql",),
        re.compile(r"(?s)(\bmysql\w*\b.{0,200}?\s-p)[^\s\"'-][^\s\"']*"),
        rf"\g<1>{HIDDEN}",
    ),
    # Keys of Google's and Azure's functions.
    Known(
        ("key=", "code="),
        re.compile(r"(?i)([?&](?:key|code)=)[\w.~+=%-]{16,}"),
        rf"\g<1>{HIDDEN}",
    ),
    Known(("@", "%40", " more characters are left out"), USER_INFO, rf"\g<1>{HIDDEN}"),
)
HINTS = tuple(hint for known in KNOWN for hint in known.hints)
