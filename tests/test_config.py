from __future__ import annotations

import contextlib
import json
import re
import warnings
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from datahub_eventlog.config import (
    PREFIX,
    CatalogOptions,
    Config,
    FileTarget,
    HealthOptions,
    IncidentOptions,
    KafkaTarget,
    Pattern,
    Redaction,
    RestTarget,
    VerifyOptions,
    inline_secrets,
    masked,
    options,
    read,
)
from datahub_eventlog.config.options import TARGETS
from datahub_eventlog.errors import ConfigurationError, PatternTooSlow
from datahub_eventlog.redact import Redactor

EXAMPLES: dict[str, tuple[Any, Any]] = {
    "enabled": (False, False),
    "dagster_url": ("https://d.example.com/", "https://d.example.com"),
    "env": ("dev", "DEV"),
    "platform_instance": ("eu", "eu"),
    "capture_asset_materialization": (False, False),
    "capture_input_output": (False, False),
    "asset_lineage_extractor": ("a.b:c", "a.b:c"),
    "asset_keys_to_dataset_urn_converter": ("a:b", "a:b"),
    "capture_dataset_from_asset_key": (False, False),
    "platform_instance_map": ({"snowflake": "eu"}, {"snowflake": "eu"}),
    "convert_urns_to_lowercase": (True, True),
    "use_dbt_datasets": (True, True),
    "connect_ops_to_ops": (True, True),
    "enable_asset_query_metadata_parsing": (False, False),
    "emit_queries": (True, True),
    "emit_assets": (False, False),
    "materialize_dependencies": (True, True),
    "remove_wiped_assets": (True, True),
    "job_pattern": ({"deny": ["x"]}, Pattern(deny=("x",))),
    "asset_pattern": ({"allow": ["y"]}, Pattern(allow=("y",))),
    "urn_prefix": ("prod", "prod"),
    "is_cloud": (True, True),
    "branch": ("main", "main"),
    "emit_mode": ("ASYNC", "ASYNC"),
    "dispatch": ("worker", "worker"),
    "poll_interval": (0.5, timedelta(seconds=0.5)),
    "touch_interval": (2, timedelta(seconds=2)),
    "exit_timeout": (0, timedelta(0)),
    "max_attempts": (3, 3),
    "retention": (86400, timedelta(days=1)),
    "resend_after": (0, timedelta(0)),
    "redact": (
        {"patterns": [r"C-\d+"], "keys": ["ssn"]},
        Redaction(patterns=(r"C-\d+",), keys=("ssn",)),
    ),
    "catalog": (
        {"interval": 60, "remove_stale_metadata": False, "fail_safe_threshold": 75},
        CatalogOptions(
            interval=timedelta(minutes=1), remove_stale_metadata=False, fail_safe_threshold=75.0
        ),
    ),
    "verify": (
        {"sample": 20, "interval": 600},
        VerifyOptions(sample=20, interval=timedelta(minutes=10)),
    ),
    "health": (
        {"freshness": False, "backfills": False},
        HealthOptions(freshness=False, backfills=False),
    ),
    "incidents": (
        {"checks": ["error", "blocking"], "freshness": True},
        IncidentOptions(checks=("error", "blocking"), freshness=True),
    ),
    "debug_mode": (True, True),
}


def test_every_option_of_the_configuration_can_be_set_and_has_an_example() -> None:
    assert {field.name for field in fields(Config)} - {"target"} == set(options()) - set(TARGETS)
    assert set(EXAMPLES) == set(options()) - set(TARGETS)


@pytest.mark.parametrize("option", EXAMPLES)
def test_an_option_comes_from_the_file(option: str) -> None:
    written, expected = EXAMPLES[option]
    assert getattr(read({option: written}, {}).strict(), option) == expected
    assert getattr(Config(), option) != expected


@pytest.mark.parametrize("option", EXAMPLES)
def test_an_option_comes_from_its_variable_where_the_file_says_nothing(option: str) -> None:
    written, expected = EXAMPLES[option]
    text = written if isinstance(written, str) else json.dumps(written)
    environ = {f"DATAHUB_EVENTLOG_{option.upper()}": text}
    assert getattr(read({}, environ).strict(), option) == expected


