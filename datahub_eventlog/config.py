"""Every option of the block `datahub:`: its type, default, check and environment variable.

An option comes from dagster.yaml, else from `DATAHUB_EVENTLOG_<OPTION>` (JSON where it is not a
plain string), else it has its default. Only `DATAHUB_EVENTLOG_ENABLED` wins over the file.
`{env: X}` stands for the value of an environment variable wherever a string may stand.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from dagster import Field, Map, Noneable, Permissive

from datahub_eventlog.dagster_internals import EvaluationError, validate_config
from datahub_eventlog.error_text import one_line, without_secrets
from datahub_eventlog.errors import ConfigurationError, PatternTooSlow

PREFIX = "DATAHUB_EVENTLOG_"

MCP_KEY = "MetadataChangeProposal"
MCP_TOPIC = "MetadataChangeProposal_v1"
"""How DataHub calls a kind of message, and the topic that it reads it from by default."""

PATTERN_SECONDS = 1.0
"""How long one pattern may take for one name; others take microseconds."""

Environ: TypeAlias = Mapping[str, str]
Block: TypeAlias = Any
"""What YAML made of the block: a mapping, unless somebody wrote something else."""


@dataclass(frozen=True)
class RestTarget:
    """DataHub's own service, GMS, over HTTP."""

    server: str = field(repr=False)
    """It may have a user and a password in it."""
    token: str | None = field(default=None, repr=False)
    timeout_sec: float = 30.0
    extra_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_certificate_path: str | None = None
    client_certificate_path: str | None = None
    client_key_path: str | None = None
    disable_ssl_verification: bool = False


@dataclass(frozen=True)
class KafkaTarget:
    """DataHub's proposal topic on Kafka."""

    bootstrap: str
    schema_registry_url: str = field(repr=False)
    producer_config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    schema_registry_config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    topic: str = MCP_TOPIC


@dataclass(frozen=True)
class FileTarget:
    """A folder with one file a run, in the format that `datahub ingest mcps` reads."""

    path: str


Target: TypeAlias = RestTarget | KafkaTarget | FileTarget


@dataclass(frozen=True)
class Pattern:
    """Regular expressions for names; a name passes if one of `allow` and none of `deny` fits.

    They are matched at the start and ignore case, as in DataHub's recipes (`AllowDenyPattern`).
    """

    allow: tuple[str, ...] = (".*",)
    deny: tuple[str, ...] = ()

    def allows(self, name: str) -> bool:
        """Whether a thing of that name is to be delivered; raises `PatternTooSlow`."""
        if any(fits(each, name) for each in self.deny):
            return False
        return any(fits(each, name) for each in self.allow)


_PARTS = (
    r"\\N\{[^}]*\}|\\.|\(\?\#[^)]*\)"  # letters by their names, other escapes, comments
    r"|\[\^?\]?(?:\\.|[^\]\\])*\]"  # classes
    r"|\{(?:[0-9]+(?:,[0-9]*)?|,[0-9]*)\}|\{"  # repetitions, and what is none
)
_LETTER = r"(\\.)|\["
_VERBOSE = r"\(\?[aimsu]*x[aimsux]*\)"


def fits(pattern: str, name: str) -> bool:
    """Whether the name begins as the pattern says; raises `PatternTooSlow`.

    Not with Python's own `re`: a pattern such as `(a|a)*$` would take it for ever, and all other
    threads with it. `regex` knows the same syntax, ends in time, and lets others run meanwhile.
    """
    try:
        found = _compiled(pattern).match(name, timeout=PATTERN_SECONDS, concurrent=True)
    except TimeoutError:
        raise PatternTooSlow(
            f"the pattern {one_line(pattern)} does not decide within {PATTERN_SECONDS:g} s whether "
            f"it fits {one_line(name, 60)}: there is more than one way to repeat the same. Repeat "
            "only one thing, such as a+ for (a+)+ or (a|aa)+, and [^_]* for .* where a _ follows"
        ) from None
    return found is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    import regex

    return regex.compile(_plain(pattern), regex.IGNORECASE | regex.VERSION0)


def _plain(pattern: str) -> str:
    """The pattern with a backslash before what only `regex` gives a meaning.

    To `re` a `{` that begins no number of repetitions is a letter, and so is a `[` in a class.
    """
    parts = _PARTS + (r"|\#[^\n]*" if re.search(_VERBOSE, pattern) else "")
    return re.sub(parts, _as_letters, pattern, flags=re.DOTALL)


