"""Reads the block, and collects everything that is wrong in it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from datahub_eventlog.config.constraints import http_address
from datahub_eventlog.config.environment import (
    Environ,
    UnsetVariable,
    WrongVariable,
    from_json,
    is_variable,
    resolve,
)
from datahub_eventlog.config.options import TARGETS, Config, Option, options
from datahub_eventlog.config.patterns import obstacle_for_regex
from datahub_eventlog.config.targets import KafkaBlock, KafkaTarget, RestTarget
from datahub_eventlog.errors import ConfigurationError

Block: TypeAlias = Any
"""The block as YAML has it: a mapping, or anything else that was written by mistake."""

CLIENT_CONFIG = TARGETS[0]
GMS_VARIABLES = {"server": "DATAHUB_GMS_URL", "token": "DATAHUB_GMS_TOKEN"}
"""DataHub's own variables, by the keys of `CLIENT_CONFIG` that they fill in."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with one option."""

    option: str
    message: str
    is_unset_variable: bool = False
    """An `{env: X}` whose X this process does not have: normal where nothing is delivered."""


@dataclass(frozen=True)
class Reading:
    """What was read: an option with a fault has its default."""

    config: Config
    faults: tuple[Fault, ...]

    @cached_property
    def delivery_faults(self) -> tuple[Fault, ...]:
        """All faults: also patterns that only delivery can't use, which takes longer to find."""
        return (*self.faults, *_unusable_patterns(self.config))

    def strict(self) -> Config:
        """The configuration, to deliver or to check.

        Raises `ConfigurationError` with one line a fault, if there is any.
        """
        if self.delivery_faults:
            raise ConfigurationError("\n".join(fault.message for fault in self.delivery_faults))
        return self.config


def read(block: Block, environ: Environ | None = None) -> Reading:
    """Read every option that can be read; never raises, whatever the block contains.

    `block` is what stands in dagster.yaml, with its `{env: X}` unresolved. An option comes from
    there, else from its variable; only `DATAHUB_EVENTLOG_ENABLED` wins over the file.
    """
    environ = os.environ if environ is None else environ
    faults: list[Fault] = []
    settings = _settings(block, environ, faults)
    values: dict[str, Any] = {}
    for option, place, value in settings:
        if option.name not in values:
            try:
                values[option.name] = _parse(option, value, environ)
            except Exception as error:  # noqa: BLE001 - no process stops for a wrong block
                faults += _faults(option.name, place, error)
    named = [name for name in TARGETS if name in {option.name for option, _, _ in settings}]
    if len(named) > 1:
        faults.append(Fault(named[1], f"datahub: {' and '.join(named)}: configure only one"))
    targets = [values.pop(name) for name in TARGETS if name in values]
    target = targets[0] if len(named) == 1 and targets else None
    if isinstance(target, KafkaBlock):
        target = target.target()
    return Reading(Config(**values, target=target), tuple(faults))


def readable_target(config: Config, environ: Environ | None = None) -> RestTarget:
    """Where what DataHub holds can be read, which is GMS, also for those who deliver to Kafka.

    Raises `ConfigurationError` if that is not known.
    """
    if isinstance(config.target, RestTarget):
        return config.target
    environ = os.environ if environ is None else environ
    filled = _with_gms_variables({}, environ) if isinstance(config.target, KafkaTarget) else {}
    if "server" not in filled:
        where = "Kafka" if isinstance(config.target, KafkaTarget) else "what is delivered to"
        raise ConfigurationError(
            f"{where} can't be read: only DataHub's GMS can. Deliver to datahub_client_config, or"
            f" to Kafka with the address of GMS in {GMS_VARIABLES['server']}"
        )
    target: RestTarget = options()[CLIENT_CONFIG].parse(filled)
    return target


def _unusable_patterns(config: Config) -> Iterator[Fault]:
    places = {
        "job_pattern: allow": config.job_pattern.allow,
        "job_pattern: deny": config.job_pattern.deny,
        "asset_pattern: allow": config.asset_pattern.allow,
        "asset_pattern: deny": config.asset_pattern.deny,
        "redact: patterns": config.redact.patterns,
    }
    for place, patterns in places.items():
        for obstacle in filter(None, map(obstacle_for_regex, patterns)):
            yield Fault(place.partition(":")[0], f"datahub: {place}: {obstacle}")


