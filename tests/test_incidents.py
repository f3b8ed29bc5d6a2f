"""Incidents, from a run or an event to DataHub: one for each thing that fails."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import permutations
from typing import Any

import dagster as dg
import pytest
from receiver import Receiver
from scenes import Scene
from verified import Verified, delivering

from datahub_eventlog.config import Config, IncidentOptions, Pattern, RestTarget
from datahub_eventlog.dispatcher import Dispatcher, Opened, assemble
from datahub_eventlog.ledger import Ledger

JO = "urn:li:corpuser:jo"
ORDERS = "urn:li:dataset:(urn:li:dataPlatform:dagster,orders,PROD)"
ALL = Config(
    incidents=IncidentOptions(checks=("error",), freshness=True, runs=True),
    dagster_url="http://ui",
)
ON_SQLITE = pytest.mark.parametrize("scene", ["sqlite"], indirect=True)
HAS_FRESHNESS = pytest.mark.skipif(
    "FRESHNESS_STATE_CHANGE" not in dg.DagsterEventType.__members__, reason="newer than this one"
)


@dg.asset
def orders() -> None:
    pass


def check_run(
    instance: dg.DagsterInstance, *, passed: bool, blocking: bool = False, **result: Any
) -> str:
    """A run that makes an asset and evaluates its check."""

    @dg.asset_check(asset=orders, name="no_nulls", blocking=blocking)
    def no_nulls() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=passed, **result)

    made = dg.materialize([orders, no_nulls], instance=instance, raise_on_error=False)
    return made.run_id


def job_run(instance: dg.DagsterInstance, *, fails: bool, **tags: str) -> str:
    """A run of a job without assets."""

    @dg.op
    def work() -> None:
        if fails:
            raise ValueError("no luck")

    @dg.job
    def nightly() -> None:
        work()

    made = nightly.execute_in_process(instance=instance, raise_on_error=False, tags=tags)
    return made.run_id


def freshness(scene: Scene, state: str, previous: str = "PASS") -> None:
    """What the daemon stores when it finds that the state has changed."""
    from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

    change = FreshnessStateChange(
        key=dg.AssetKey("orders"),
        new_state=FreshnessState(state),
        previous_state=FreshnessState(previous),
        state_change_timestamp=time.time(),
    )
    scene.instance._report_runless_asset_event(change)


@pytest.fixture
def delivered(scene: Scene, receiver: Receiver) -> Iterator[Verified]:
    with delivering(scene, receiver, ALL) as delivered:
        yield delivered


def incidents(receiver: Receiver) -> dict[str, Any]:
    urns = receiver.entities("incident")
    return {urn: receiver.aspect(urn, "incidentInfo") for urn in urns}


def the_incident(receiver: Receiver) -> Any:
    (info,) = incidents(receiver).values()
    return info


def state_of(receiver: Receiver) -> str:
    state: str = the_incident(receiver)["status"]["state"]
    return state


def change(receiver: Receiver, **fields: Any) -> None:
    """What a person does to the incident in DataHub."""
    (urn,) = incidents(receiver)
    receiver.store.versioned[urn, "incidentInfo"].update(fields)


def resolve_by_hand(receiver: Receiver) -> None:
    stamp = {"time": 5, "actor": JO}
    change(receiver, status={"state": "RESOLVED", "stage": "FIXED", "lastUpdated": stamp})


def incident_writes(receiver: Receiver) -> int:
    names = [name for request in receiver.writes for name in request.proposals]
    return sum(aspect == "incidentInfo" for _, aspect in names)


def test_a_failed_check_opens_an_incident_and_the_next_pass_resolves_it(
    delivered: Verified, receiver: Receiver
) -> None:
    run_id = check_run(delivered.scene.instance, passed=False, description="3 nulls")
    delivered.deliver()
    (opened,) = incidents(receiver).items()
    urn, info = opened
    assert info["entities"] == [ORDERS]
    assert info["title"] == "Check no_nulls failed"
    assert info["type"] == "CUSTOM"
    assert info["customType"] == "Dagster asset check"
    assert info["status"]["state"] == "ACTIVE"
    assert "3 nulls" in info["description"]
    assert f"http://ui/runs/{run_id}" in info["description"]
    assert info["source"] == {
        "type": "ASSERTION_FAILURE",
        "sourceUrn": receiver.entities("assertion")[0],
    }

    again = check_run(delivered.scene.instance, passed=True)
    delivered.deliver()
    ((same, info),) = incidents(receiver).items()
    assert same == urn
    assert info["status"]["state"] == "RESOLVED"
    assert f"http://ui/runs/{again}" in info["status"]["message"]


@ON_SQLITE
def test_an_incident_has_its_own_aspect_alone(delivered: Verified, receiver: Receiver) -> None:
    """Some servers answer 422 to an incident with a `status`."""
    check_run(delivered.scene.instance, passed=False)
    delivered.deliver()
    (urn,) = incidents(receiver)
    assert receiver.aspects(urn).keys() == {"incidentInfo"}


@ON_SQLITE
def test_what_passes_opens_nothing(delivered: Verified, receiver: Receiver) -> None:
    check_run(delivered.scene.instance, passed=True)
    job_run(delivered.scene.instance, fails=False)
    delivered.deliver()
    assert incidents(receiver) == {}


@ON_SQLITE
def test_by_default_there_are_no_incidents(scene: Scene, receiver: Receiver) -> None:
    with delivering(scene, receiver) as delivered:
        check_run(scene.instance, passed=False)
        job_run(scene.instance, fails=True)
        delivered.deliver()
    assert incidents(receiver) == {}


@ON_SQLITE
def test_a_check_that_fails_again_is_the_same_incident_opened_again(
    delivered: Verified, receiver: Receiver
) -> None:
    for passed in (False, True, False):
        check_run(delivered.scene.instance, passed=passed)
        delivered.deliver()
    assert state_of(receiver) == "ACTIVE"


def test_what_people_change_stays(delivered: Verified, receiver: Receiver) -> None:
    theirs = {
        "priority": 1,
        "assignees": [{"actor": JO, "assignedAt": {"time": 1, "actor": JO}}],
        "title": "We know of it",
    }
    first = check_run(delivered.scene.instance, passed=False)
    delivered.deliver()
    change(receiver, **theirs)
    check_run(delivered.scene.instance, passed=False)
    delivered.scene.ledger.runs.redeliver([first], backfilled=False)
    delivered.deliver()
    info = the_incident(receiver)
    assert {name: info[name] for name in theirs} == theirs
    check_run(delivered.scene.instance, passed=True)
    delivered.deliver()
    info = the_incident(receiver)
    assert {name: info[name] for name in theirs} == theirs
    assert info["status"]["state"] == "RESOLVED"


@ON_SQLITE
def test_an_incident_that_was_resolved_by_hand_stays_so_until_it_has_passed_and_fails_again(
    delivered: Verified, receiver: Receiver
) -> None:
    first = check_run(delivered.scene.instance, passed=False)
    delivered.deliver()
    resolve_by_hand(receiver)
    check_run(delivered.scene.instance, passed=False)
    delivered.scene.ledger.runs.redeliver([first], backfilled=False)
    delivered.deliver()
    status = the_incident(receiver)["status"]
    assert (status["state"], status["stage"]) == ("RESOLVED", "FIXED")
    for passed in (True, False):
        check_run(delivered.scene.instance, passed=passed)
        delivered.deliver()
    assert state_of(receiver) == "ACTIVE"


@ON_SQLITE
def test_a_delivery_that_is_repeated_writes_nothing(
    delivered: Verified, receiver: Receiver
) -> None:
    run_id = check_run(delivered.scene.instance, passed=False)
    delivered.deliver()
    before = incident_writes(receiver)
    assert before == 2
    for _ in range(2):
        delivered.scene.ledger.runs.touch(run_id, is_urgent=True)
        delivered.deliver()
    assert incident_writes(receiver) == before


@ON_SQLITE
def test_in_whatever_order_runs_are_delivered_the_newest_result_counts(
    scene: Scene, tmp_path: Any
) -> None:
    outcomes = [False, True, False]
    run_ids = [check_run(scene.instance, passed=passed) for passed in outcomes]
    for number, order in enumerate(permutations(run_ids)):
        with Receiver() as receiver:
            ledger = Ledger.in_file(str(tmp_path / f"{number}.db"), patience=5)
            ledger.database.migrate()
            config = replace(ALL, target=RestTarget(receiver.url))
            with assemble(Opened(scene.instance, ledger), config) as parts:
                dispatcher = Dispatcher(config, parts)
                for run_id in order:
                    ledger.runs.touch(run_id, is_urgent=True)
                    dispatcher.deliver([run_id])
                while dispatcher.run_once():
                    pass
            states = [info["status"]["state"] for info in incidents(receiver).values()]
            assert states == ["ACTIVE"], order


def test_history_opens_no_incident_but_what_happens_next_does(
    delivered: Verified, receiver: Receiver
) -> None:
    with delivered.scene.plain() as instance:
        run_id = check_run(instance, passed=False)
    delivered.scene.ledger.runs.add([run_id], backfilled=True)
    delivered.deliver()
    assert receiver.entities("assertion")
    assert incidents(receiver) == {}
    check_run(delivered.scene.instance, passed=False)
    delivered.deliver()
    assert state_of(receiver) == "ACTIVE"


@ON_SQLITE
@pytest.mark.parametrize(
    ("wanted", "result", "blocking", "is_opened"),
    [
        (("error",), {}, False, True),
        (("error",), {"severity": dg.AssetCheckSeverity.WARN}, False, False),
        (("warn",), {"severity": dg.AssetCheckSeverity.WARN}, False, True),
        (("warn",), {}, False, False),
        (("blocking",), {}, True, True),
        (("blocking",), {}, False, False),
        ((), {}, True, False),
    ],
)
def test_which_checks_open_incidents_is_a_choice(
    scene: Scene,
    receiver: Receiver,
    wanted: Sequence[Any],
    result: dict[str, Any],
    blocking: bool,  # noqa: FBT001
    is_opened: bool,  # noqa: FBT001
) -> None:
    config = Config(incidents=IncidentOptions(checks=tuple(wanted), runs=True))
    with delivering(scene, receiver, config) as delivered:
        check_run(scene.instance, passed=False, blocking=blocking, **result)
        delivered.deliver()
    assert len(incidents(receiver)) == is_opened


@ON_SQLITE
def test_an_asset_that_is_left_out_has_no_incidents(scene: Scene, receiver: Receiver) -> None:
    config = replace(ALL, asset_pattern=Pattern(deny=("orders",)))
    with delivering(scene, receiver, config) as delivered:
        check_run(scene.instance, passed=False)
        delivered.deliver()
    assert incidents(receiver) == {}


@HAS_FRESHNESS
def test_a_missed_freshness_policy_opens_an_incident_until_the_asset_is_fresh(
    delivered: Verified, receiver: Receiver
) -> None:
    freshness(delivered.scene, "WARN")
    delivered.deliver()
    assert incidents(receiver) == {}
    freshness(delivered.scene, "FAIL", "WARN")
    delivered.deliver()
    info = the_incident(receiver)
    assert (info["type"], info["entities"]) == ("FRESHNESS", [ORDERS])
    assert info["status"]["state"] == "ACTIVE"
    assert "http://ui/assets/orders" in info["description"]
    freshness(delivered.scene, "UNKNOWN", "FAIL")
    delivered.deliver()
    assert state_of(receiver) == "ACTIVE"
    freshness(delivered.scene, "PASS", "UNKNOWN")
    delivered.deliver()
    assert state_of(receiver) == "RESOLVED"
    (results,) = [
        receiver.timeseries(urn, "assertionRunEvent") for urn in receiver.entities("assertion")
    ]
    assert [one["result"]["type"] for one in results] == [
        *("SUCCESS", "FAILURE", "INIT", "SUCCESS")
    ]


@ON_SQLITE
@HAS_FRESHNESS
def test_events_that_are_read_again_open_nothing_again(
    delivered: Verified, receiver: Receiver
) -> None:
    freshness(delivered.scene, "FAIL")
    delivered.deliver()
    resolve_by_hand(receiver)
    delivered.scene.ledger.runs.recall_runless(0.0, again=True)
    delivered.deliver()
    assert state_of(receiver) == "RESOLVED"


@ON_SQLITE
def test_a_failed_job_without_assets_opens_an_incident(
    delivered: Verified, receiver: Receiver
) -> None:
    run_id = job_run(delivered.scene.instance, fails=True)
    delivered.deliver()
    info = the_incident(receiver)
    assert info["entities"] == receiver.entities("dataFlow")
    assert (info["type"], info["status"]["state"]) == ("OPERATIONAL", "ACTIVE")
    assert "no luck" in info["description"]
    assert run_id in info["description"]
    job_run(delivered.scene.instance, fails=False)
    delivered.deliver()
    assert state_of(receiver) == "RESOLVED"


def asset_run(instance: dg.DagsterInstance, *, fails: bool) -> str:
    """A run of an asset, and of another one that needs it."""

    @dg.asset(name="orders")
    def raw() -> int:
        if fails:
            raise ValueError("no luck")
        return 1

    @dg.asset
    def report(orders: int) -> None:
        pass

    return dg.materialize([raw, report], instance=instance, raise_on_error=False).run_id


@ON_SQLITE
def test_an_asset_that_fails_to_materialize_opens_an_incident(
    delivered: Verified, receiver: Receiver
) -> None:
    run_id = asset_run(delivered.scene.instance, fails=True)
    delivered.deliver()
    info = the_incident(receiver)
    assert info["entities"] == [ORDERS]
    assert (info["title"], info["status"]["state"]) == ("orders failed to materialize", "ACTIVE")
    assert "no luck" in info["description"]
    assert run_id in info["description"]
    asset_run(delivered.scene.instance, fails=False)
    delivered.deliver()
    assert state_of(receiver) == "RESOLVED"


@ON_SQLITE
def test_a_run_that_dagster_retries_by_itself_opens_nothing(
    delivered: Verified, receiver: Receiver
) -> None:
    job_run(delivered.scene.instance, fails=True, **{"dagster/will_retry": "true"})
    delivered.deliver()
    assert incidents(receiver) == {}


@ON_SQLITE
def test_verify_leaves_incidents_to_people(delivered: Verified, receiver: Receiver) -> None:
    check_run(delivered.scene.instance, passed=False)
    delivered.deliver()
    resolve_by_hand(receiver)
    assert delivered.verify().findings == []


@contextmanager
def _two_dispatchers(scene: Scene, receiver: Receiver) -> Iterator[list[Dispatcher]]:
    config = replace(ALL, target=RestTarget(receiver.url))
    with (
        assemble(Opened(scene.instance, scene.ledger), config) as one,
        assemble(Opened(scene.instance, scene.ledger), config) as other,
    ):
        yield [Dispatcher(config, one), Dispatcher(config, replace(other, owner="other"))]


def test_of_two_dispatchers_only_one_opens_it(scene: Scene, receiver: Receiver) -> None:
    run_ids = [check_run(scene.instance, passed=False) for _ in range(2)]
    with _two_dispatchers(scene, receiver) as dispatchers:
        for dispatcher, run_id in zip(dispatchers, run_ids, strict=True):
            dispatcher.deliver([run_id])
        for dispatcher in dispatchers:
            while dispatcher.run_once():
                pass
    assert state_of(receiver) == "ACTIVE"
    assert incident_writes(receiver) == 2


@ON_SQLITE
def test_a_secret_in_a_failure_is_hidden(delivered: Verified, receiver: Receiver) -> None:
    check_run(
        delivered.scene.instance,
        passed=False,
        description="postgres://jo:hunter2x9@db/shop is away",
    )
    delivered.deliver()
    assert "hunter2x9" not in json.dumps(the_incident(receiver))
