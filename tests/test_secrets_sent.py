"""A secret is in nothing that is given out, wherever in the user's code it was."""

from __future__ import annotations

import json
import logging
import string
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import planted
import pytest
from click.testing import CliRunner
from deployment import postgres_yaml, sqlite_yaml
from hypothesis import given
from hypothesis import strategies as st
from instances import configured
from receiver import Receiver
from scenes import Scene

from datahub_eventlog.cli import main
from datahub_eventlog.config import Config, Redaction
from datahub_eventlog.dispatcher import run_items
from datahub_eventlog.log import LOGGER_NAME
from datahub_eventlog.operations import Operations
from datahub_eventlog.values import Proposal, RunLog

CARRIERS = [
    "postgresql://bob:{}@db.internal:5432/shop",
    "could not connect to mysql://r:{}@h/x",
    "jdbc:sqlserver://h:1433;user=sa;password={};encrypt=true",
    "https://h/x?sig={}&se=2020",
    "https://bucket/k?X-Amz-Date=1&X-Amz-Signature={}",
    "https://h/k?X-Goog-Signature={}",
    "Server=h;Uid=sa;Pwd={};",
    "AccountName=x;AccountKey={};EndpointSuffix=y",
    "host=h user=bob password='{}' dbname=x",
    '{{"password": "{}", "n": 1}}',
    '{{"deep": [{{"client_secret": ["{}"]}}]}}',
    "{{'api_key': '{}'}}",
    "Authorization: Bearer {}",
    "--token {} --port 5",
    "password: {}",
]
SHAPES = ["AKIAIOSFODNN7EXAMPLE", f"ghp_{'a1B2' * 10}", "eyJhbGciOiJI.eyJzdWIiOi.c2lnbmF0"]
HUSH = "hush4711"


def _everything_at_once() -> str:
    """One line with a secret in each form; each holds `HUSH`, or is one of `SHAPES`."""
    forms = (form.format(f"{HUSH}x{number}") for number, form in enumerate(CARRIERS))
    return " | ".join((*forms, *SHAPES))


def leak(*_arguments: Any) -> Any:
    """An extractor that fails."""
    raise RuntimeError(_everything_at_once())


@pytest.mark.parametrize("storage", ["sqlite", "postgres"])
def test_what_dagster_holds_in_clear_leaves_hidden(
    storage: str,
    tmp_path: Path,
    receiver: Receiver,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    caplog.set_level(logging.DEBUG, LOGGER_NAME)
    block = {
        "datahub_client_config": {"server": receiver.url},
        "dispatch": "worker",
        "debug_mode": True,
        "emit_queries": True,
        "asset_lineage_extractor": "test_secrets_sent:leak",
    }
    if storage == "postgres":
        written = postgres_yaml(request.getfixturevalue("postgres_url"), block)
    else:
        written = sqlite_yaml(block)
    receiver.fault("reject", urn="orders", aspect="datasetProfile", message=_everything_at_once())
    with configured(home, **written) as instance:
        run_id = planted.execute(instance, _everything_at_once())
        Operations(instance).worker().run(until_empty=True)

    given_out = [json.dumps(receiver.state()), _ours(caplog)]
    for command in (
        ["status"],
        ["status", "--json"],
        ["show", run_id],
        ["show", run_id, "--json"],
        ["explain", "orders"],
        ["explain", "orders", "--json"],
        ["preview", run_id, "-o", str(tmp_path / "page.html")],
    ):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
        given_out.append(done.output)
    given_out.append((tmp_path / "page.html").read_text())
    assert "db.internal:5432/shop" in given_out[0], "what is no secret stays readable"
    for text in given_out:
        assert "bob:***@db" in text or HUSH not in text
        assert HUSH not in text
        assert not [shape for shape in SHAPES if shape in text]


def _ours(caplog: pytest.LogCaptureFixture) -> str:
    """What our logger gave out, with tracebacks as handlers format them."""
    ours = [record for record in caplog.records if record.name == LOGGER_NAME]
    return "\n".join(map(logging.Formatter().format, ours))


def test_what_is_switched_off_is_sent_as_it_is(tmp_path: Path) -> None:
    text = "postgresql://bob:pw@db/shop"
    with configured(tmp_path, **sqlite_yaml({"redact": {"enabled": False}})) as instance:
        run_id = planted.execute(instance, text)
        assert text in json.dumps([str(item) for item in Operations(instance).preview(run_id)])


def test_a_user_adds_patterns_and_keys(tmp_path: Path) -> None:
    block = {"redact": {"patterns": [r"\bC-\d+"], "keys": ["note"]}}
    with configured(tmp_path, **sqlite_yaml(block)) as instance:
        run_id = planted.execute(instance, "customer C-4711")
        bodies = [
            item.body for item in Operations(instance).preview(run_id) if isinstance(item, Proposal)
        ]
    assert not [body for body in bodies if "C-4711" in body]
    assert [body for body in bodies if '"note":"***"' in body]
    assert [body for body in bodies if '"plain":"customer ***"' in body]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, RunLog]]:
    """A planted run as it is read back."""
    home = tmp_path_factory.mktemp("home")
    with configured(home, **sqlite_yaml({"dispatch": "off"})) as instance:
        run_id = planted.execute(instance)
        scene = Scene(instance, lambda: instance)
        log = Operations(instance)._log(scene.parts(Config()), run_id)
        assert log is not None
        yield scene, log


# What an unquoted value may hold without ending it; in quotes and JSON more is possible.
SECRETS = st.text(string.ascii_letters + string.digits + "+/=_.~!$*^-", min_size=9, max_size=30)


@given(
    form=st.sampled_from([*CARRIERS, *(f"before {form} after" for form in CARRIERS)]),
    secret=SECRETS.filter(lambda text: any(each.isalnum() for each in text)).map("q7".__add__),
)
def test_a_secret_put_anywhere_is_in_nothing_that_leaves(
    whole: tuple[Scene, RunLog], form: str, secret: str
) -> None:
    scene, log = whole
    text = form.format(secret)
    items = run_items(_with(log, planted.PLANTED, text), Config(), scene.parts(Config()))
    assert not [item for item in items if secret in _decoded(item)]


@pytest.mark.parametrize(
    "key", ["password", "dbPassword", "api-key", "AWS_SECRET_ACCESS_KEY", "ssn"]
)
def test_the_value_of_a_secret_name_leaves_nowhere(whole: tuple[Scene, RunLog], key: str) -> None:
    scene, log = whole
    config = Config(redact=Redaction(keys=("ssn",)))
    named = _with(_with(log, planted.PLANTED, "q7 any text"), "note", key)
    sent = [_decoded(item) for item in run_items(named, config, scene.parts(config))]
    assert any(f'"{key}": "***"' in text for text in sent)
    assert not [text for text in sent if f'"{key}": "q7' in text]


def _with(value: Any, old: str, new: str) -> Any:
    """The value with that text replaced in each of its texts, names included."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, Mapping):
        return {_with(key, old, new): _with(item, old, new) for key, item in value.items()}
    if isinstance(value, (list, tuple, frozenset)):
        return type(value)(_with(item, old, new) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        changed = {
            field.name: _with(getattr(value, field.name), old, new) for field in fields(value)
        }
        return replace(value, **changed)
    return value


def _decoded(item: Any) -> str:
    """All of it as text without the escapes of JSON."""
    body = json.loads(item.body) if isinstance(item, Proposal) else ""
    return f"{item} {json.dumps(body, ensure_ascii=False)} {_texts(body)}"


def _texts(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_texts(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(map(_texts, value))
    return str(value)
