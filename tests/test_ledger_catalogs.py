"""The catalogues of code locations in the ledger, and what is gone of them."""

from __future__ import annotations

from ledgers import MINUTE, Clock, due, lease_of
from sqlalchemy import func, select
from sqlalchemy.engine import Engine

from datahub_eventlog.ledger import Gone, HeldBack, Ledger, StoredCatalog, catalog_row, location_of
from datahub_eventlog.ledger.tables import catalog_parts

ROW = "catalog:shop"


def stored(ledger: Ledger) -> StoredCatalog:
    catalog = ledger.catalogs.find("shop")
    assert catalog is not None
    return catalog


def contents(ledger: Ledger) -> list[bytes | None]:
    catalog = stored(ledger)
    return [ledger.catalogs.part(catalog, number) for number in range(catalog.parts)]


def deliver(ledger: Ledger) -> None:
    ledger.leases.settle(lease_of(ledger, ROW), "delivered")


def test_the_row_of_a_catalogue_names_its_code_location() -> None:
    assert catalog_row("shop") == ROW
    assert location_of(ROW) == "shop"
    assert location_of("5f0f5e1c-1111-4222-8333-0123456789ab") is None
    assert location_of("") is None


def test_a_stored_catalogue_is_due_and_has_its_parts(ledger: Ledger) -> None:
    assert ledger.catalogs.find("shop") is None
    assert ledger.catalogs.store("shop", [b"one", b"two"], 100.0, is_whole=True)
    assert contents(ledger) == [b"one", b"two"]
    assert (stored(ledger).loaded, stored(ledger).is_whole) == (100.0, True)
    assert due(ledger) == [ROW]


def test_the_same_catalogue_is_not_delivered_again(ledger: Ledger) -> None:
    ledger.catalogs.store("shop", [b"one"], 100.0, is_whole=True)
    deliver(ledger)
    assert not ledger.catalogs.store("shop", [b"one"], 200.0, is_whole=True)
    assert due(ledger) == []
    assert stored(ledger).loaded == 100.0


def test_a_catalogue_that_an_old_dispatcher_did_not_know_is_delivered_again(
    ledger: Ledger,
) -> None:
    ledger.catalogs.store("shop", [b"one"], 100.0, is_whole=True)
    ledger.leases.settle(lease_of(ledger, ROW), "gone")
    assert ledger.catalogs.store("shop", [b"one"], 100.0, is_whole=True)
    assert due(ledger) == [ROW]


def test_a_newer_catalogue_takes_the_place_of_the_older_one(ledger: Ledger, engine: Engine) -> None:
    ledger.catalogs.store("shop", [b"one", b"two"], 100.0, is_whole=True)
    old = stored(ledger)
    deliver(ledger)
    assert ledger.catalogs.store("shop", [b"one", b"three", b"four"], 200.0, is_whole=True)
    assert contents(ledger) == [b"one", b"three", b"four"]
    assert ledger.catalogs.part(old, 0) is None
    assert due(ledger) == [ROW]
    with engine.connect() as connection:
        count = select(func.count()).select_from(catalog_parts)
        assert connection.execute(count).scalar() == 3


def test_a_catalogue_that_changes_while_it_is_delivered_is_delivered_once_more(
    ledger: Ledger,
) -> None:
    ledger.catalogs.store("shop", [b"one"], 100.0, is_whole=True)
    lease = lease_of(ledger, ROW)
    ledger.catalogs.store("shop", [b"two"], 200.0, is_whole=True)
    assert not ledger.leases.settle(lease, "delivered")
    assert ledger.runs.state(ROW) == "pending"


def test_an_older_version_of_the_code_replaces_no_newer_one(ledger: Ledger) -> None:
    ledger.catalogs.store("shop", [b"new"], 200.0, is_whole=True)
    deliver(ledger)
    assert not ledger.catalogs.store("shop", [b"old"], 100.0, is_whole=True)
    assert contents(ledger) == [b"new"]