def test_the_file_wins_over_a_variable() -> None:
    environ = {"DATAHUB_EVENTLOG_ENV": "DEV"}
    assert read({"env": "QA"}, environ).strict().env == "QA"


@pytest.mark.parametrize("text", ["false", "False", "FALSE"])
def test_only_the_kill_switch_wins_over_the_file(text: str) -> None:
    environ = {"DATAHUB_EVENTLOG_ENABLED": text}
    assert read({"enabled": True}, environ).strict().enabled is False


def test_the_gms_variables_fill_the_client_config() -> None:
    environ = {"DATAHUB_GMS_URL": "http://gms:8080/", "DATAHUB_GMS_TOKEN": "secret"}
    assert read(None, environ).strict().target == RestTarget("http://gms:8080", "secret")
    named = read({"datahub_client_config": {"server": "http://other", "timeout_sec": 5}}, environ)
    assert named.strict().target == RestTarget("http://other", "secret", 5)


def test_kafka_and_file_targets_are_not_disturbed_by_the_gms_variables(tmp_path: Path) -> None:
    environ = {"DATAHUB_GMS_URL": "http://gms:8080"}
    connection = {"bootstrap": "b:1", "schema_registry_url": "http://r", "producer_config": {}}
    kafka = read({"datahub_kafka_config": {"connection": connection}}, environ).strict()
    assert kafka.target == KafkaTarget("b:1", "http://r")
    file = read({"datahub_file_config": {"path": str(tmp_path)}}, environ).strict()
    assert file.target == FileTarget(str(tmp_path))


def test_a_variable_stands_for_a_string_anywhere() -> None:
    block = {
        "datahub_client_config": {"server": {"env": "S"}, "extra_headers": {"x": {"env": "H"}}}
    }
    target = read(block, {"S": "http://s", "H": "v"}).strict().target
    assert target == RestTarget("http://s", extra_headers={"x": "v"})


def test_an_unset_variable_is_a_fault_of_its_own_kind() -> None:
    reading = read({"datahub_client_config": {"server": {"env": "NOT_HERE"}}}, {})
    (fault,) = reading.faults
    assert fault.is_unset_variable
    assert "NOT_HERE" in fault.message
    with pytest.raises(ConfigurationError, match="NOT_HERE"):
        reading.strict()


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"evn": "PROD"}, "evn: there is no such option. Did you mean env?"),
        ({"enabled": "yes"}, "enabled: expected true or false"),
        ({"max_attempts": 0}, "max_attempts: expected 1 or more"),
        ({"poll_interval": -1}, "poll_interval: expected seconds, more than 0"),
        ({"env": "NARNIA"}, "env: expected one of DEV"),
        ({"dispatch": "sometimes"}, "dispatch: expected one of auto, worker, off"),
        ({"dagster_url": "dagster.example.com"}, "dagster_url: expected an address"),
        ({"asset_lineage_extractor": "a.b.c"}, "expected package.module:function"),
        ({"job_pattern": {"allow": ["("]}}, "is not a regular expression"),
        ({"datahub_client_config": {"sever": "http://x"}}, "there is no sever"),
        ({"poll_interval": float("nan")}, "poll_interval: expected seconds, more than 0"),
        ({"exit_timeout": float("inf")}, "exit_timeout: expected seconds, 0 to 3153600000"),
        ({"retention": 1e300}, "retention: expected seconds, more than 0 and at most 3153600000"),
        ({"datahub_file_config": {"path": "~no-such-user/x"}}, "path: there is no home directory"),
        ({"datahub_client_config": {"server": "gms:8080"}}, "server: expected an address"),
        (
            {"datahub_client_config": {"server": "http://x", "timeout_sec": 0}},
            "datahub_client_config: timeout_sec: expected seconds, more than 0",
        ),
        ({"datahub_client_config": {"server": None}}, "server: name it here"),
        ({"datahub_client_config": {}}, "server: name it here or in DATAHUB_GMS_URL"),
        (
            {
                "datahub_client_config": {"server": "http://x"},
                "datahub_file_config": {"path": "/x"},
            },
            "configure only one",
        ),
        ("a string", "expected a block of options"),
    ],
)
def test_what_is_wrong_is_named(block: Any, message: str) -> None:
    reading = read(block, {})
    assert message in "\n".join(fault.message for fault in reading.faults)
    assert isinstance(reading.config, Config)
    with pytest.raises(ConfigurationError):
        reading.strict()