def _as_letters(found: re.Match[str]) -> str:
    part = found[0]
    if part == "{":
        return r"\{"
    if part.startswith("["):
        inside = re.sub(_LETTER, lambda each: each[1] or r"\[", part[1:], flags=re.DOTALL)
        return f"[{inside}"
    return part


@dataclass(frozen=True)
class Redaction:
    """What is hidden of what is sent, beside the secrets that are known everywhere."""

    enabled: bool = True
    """Whether anything is. Logs and messages are redacted all the same."""
    patterns: tuple[str, ...] = ()
    """Regular expressions of what else is hidden; if one has groups, only those are."""
    keys: tuple[str, ...] = ()
    """Names of metadata and tags whose values are hidden, whatever they are."""


@dataclass(frozen=True)
class Config:
    """All options. Each field is named as its option; architecture and README have the table."""

    enabled: bool = True
    target: Target | None = None
    dagster_url: str | None = None
    env: str = "PROD"
    platform_instance: str | None = None
    capture_asset_materialization: bool = True
    capture_input_output: bool = True
    asset_lineage_extractor: str | None = None
    asset_keys_to_dataset_urn_converter: str | None = None
    capture_dataset_from_asset_key: bool = True
    platform_instance_map: Mapping[str, str] = field(default_factory=dict)
    convert_urns_to_lowercase: bool = False
    connect_ops_to_ops: bool = False
    enable_asset_query_metadata_parsing: bool = True
    emit_queries: bool = False
    emit_assets: bool = True
    materialize_dependencies: bool = False
    remove_wiped_assets: bool = False
    job_pattern: Pattern = Pattern()
    asset_pattern: Pattern = Pattern()
    urn_prefix: str | None = None
    is_cloud: bool | None = None
    branch: str | None = None
    emit_mode: str = "SYNC_PRIMARY"
    dispatch: Literal["auto", "worker", "off"] = "auto"
    poll_interval: timedelta = timedelta(seconds=1)
    touch_interval: timedelta = timedelta(seconds=5)
    exit_timeout: timedelta = timedelta(seconds=10)
    max_attempts: int = 10
    retention: timedelta = timedelta(days=30)
    resend_after: timedelta = timedelta(days=1)
    redact: Redaction = Redaction()
    debug_mode: bool = False


@dataclass(frozen=True)
class Fault:
    """What is wrong with one option."""

    option: str
    message: str
    is_unset_variable: bool = False
    """An `{env: X}` whose X this process does not have: normal where nothing is delivered."""


@dataclass(frozen=True)
class Reading:
    """A configuration as far as it could be read; an option with a fault has its default."""

    config: Config
    faults: tuple[Fault, ...]

    def strict(self) -> Config:
        """The configuration, for whoever delivers or checks.

        Raises `ConfigurationError` with one line a fault, if there is any.
        """
        if self.faults:
            raise ConfigurationError("\n".join(each.message for each in self.faults))
        return self.config


class Wrong(Exception):
    """A value that is not one of its option's; the text says what is expected."""


@dataclass(frozen=True)
class Option:
    """How one key of the block is read."""

    schema: Any
    """A Dagster config type, checked first."""
    convert: Callable[[Any], Any] = lambda value: value
    """From the checked value to the field of `Config`; raises `Wrong`."""


def read(block: Block, environ: Environ | None = None) -> Reading:
    """Read the block as far as it goes; never raises for what somebody wrote into it.

    `block` is what stands in dagster.yaml, with its `{env: X}` unresolved.
    """
    environ = os.environ if environ is None else environ
    faults: list[Fault] = []
    raw = _merge(block, environ, faults)
    values: dict[str, Any] = {}
    for name, value in raw.items():
        try:
            values[name] = _convert(name, value, environ)
        except _Unset as unset:
            faults.append(Fault(name, str(unset), is_unset_variable=True))
        except Wrong as wrong:
            faults.append(Fault(name, f"datahub: {name}: {wrong}"))
        except Exception:  # noqa: BLE001  # an error that nobody thought of stops no process
            faults.append(Fault(name, f"datahub: {name}: is not what this option takes"))
    target = _target(values, raw, environ, faults)
    return Reading(Config(**values, target=target), tuple(faults))


def inline_secrets(block: Block) -> list[str]:
    """The places where dagster.yaml holds a secret itself instead of naming a variable."""
    given = block if isinstance(block, Mapping) else {}
    targets = {name: given[name] for name in TARGETS if name in given}
    return [": ".join(path) for path, value in _texts(targets) if _is_secret(path, value)]