def test_code_that_was_loaded_again_is_not_replaced_by_what_was_loaded_between(
    ledger: Ledger,
) -> None:
    ledger.catalogs.store("shop", [b"one"], 100.0, is_whole=True)
    assert ledger.catalogs.store("shop", [b"one"], 300.0, is_whole=True) is False
    assert not ledger.catalogs.store("shop", [b"two"], 200.0, is_whole=True)
    assert contents(ledger) == [b"one"]
    assert stored(ledger).loaded == 100.0


def test_a_load_of_tomorrow_holds_no_newer_one_back(ledger: Ledger, clock: Clock) -> None:
    ledger.catalogs.store("shop", [b"ahead"], clock.time + 86400, is_whole=True)
    ledger.upkeep.sweep(30 * 24 * 60 * MINUTE)
    clock.advance(1)
    assert ledger.catalogs.store("shop", [b"right"], clock.time, is_whole=True)


def test_a_confirmed_catalogue_is_delivered_in_any_case(ledger: Ledger) -> None:
    ledger.catalogs.store("shop", [b"one"], 100.0, is_whole=True)
    deliver(ledger)
    assert ledger.catalogs.store("shop", [b"one"], 100.0, is_whole=True, is_confirmed=True)
    assert stored(ledger).is_confirmed
    assert due(ledger) == [ROW]


def test_a_catalogue_is_no_run(ledger: Ledger) -> None:
    ledger.catalogs.store("shop", [b"one"], 100.0, is_whole=True)
    status = ledger.reports.status()
    assert not any(status.runs.values())
    assert status.oldest_pending_seconds is None


def test_what_is_not_defined_any_more_is_gone(ledger: Ledger) -> None:
    ledger.catalogs.note_defined("shop", {"urn:a", "urn:b", "urn:c"})
    ledger.catalogs.note_defined("shop", {"urn:a", "urn:b", "urn:c"})
    gone = ledger.catalogs.gone("shop", {"urn:a", "urn:new"})
    assert gone == Gone(known=3, urns=("urn:b", "urn:c"), newly=2)


def test_what_another_code_location_defines_is_not_removed(ledger: Ledger) -> None:
    ledger.catalogs.note_defined("shop", {"urn:a", "urn:b"})
    ledger.catalogs.note_defined("store", {"urn:b"})
    gone = ledger.catalogs.gone("shop", {"urn:a"})
    assert gone == Gone(known=2, elsewhere=("urn:b",))
    ledger.catalogs.store("shop", [b"one"], 100.0, is_whole=True)
    ledger.catalogs.note_removed(stored(ledger), gone)
    assert ledger.catalogs.gone("shop", {"urn:a"}) == Gone(known=1)
    assert ledger.catalogs.gone("store", set()).urns == ("urn:b",)


def test_what_was_removed_is_listed_until_it_comes_back(ledger: Ledger, clock: Clock) -> None:
    ledger.catalogs.store("shop", [b"one"], 100.0, is_whole=True)
    ledger.catalogs.note_defined("shop", {"urn:a", "urn:b"})
    gone = ledger.catalogs.gone("shop", {"urn:a"})
    ledger.catalogs.hold_back("shop", 1)
    assert ledger.reports.status().held_back == (HeldBack("shop", 1),)
    ledger.catalogs.note_removed(stored(ledger), gone)
    status = ledger.reports.status()
    assert [(row.location, row.urn, row.time) for row in status.removed] == [
        ("shop", "urn:b", clock.time)
    ]
    assert status.held_back == ()
    assert ledger.catalogs.gone("shop", {"urn:a"}) == Gone(known=1, urns=("urn:b",))
    ledger.catalogs.note_defined("shop", {"urn:a", "urn:b"})
    assert ledger.reports.status().removed == ()
    assert ledger.catalogs.gone("shop", {"urn:a"}).newly == 1


def test_many_entities_are_compared(ledger: Ledger) -> None:
    every = {f"urn:{number}" for number in range(2_500)}
    ledger.catalogs.note_defined("shop", every)
    gone = ledger.catalogs.gone("shop", {urn for urn in every if not urn.endswith("7")})
    assert (gone.known, gone.newly) == (2_500, 250)