@pytest.mark.parametrize(
    ("block", "messages"),
    [
        (
            {"job_pattern": {"allow": ["(", "ok"], "deny": [5], "alow": []}},
            [
                "datahub: job_pattern: allow: '(' is not a regular expression",
                "datahub: job_pattern: deny: expected a string",
                "datahub: job_pattern: there is no alow",
            ],
        ),
        (
            {"datahub_kafka_config": {"connection": {"bootstrap": 5}}, "max_attempts": True},
            [
                "datahub: datahub_kafka_config: connection: bootstrap: expected a string",
                "datahub: datahub_kafka_config: connection: schema_registry_url: is missing",
                "datahub: max_attempts: expected a whole number",
            ],
        ),
        (
            {"platform_instance_map": ["x"], "redact": "on"},
            [
                "datahub: platform_instance_map: expected keys and values",
                "datahub: redact: expected keys and values",
            ],
        ),
    ],
)
def test_all_that_is_wrong_is_named_at_once(block: Any, messages: list[str]) -> None:
    found = [fault.message for fault in read(block, {}).faults]
    assert len(found) == len(messages)
    assert [a for a, b in zip(found, messages, strict=True) if not a.startswith(b)] == []


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("DATAHUB_EVENTLOG_MAX_ATTEMPTS", "many", "expected JSON, such as true, 5 or {...}"),
        ("DATAHUB_EVENTLOG_MAX_ATTEMPTS", "0", "expected 1 or more"),
        ("DATAHUB_EVENTLOG_IS_CLOUD", "null", "expected true or false"),
        ("DATAHUB_GMS_URL", "gms:8080", "expected an address such as http://localhost:3000"),
    ],
)
def test_what_is_wrong_in_a_variable_names_the_variable(
    variable: str, text: str, message: str
) -> None:
    (fault,) = read({}, {variable: text}).faults
    assert f"{variable}: {message}" in fault.message


def test_a_kill_switch_that_can_not_be_read_leaves_the_files() -> None:
    reading = read({"enabled": False}, {"DATAHUB_EVENTLOG_ENABLED": "no"})
    assert reading.faults
    assert reading.config.enabled is False


NAMES = (
    *options(),
    *("server", "token", "timeout_sec", "extra_headers", "path", "connection", "bootstrap"),
    *("schema_registry_url", "producer_config", "topic_routes", "allow", "deny"),
)
KEYS = st.sampled_from(NAMES)
SCALARS = st.sampled_from([None, True, {}, {"env": "HERE"}, {"env": "NOT_HERE"}, "http://x", "~"])
ANYTHING = st.recursive(
    SCALARS | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS | st.integers() | st.text(), inner),
)


@given(st.dictionaries(KEYS, ANYTHING) | ANYTHING)
def test_whatever_yaml_makes_of_a_block_it_is_read(block: Any) -> None:
    reading = read(block, {"HERE": "eu"})
    assert isinstance(reading.config, Config)
    assert all(fault.message for fault in reading.faults)


@given(st.sampled_from([*options()]), st.text() | st.from_type(float).map(json.dumps))
def test_whatever_stands_in_a_variable_it_is_read(option: str, text: str) -> None:
    assert isinstance(read({}, {PREFIX + option.upper(): text}).config, Config)


def test_a_key_of_the_client_config_without_a_value_is_as_if_it_were_not_there() -> None:
    block = {"datahub_client_config": {"server": None, "token": None}}
    environ = {"DATAHUB_GMS_URL": "http://gms:8080"}
    assert read(block, environ).strict().target == RestTarget("http://gms:8080")


def test_a_wrong_option_costs_only_itself() -> None:
    config = read({"env": "NARNIA", "platform_instance": "eu"}, {}).config
    assert (config.env, config.platform_instance) == ("PROD", "eu")


def test_no_secret_is_printed() -> None:
    block = {
        "datahub_client_config": {"server": "http://x", "token": "hush", "timeout_sec": "hush"}
    }
    reading = read(block, {})
    assert "hush" not in repr(reading)
    good = read({"datahub_client_config": {"server": "http://x", "token": "hush"}}, {})
    assert good.faults == ()
    assert "hush" not in repr(good)