def _texts(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text of the block with where it stands, but for the names of variables."""
    if isinstance(value, Mapping) and not _is_variable(value):
        for key, each in value.items():
            yield from _texts(each, (*path, str(key)))
    elif isinstance(value, str):
        yield path, value


def _is_secret(path: tuple[str, ...], value: str) -> bool:
    return _is_private(path[-1]) or bool(re.match(r"\w+://[^/\s]*:[^/\s]*@", value))


def _is_private(key: object) -> bool:
    return bool(re.search(rf"(?i)({PRIVATE})$", str(key)))


def discreet(block: Block) -> Block:
    """The block without what may be secret, for others to see, whatever somebody wrote there."""
    if isinstance(block, Mapping):
        is_hidden = {key: key in _SECRET or _is_private(key) for key in block}
        return {
            key: _masked(each) if is_hidden[key] else discreet(each) for key, each in block.items()
        }
    if isinstance(block, list):
        return [discreet(each) for each in block]
    return without_secrets(block) if isinstance(block, str) else block


def _masked(value: Any) -> Any:
    if _is_variable(value):
        return value
    if isinstance(value, Mapping):
        return {key: _masked(each) for key, each in value.items()}
    return "***"


class _Unset(Exception):
    """An environment variable that the block names is not set here."""


def _merge(block: Block, environ: Environ, faults: list[Fault]) -> dict[str, Any]:
    if block is not None and not isinstance(block, Mapping):
        faults.append(Fault("datahub", "datahub: expected a block of options"))
    given = dict(block) if isinstance(block, Mapping) else {}
    for name in [each for each in given if each not in OPTIONS]:
        del given[name]
        faults.append(Fault(str(name), _unknown(str(name))))
    merged = {name: value for name, value in given.items() if value is not None}
    for name, option in OPTIONS.items():
        variable = PREFIX + name.upper()
        if variable in environ and (name == "enabled" or name not in merged):
            try:
                merged[name] = _from_variable(option, environ[variable])
            except Wrong as wrong:
                faults.append(Fault(name, f"{variable}: {wrong}"))
    return merged


def _unknown(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, OPTIONS, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"datahub: {name}: there is no such option.{hint}"


def _from_variable(option: Option, text: str) -> Any:
    """The value that an environment variable's text stands for."""
    if option.schema is str:
        return text
    try:
        return json.loads(text.lower() if text.lower() in {"true", "false"} else text)
    except ValueError:
        raise Wrong("expected JSON, such as true, 5 or {...}") from None


def _convert(name: str, value: Any, environ: Environ) -> Any:
    option = OPTIONS[name]
    if _is_variable(value) and option.schema is not str:
        resolved = _from_variable(option, _resolve(value, environ))
    else:
        resolved = _resolve(value, environ)
    result = validate_config({name: Field(option.schema)}, {name: resolved})
    if not result.success:
        raise Wrong(_explain((result.errors or [])[0]))
    return option.convert(resolved)


def _is_variable(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == {"env"} and isinstance(value["env"], str)


def _resolve(value: Any, environ: Environ) -> Any:
    if _is_variable(value):
        variable = value["env"]
        if variable not in environ:
            raise _Unset(f"datahub: the environment variable {variable} is not set here")
        return environ[variable]
    if isinstance(value, Mapping):
        return {key: _resolve(each, environ) for key, each in value.items()}
    if isinstance(value, list):
        return [_resolve(each, environ) for each in value]
    return value


def _explain(error: EvaluationError) -> str:
    """What is expected and where, without the value, which may be a secret."""
    names = [getattr(each, "field_name", "") for each in error.stack.entries][1:]
    where = ".".join(name for name in names if name)
    expected = re.search(r"[Ee]xpected(?: type)?:? \"(.*)\"\.?$", error.message, re.DOTALL)
    unexpected = re.search(r"unexpected config entr(?:y|ies) \"?([^ ]*?)\"? at", error.message)
    parts = [f"{where}:" if where else "", f"there is no {unexpected[1]};" if unexpected else ""]
    parts.append(f"expected {expected[1]}" if expected else "is not what this option takes")
    return " ".join(part for part in parts if part)


def _one_of(*names: str) -> Callable[[str], str]:
    def convert(value: str) -> str:
        if value not in names:
            raise Wrong(f"expected one of {', '.join(names)}")
        return value

    return convert


def _fabric(value: str) -> str:
    return _one_of(*FABRICS)(value.upper())


def _seconds(value: float) -> timedelta:
    # Written so that it refuses what is no number, too.
    if not 0 <= value <= LONGEST:
        raise Wrong(f"expected seconds, 0 to {LONGEST}")
    return timedelta(seconds=value)


def _positive(value: float) -> timedelta:
    if not 0 < value <= LONGEST:
        raise Wrong(f"expected seconds, more than 0 and at most {LONGEST}")
    return timedelta(seconds=value)


def _attempts(value: int) -> int:
    if value < 1:
        raise Wrong("expected 1 or more")
    return value


def _address(value: str) -> str:
    if not re.match(r"https?://[^/\s]+", value):
        raise Wrong("expected an address such as http://localhost:3000")
    return value.rstrip("/")


def _function(value: str) -> str:
    if not re.fullmatch(r"[\w.]+:[\w.]+", value):
        raise Wrong("expected package.module:function")
    return value


def _pattern(value: Mapping[str, list[str]]) -> Pattern:
    for each in (*value.get("allow", ()), *value.get("deny", ())):
        try:
            re.compile(each)
        except re.error as error:
            raise Wrong(f"{each!r} is not a regular expression: {error}") from None
        _check_compiled(each)
    return Pattern(tuple(value.get("allow", [".*"])), tuple(value.get("deny", [])))


def _check_compiled(pattern: str) -> None:
    """What would fail in every run is found here, unless nothing is delivered from here."""
    try:
        import regex
    except ImportError:
        return
    try:
        _compiled(pattern)
    except regex.error as error:
        raise Wrong(f"{pattern!r} is a regular expression that can't be used: {error}") from None


def _redaction(value: Mapping[str, Any]) -> Redaction:
    for pattern in value.get("patterns", ()):
        try:
            fits_nothing = re.compile(pattern).fullmatch("")
        except re.error as error:
            raise Wrong(f"patterns: {pattern!r} is not a regular expression: {error}") from None
        if fits_nothing:
            raise Wrong(f"patterns: {pattern!r} fits an empty text, and so everywhere")
        _check_compiled(pattern)
    if any(not re.search(r"\w", key) for key in value.get("keys", ())):
        raise Wrong("keys: expected names with a letter or digit")
    patterns = tuple(map(_plain, value.get("patterns", ())))
    return Redaction(value.get("enabled", True), patterns, tuple(value.get("keys", ())))


def _rest(value: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: each for key, each in value.items() if each is not None}
    for name, check in (("server", _address), ("timeout_sec", _positive)):
        if name in given:
            _check(name, check, given[name])
    return given


def _check(name: str, check: Callable[[Any], object], value: Any) -> None:
    try:
        check(value)
    except Wrong as wrong:
        raise Wrong(f"{name}: {wrong}") from None


def _file(value: Mapping[str, str]) -> FileTarget:
    try:
        return FileTarget(str(Path(value["path"]).expanduser()))
    except RuntimeError:
        raise Wrong("path: there is no home directory for its ~ in this process") from None


def _kafka(value: Mapping[str, Any]) -> dict[str, Any]:
    routes = value.get("topic_routes", {})
    if routes and MCP_KEY not in routes:
        raise Wrong(f"topic_routes: name the topic of {MCP_KEY}")
    return {**value["connection"], "topic": routes.get(MCP_KEY, MCP_TOPIC)}


def _target(
    values: dict[str, Any], raw: Mapping[str, Any], environ: Environ, faults: list[Fault]
) -> Target | None:
    """The one target of the block, or GMS where only the environment names one."""
    named = [each for each in TARGETS if each in raw]
    rest, kafka, file = (values.pop(each, None) for each in TARGETS)
    if len(named) > 1:
        faults.append(Fault(named[1], f"datahub: {' and '.join(named)}: configure only one"))
        return None
    if kafka is not None:
        return KafkaTarget(**kafka)
    if file is not None:
        target: FileTarget = file
        return target
    if named and named != [TARGETS[0]]:
        return None
    return _rest_target(rest, named, environ, faults)


def _rest_target(
    rest: Mapping[str, Any] | None, named: list[str], environ: Environ, faults: list[Fault]
) -> RestTarget | None:
    if named and rest is None:
        return None
    merged = dict(rest or {})
    for key, variable in (("server", "DATAHUB_GMS_URL"), ("token", "DATAHUB_GMS_TOKEN")):
        if environ.get(variable):
            merged.setdefault(key, environ[variable])
    if "server" in merged:
        try:
            return RestTarget(**{**merged, "server": _address(merged["server"])})
        except Wrong as wrong:
            faults.append(Fault(TARGETS[0], f"DATAHUB_GMS_URL: {wrong}"))
    elif named:
        text = "datahub: datahub_client_config: server: name it here or in DATAHUB_GMS_URL"
        faults.append(Fault(TARGETS[0], text))
    return None


PRIVATE = r"password|secret|token|authorization|api.?key|user\.info|key\.pem"
"""How the names of what is secret end, in HTTP and in Kafka's options."""
LONGEST = 100 * 365 * 24 * 3600
"""Seconds of the longest duration: a hundred years, which every clock and lock can count."""
FABRICS = (
    *("DEV", "TEST", "QA", "UAT", "EI", "PRE", "STG", "NON_PROD", "PROD", "CORP", "RVW"),
    *("PRD", "TST", "SIT", "SBX", "SANDBOX", "CERT"),
)
"""DataHub's FabricType."""
EMIT_MODES = ("SYNC_WAIT", "SYNC_PRIMARY", "ASYNC", "ASYNC_WAIT")
"""DataHub's EmitMode."""
TARGETS = ("datahub_client_config", "datahub_kafka_config", "datahub_file_config")

_SECRET = ("extra_headers", "producer_config", "schema_registry_config")
"""Keys of the block below which nobody is shown a value, beside those named in `PRIVATE`."""

_PATTERN = {"allow": Field([str], is_required=False), "deny": Field([str], is_required=False)}
_REDACT = {
    "enabled": Field(bool, is_required=False),
    "patterns": Field([str], is_required=False),
    "keys": Field([str], is_required=False),
}
_CLIENT_CONFIG = {
    "server": Field(Noneable(str), is_required=False),
    "token": Field(Noneable(str), is_required=False),
    "timeout_sec": Field(float, is_required=False),
    "extra_headers": Field(Map(str, str), is_required=False),
    "ca_certificate_path": Field(Noneable(str), is_required=False),
    "client_certificate_path": Field(Noneable(str), is_required=False),
    "client_key_path": Field(Noneable(str), is_required=False),
    "disable_ssl_verification": Field(bool, is_required=False),
}
_KAFKA_CONFIG = {
    "connection": {
        "bootstrap": str,
        "schema_registry_url": str,
        "producer_config": Field(Permissive(), is_required=False),
        "schema_registry_config": Field(Permissive(), is_required=False),
    },
    "topic_routes": Field(Map(str, str), is_required=False),
}

OPTIONS: Mapping[str, Option] = {
    "enabled": Option(bool),
    "datahub_client_config": Option(_CLIENT_CONFIG, _rest),
    "datahub_kafka_config": Option(_KAFKA_CONFIG, _kafka),
    "datahub_file_config": Option({"path": str}, _file),
    "dagster_url": Option(str, _address),
    "env": Option(str, _fabric),
    "platform_instance": Option(str),
    "capture_asset_materialization": Option(bool),
    "capture_input_output": Option(bool),
    "asset_lineage_extractor": Option(str, _function),
    "asset_keys_to_dataset_urn_converter": Option(str, _function),
    "capture_dataset_from_asset_key": Option(bool),
    "platform_instance_map": Option(Map(str, str)),
    "convert_urns_to_lowercase": Option(bool),
    "connect_ops_to_ops": Option(bool),
    "enable_asset_query_metadata_parsing": Option(bool),
    "emit_queries": Option(bool),
    "emit_assets": Option(bool),
    "materialize_dependencies": Option(bool),
    "remove_wiped_assets": Option(bool),
    "job_pattern": Option(_PATTERN, _pattern),
    "asset_pattern": Option(_PATTERN, _pattern),
    "urn_prefix": Option(str),
    "is_cloud": Option(bool),
    "branch": Option(str),
    "emit_mode": Option(str, _one_of(*EMIT_MODES)),
    "dispatch": Option(str, _one_of("auto", "worker", "off")),
    "poll_interval": Option(float, _positive),
    "touch_interval": Option(float, _seconds),
    "exit_timeout": Option(float, _seconds),
    "max_attempts": Option(int, _attempts),
    "retention": Option(float, _positive),
    "resend_after": Option(float, _seconds),
    "redact": Option(_REDACT, _redaction),
    "debug_mode": Option(bool),
}


def obstacle_in(config: Config) -> str | None:
    """Why nothing is delivered under that configuration from any process, or None."""
    if not config.enabled:
        return "datahub: enabled is false: nothing is captured or delivered"
    if config.target is None:
        return (
            "datahub: no target is configured: set datahub_client_config (or DATAHUB_GMS_URL),"
            " datahub_kafka_config or datahub_file_config"
        )
    return None