def _settings(block: Block, environ: Environ, faults: list[Fault]) -> list[tuple[Option, str, Any]]:
    """Each option that is set, where, and to what; a variable's value is `{env: <its name>}`.

    What wins comes first.
    """
    if block is not None and not isinstance(block, Mapping):
        faults.append(Fault("datahub", "datahub: expected a block of options"))
    written = dict(block) if isinstance(block, Mapping) else {}
    faults += [Fault(str(name), _unknown(str(name))) for name in written if name not in options()]
    given = {name: value for name, value in written.items() if value is not None}
    settings = [
        (option, option.variable, {"env": option.variable})
        for name, option in options().items()
        if option.variable in environ and (name == "enabled" or name not in given)
    ]
    settings += [
        (option, f"datahub: {name}", given[name])
        for name, option in options().items()
        if name in given
    ]
    has_target = any(option.name in TARGETS for option, _, _ in settings)
    if environ.get(GMS_VARIABLES["server"]) and not has_target:
        settings.append((options()[CLIENT_CONFIG], f"datahub: {CLIENT_CONFIG}", {}))
    return settings


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, options(), n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"datahub: {name}: there is no such option.{hint}"


def _parse(option: Option, value: Any, environ: Environ) -> Any:
    resolved = resolve(value, environ)
    if is_variable(value) and not option.takes_text:
        resolved = from_json(resolved)
    if option.name == CLIENT_CONFIG and isinstance(resolved, Mapping):
        resolved = _with_gms_variables(resolved, environ)
    return option.parse(resolved)


def _with_gms_variables(client_config: Mapping[str, Any], environ: Environ) -> dict[str, Any]:
    """The client config with server and token from DATAHUB_GMS_URL and DATAHUB_GMS_TOKEN."""
    filled = dict(client_config)
    for key, variable in GMS_VARIABLES.items():
        if filled.get(key) is None:
            filled.pop(key, None)
            if text := environ.get(variable):
                filled[key] = text
                if key == "server":
                    _check_address(variable, text)
    return filled


def _check_address(variable: str, text: str) -> None:
    """Blame the variable, and not the key that it fills in; raises `WrongVariable`."""
    try:
        http_address(text)
    except ValueError as error:
        raise WrongVariable(f"{variable}: {error}") from None


WORDS: Mapping[str, str] = {
    "bool_type": "expected true or false",
    "dataclass_type": "expected keys and values",
    "dict_type": "expected keys and values",
    "greater_than_equal": "expected {ge} or more",
    "int_type": "expected a whole number",
    "invalid_key": "expected strings as keys",
    "missing": "is missing",
    "string_type": "expected a string",
    "tuple_type": "expected a list",
    "value_error": "{error}",
}
"""What is expected, by Pydantic's type of error. Its own message may repeat the value."""


def _faults(name: str, place: str, error: Exception) -> list[Fault]:
    match error:
        case UnsetVariable():
            return [Fault(name, str(error), is_unset_variable=True)]
        case WrongVariable():
            return [Fault(name, f"{place}: {error}")]
        case ValidationError():
            return [Fault(name, f"{place}: {_explain(detail)}") for detail in error.errors()]
        case _:
            return [Fault(name, f"{place}: is not what this option takes")]


def _explain(detail: ErrorDetails) -> str:
    """What is expected and where, without the value, which may be a secret."""
    path = [key for key in detail["loc"] if isinstance(key, str) and key != "[key]"]
    if detail["type"] == "unexpected_keyword_argument":
        text = f"there is no {path.pop()}"
    elif detail["type"] == "missing" and path == ["server"]:
        text = f"name it here or in {GMS_VARIABLES['server']}"
    else:
        words = WORDS.get(detail["type"], "is not what this option takes")
        text = words.format(**detail.get("ctx", {}))
    return ": ".join([*path, text])