def test_secrets_that_stand_in_the_file_are_noticed() -> None:
    client = {
        "server": "https://me:hush@gms",
        "token": "hush",
        "extra_headers": {"Authorization": "hush", "X-Team": "sales"},
    }
    kafka = {"connection": {"producer_config": {"sasl.password": "hush", "acks": "all"}}}
    assert inline_secrets({"datahub_client_config": client, "datahub_kafka_config": kafka}) == [
        "datahub_client_config: server",
        "datahub_client_config: token",
        "datahub_client_config: extra_headers: Authorization",
        "datahub_kafka_config: connection: producer_config: sasl.password",
    ]
    variable = {"env": "T"}
    safe = {
        "server": "https://gms",
        "token": variable,
        "extra_headers": {"Authorization": variable},
    }
    assert inline_secrets({"datahub_client_config": safe}) == []
    public = {"sasl.oauthbearer.token.endpoint.url": "https://idp", "ssl.key.location": "/key"}
    kafka = {"connection": {"producer_config": public}}
    names = {"secret": "eu", "token": "us"}
    assert inline_secrets({"datahub_kafka_config": kafka, "platform_instance_map": names}) == []
    assert inline_secrets(None) == []
    assert inline_secrets("a string") == []


@pytest.mark.parametrize(
    "block",
    [
        {"datahub_client_config": {"server": "https://me:hush@gms", "token": "hush"}},
        {"datahub_client_config": {"extra_headers": {"X-Team": "hush"}, "password": "hush"}},
        [{"datahub_client_config": {"token": ["hush"]}}],
        {"datahub_kafka_config": {"connection": {"producer_config": {"sasl.password": "hush"}}}},
        {"datahub_kafka_config": {"schema_registry_config": {"basic.auth.user.info": "me:hush"}}},
        "https://me:hush@gms",
    ],
)
def test_what_others_are_shown_of_a_block_has_no_secret_in_it(block: Any) -> None:
    assert "hush" not in str(masked(block))


def test_what_is_no_secret_is_shown() -> None:
    client = {"server": "https://gms", "token": {"env": "TOKEN"}, "timeout_sec": 5}
    block = {"datahub_client_config": client, "job_pattern": {"deny": ["x"]}, "emit_assets": None}
    assert masked(block) == block


def test_kafka_takes_what_datahubs_own_configuration_takes() -> None:
    connection = {
        "bootstrap": "b:1",
        "schema_registry_url": "http://r",
        "schema_registry_config": {"basic.auth.user.info": {"env": "R"}},
        "producer_config": {"sasl.password": {"env": "P"}},
    }
    routes = {"MetadataChangeProposal": "mine", "MetadataChangeEvent": "other"}
    block = {"datahub_kafka_config": {"connection": connection, "topic_routes": routes}}
    config = read(block, {"R": "user:hush", "P": "hush"}).strict()
    registry = {"basic.auth.user.info": "user:hush"}
    assert config.target == KafkaTarget(
        "b:1", "http://r", {"sasl.password": "hush"}, registry, "mine"
    )
    assert "hush" not in repr(config)


def test_topic_routes_without_the_one_that_is_used_are_refused() -> None:
    connection = {"bootstrap": "b:1", "schema_registry_url": "http://r"}
    routes = {"MetadataChangeEvent": "other"}
    block = {"datahub_kafka_config": {"connection": connection, "topic_routes": routes}}
    with pytest.raises(ConfigurationError, match="name the topic of MetadataChangeProposal"):
        read(block, {}).strict()


def test_patterns_match_at_the_start_and_ignore_case() -> None:
    pattern = Pattern(allow=("daily_",), deny=("daily_test",))
    assert pattern.allows("Daily_sales")
    assert not pattern.allows("daily_TEST_1")
    assert not pattern.allows("my_daily_sales")


