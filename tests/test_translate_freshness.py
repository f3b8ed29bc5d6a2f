"""Freshness policies as assertions, and what Dagster finds about them as their results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from catalog import Catalog
from datahub.metadata.schema_classes import CustomAssertionInfoClass
from logs import RUN_ID, T0, asset_facts, facts, log, materialized, ran, succeeded

from datahub_eventlog.config import Config, HealthOptions, Pattern
from datahub_eventlog.translate import translate, translate_runless
from datahub_eventlog.translate.catalog import catalog_proposals, defined_urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.freshness import policy_in_words, policy_urn
from datahub_eventlog.values import (
    AssetFacts,
    CatalogPart,
    CheckFacts,
    CheckKey,
    CodeRepository,
    Event,
    FreshnessChange,
    Proposal,
)

KEY = ("shop", "orders")
ORDERS = "urn:li:dataset:(urn:li:dataPlatform:dagster,shop.orders,PROD)"
WINDOW = {"fail_after_seconds": 86400.0, "warn_after_seconds": 43200.0}
CRON = {
    "deadline_cron": "0 10 * * *",
    "lower_bound_seconds": 3600.0,
    "timezone": "Europe/Berlin",
}
LEGACY = {"maximum_lag_minutes": 90.0, "cron_schedule": "0 9 * * *"}
HAS_PARAMETERS = "nativeParameters" in CustomAssertionInfoClass.RECORD_SCHEMA.fields_dict


def policy_of(settings: Any) -> AssetFacts:
    return asset_facts("shop/orders", freshness=settings)


def in_catalog(settings: Any, **options: Any) -> Catalog:
    part = CatalogPart(CodeRepository("shop", "__repository__"), assets=(policy_of(settings),))
    return Catalog().deliver(catalog_proposals(part, T0, Context(Config(**options))))


def change(state: str, previous: str = "UNKNOWN", after: float = 0.0) -> Event:
    found = FreshnessChange(KEY, state, previous, T0 + after)
    return Event(int(after) + 1, "FRESHNESS_STATE_CHANGE", T0 + after + 0.01, None, found)


def found(*events: Event, **options: Any) -> Catalog:
    return Catalog().deliver(translate_runless(events, None, Context(Config(**options))))


def urn(**options: Any) -> str:
    return policy_urn(KEY, Context(Config(**options)))


def results(catalog: Catalog) -> list[Mapping[str, Any]]:
    actual = catalog.series.get((urn(), "assertionRunEvent"), {})
    return sorted(actual.values(), key=lambda each: each["timestampMillis"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (WINDOW, "Materialized within the last 1 day, with a warning after 12 hours"),
        ({"fail_after_seconds": 90.0}, "Materialized within the last 1 minute 30 seconds"),
        (
            CRON,
            "Materialized by each tick of 0 10 * * * (Europe/Berlin), at most 1 hour before it",
        ),
        (
            LEGACY,
            "Has all upstream data of 1 hour 30 minutes ago at each tick of 0 9 * * * (UTC)",
        ),
        ({"maximum_lag_minutes": 1440.0}, "Has all upstream data of 1 day ago"),
        ({"invented": 3}, 'Fresh by {"invented": 3}'),
    ],
)
def test_a_policy_is_told_in_words(settings: dict[str, Any], words: str) -> None:
    assert policy_in_words(settings) == words


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (WINDOW, "TimeWindowFreshnessPolicy"),
        (CRON, "CronFreshnessPolicy"),
        (LEGACY, "LegacyFreshnessPolicy"),
    ],
)
def test_a_policy_is_an_assertion_about_its_asset(settings: dict[str, Any], kind: str) -> None:
    catalog = in_catalog(settings, dagster_url="http://ui")
    info = catalog.of(urn(), "assertionInfo")
    assert info["type"] == "CUSTOM"
    assert info["source"]["type"] == "EXTERNAL"
    assert info["customAssertion"]["type"] == "Dagster freshness policy"
    assert info["customAssertion"]["entity"] == ORDERS
    assert info["customAssertion"]["logic"] == info["description"] == policy_in_words(settings)
    assert info["externalUrl"] == "http://ui/assets/shop/orders"
    parameters = {name: str(value) for name, value in settings.items()}
    assert info["customProperties"] == {
        **parameters,
        "asset_key": "shop/orders",
        "policy": kind,
    }
    if HAS_PARAMETERS:
        assert info["customAssertion"]["nativeType"] == kind
        assert info["customAssertion"]["nativeParameters"] == parameters
    assert catalog.of(urn(), "dataPlatformInstance")["platform"].endswith(":dagster")


def test_an_asset_without_a_policy_has_no_such_assertion() -> None:
    assert in_catalog(None).urns("assertion") == []


def test_a_run_says_the_same_as_the_catalogue_unless_there_is_one() -> None:
    whole = log(
        *succeeded(*ran("orders", materialized("shop/orders"))),
        definitions=facts(policy_of(WINDOW)),
    )
    by_run = Catalog().deliver(translate(whole, Context()))
    assert by_run.of(urn(), "assertionInfo") == in_catalog(WINDOW).of(urn(), "assertionInfo")
    beside = Catalog().deliver(translate(whole, Context(has_catalog=True)))
    assert beside.urns("assertion") == []


def test_the_catalogue_knows_the_assertion_as_its_own() -> None:
    part = CatalogPart(CodeRepository("shop", "r"), assets=(policy_of(WINDOW), AssetFacts(("b",))))
    assertions = [one for one in defined_urns(part, Context()) if ":assertion:" in one]
    assert assertions == [urn()]


def test_every_change_is_a_result_with_its_time() -> None:
    states = ["PASS", "WARN", "FAIL", "PASS", "UNKNOWN"]
    events = [
        change(state, previous, 60.0 * number)
        for number, (state, previous) in enumerate(
            zip(states, ["UNKNOWN", *states[:-1]], strict=True)
        )
    ]
    actual = results(found(*events, dagster_url="http://ui"))
    assert [each["result"]["type"] for each in actual] == [
        *("SUCCESS", "SUCCESS", "FAILURE", "SUCCESS", "INIT")
    ]
    assert [each["result"]["nativeResults"]["state"] for each in actual] == states
    assert actual[2]["result"]["nativeResults"]["previous_state"] == "WARN"
    assert [each["timestampMillis"] for each in actual] == [
        int((T0 + 60.0 * number) * 1000) for number in range(5)
    ]
    assert {each["asserteeUrn"] for each in actual} == {ORDERS}
    assert len({each["messageId"] for each in actual}) == 5
    assert actual[0]["result"]["externalUrl"] == "http://ui/assets/shop/orders"


def test_the_end_of_a_policy_is_no_result() -> None:
    assert results(found(change("PASS"), change("NOT_APPLICABLE", "PASS", 60.0))) == results(
        found(change("PASS"))
    )


def test_the_words_of_a_policy_rank_above_a_result_that_does_not_know_it() -> None:
    part = CatalogPart(CodeRepository("shop", "r"), assets=(policy_of(WINDOW),))
    expected = in_catalog(WINDOW).of(urn(), "assertionInfo")
    policy = list(catalog_proposals(part, T0 - 3600, Context()))
    later = list(translate_runless([change("FAIL", "PASS", 9999.0)], None, Context()))
    for first, second in ((policy, later), (later, policy)):
        catalog = Catalog().deliver(first).deliver(second)
        assert catalog.of(urn(), "assertionInfo") == expected


def test_a_policy_and_a_check_of_freshness_are_two_assertions() -> None:
    check = CheckFacts(CheckKey(KEY, "freshness_check"), "Updated within a day.")
    asset = asset_facts("shop/orders", freshness=WINDOW, checks=(check,))
    part = CatalogPart(CodeRepository("shop", "r"), assets=(asset,))
    assert Catalog().deliver(catalog_proposals(part, T0, Context())).urns("assertion") == [urn()]


def test_where_assets_are_not_sent_it_is_said_of_the_table() -> None:
    key = ("prod", "snowflake", "db", "orders")
    asset = AssetFacts(key, freshness=WINDOW)
    part = CatalogPart(CodeRepository("shop", "r"), assets=(asset,))
    config = Config(emit_assets=False)
    catalog = Catalog().deliver(catalog_proposals(part, T0, Context(config)))
    info = catalog.of(policy_urn(key, Context(config)), "assertionInfo")
    table = "urn:li:dataset:(urn:li:dataPlatform:snowflake,db.orders,PROD)"
    assert info["customAssertion"]["entity"] == table


@pytest.mark.parametrize(
    "options",
    [
        {"health": HealthOptions(freshness=False)},
        {"capture_asset_materialization": False},
        {"asset_pattern": Pattern(deny=("shop/.*",))},
    ],
    ids=["switched off", "no assets", "denied"],
)
def test_what_is_left_out_is_not_sent(options: dict[str, Any]) -> None:
    assert in_catalog(WINDOW, **options).urns("assertion") == []
    assert found(change("FAIL"), **options).urns("assertion") == []


def test_the_assertion_depends_on_asset_environment_and_instance() -> None:
    every = {
        urn(),
        urn(env="DEV"),
        urn(platform_instance="eu"),
        policy_urn(("orders",), Context()),
    }
    assert len(every) == 4


def test_a_run_names_itself_as_the_source_of_the_policy() -> None:
    whole = log(
        *succeeded(*ran("orders", materialized("shop/orders"))),
        definitions=facts(policy_of(WINDOW)),
    )
    (info,) = [
        item
        for item in translate(whole, Context())
        if isinstance(item, Proposal) and item.urn == urn() and item.aspect == "assertionInfo"
    ]
    assert info.run_id == RUN_ID