@pytest.mark.parametrize(
    "pattern",
    [
        *("daily", "^daily_.*$", "(?!daily_test).*", ".*(?<!_test)$", "(?i:DAILY).*", "d.ily"),
        *(
            "(daily|hourly)_\\w+",
            "daily_(a)\\1",
            "[^_]+_[a-z]{3,}$",
            "",
            "$",
            "\\bdaily\\b",
            "(?x) d aily",
        ),
        *(
            "[[:alpha:]]x",
            "daily_{e<=1}",
            r"d{1}a{1,}i{,1}ly\{x}",
            r"\N{LATIN SMALL LETTER D}aily",
            "\u017fales|K",
            "(?P<a>d)aily",
            "(?:d|da)+?ily",
            "\\Adaily\\Z",
        ),
    ],
)
def test_patterns_have_the_syntax_and_the_meaning_that_they_have_in_recipes(pattern: str) -> None:
    names = (
        "daily",
        "Daily_sales",
        "daily_test",
        "hourly_x",
        "daily_aa",
        "sales",
        "SALES",
        "k",
        "",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        expected = [bool(re.match(pattern, name, re.IGNORECASE)) for name in names]
    assert [Pattern(allow=(pattern,)).allows(name) for name in names] == expected


PARTS = (
    *("a", "s", "e", "d", "i", "{", "}", "{e}", "{1}", "{1,2}", "{,2}", "{1,}", "{,}", "1", ","),
    *("[", "]", "[^", "[[:alpha:]]", "^", ":", "<=", "(?:a)", "(?#[{)", "\\{", "\\[", "\\d", "|"),
    *("\\N{DIGIT ONE}", "_", ".", "?"),
)


@given(
    st.lists(st.sampled_from(PARTS), max_size=6).map("".join),
    st.lists(st.text("asedi{}1,[]:^_<=", max_size=8), max_size=8),
)
@example("job_{env}_.*", ["job_{env}_x", "job_env_x"])
@example("a{s}", ["a{s}", "as", "a"])
@example("(?:a){e}", ["a{e}", "s", "a"])
@example("^s.*{d}", ["s_1", "s_{d}"])
@example("[[:alpha:]]+", ["a", "a]", "[]", ":]]"])
@example("(?x)a #[\n{e}", ["a{e}", "a"])
def test_whatever_python_takes_for_a_pattern_decides_as_in_python(
    pattern: str, names: list[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compiled = re.compile(pattern, re.IGNORECASE)
        except re.error:
            assert read({"job_pattern": {"deny": [pattern]}}, {}).faults
            return
        config = read({"job_pattern": {"allow": [pattern]}}, {}).strict()
    names = [*names, pattern]
    assert [config.job_pattern.allows(name) for name in names] == [
        bool(compiled.match(name)) for name in names
    ]


def test_a_pattern_that_could_fail_in_a_run_is_a_fault_of_delivery_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> None:
        raise regex.error("it is beyond me")

    monkeypatch.setattr(regex, "compile", fails)
    reading = read({"job_pattern": {"deny": ["never_seen"]}}, {})
    assert reading.faults == ()  # every process of Dagster's reads, and only a few deliver
    with pytest.raises(ConfigurationError) as error:
        reading.strict()
    assert str(error.value) == (
        "datahub: job_pattern: deny: 'never_seen' is a regular expression that can't be used: it is"
        " beyond me"
    )


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "x*(a|aa)+$", "(?=(a|aa)+$)a"])
def test_a_pattern_that_python_never_ends_to_match_ends(pattern: str) -> None:
    with contextlib.suppress(PatternTooSlow):
        assert not Pattern(allow=(pattern,)).allows("a" * 60 + "b")


@pytest.mark.parametrize(
    ("redact", "message"),
    [
        ({"patterns": ["a("]}, "'a(' is not a regular expression"),
        ({"patterns": ["x*"]}, "'x*' fits an empty text, and so everywhere"),
        ({"keys": ["--"]}, "keys: expected names with a letter or digit"),
        ({"pattern": ["x"]}, "there is no pattern"),
    ],
)
def test_a_redaction_that_can_not_be_used_is_named(redact: Any, message: str) -> None:
    (fault,) = read({"redact": redact}, {}).faults
    assert message in fault.message


def test_a_pattern_of_redaction_means_what_it_means_to_python() -> None:
    config = read({"redact": {"patterns": ["C-{id}"]}}, {}).strict()
    assert Redactor(config.redact.patterns).text("x C-{id} y") == "x *** y"
