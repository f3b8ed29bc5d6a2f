"""What people read: in 80 columns on a terminal, plain and whole anywhere else."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from datahub_eventlog.cli.status import SHOWN, duration, print_status, status_json
from datahub_eventlog.ledger import Ahead, Status
from datahub_eventlog.ledger.records import Dispatcher, Parked, Rejection

RUN = "0d9c8a04-2f0f-4b0f-9d50-6f1a51d0c0de"
URN = f"urn:li:dataset:(urn:li:dataPlatform:snowflake,{'warehouse.' * 9}orders,PROD)"
REASON = "the field [/fields/0] is wrong: " + "this is what the server says of it " * 4
COUNTS = {"pending": 3, "leased": 1, "delivered": 120, "parked": 1, "filtered": 0, "gone": 0}


def status(number: int = 1) -> Status:
    return Status(
        runs={**COUNTS, "expired": 12345},
        oldest_pending_seconds=3725.4,
        delivered_last_minute=14,
        rejected=tuple(
            Rejection(RUN, f"{URN}{i}", "schemaMetadata", REASON) for i in range(number)
        ),
        parked=(Parked(RUN, "ValueError: no\nsecond line"),),
        dispatchers=(Dispatcher("daemon-1", 42, "0.1.0", 3.0),),
    )


def shown(found: Status, *, is_terminal: bool) -> str:
    file = io.StringIO()
    print_status(Console(file=file, force_terminal=is_terminal, width=80, no_color=True), found)
    return file.getvalue()


def test_the_status_says_lag_and_throughput_beside_the_counts() -> None:
    text = shown(status(), is_terminal=False)
    assert "pending          3  the oldest has been due for 1 h 2 min\n" in text
    assert "delivered      120  14 in the last minute\n" in text
    assert "expired      12345\n" in text
    assert "daemon-1:42  version 0.1.0, seen 3 s ago\n" in text


def test_a_terminal_of_80_columns_breaks_text_but_no_urn() -> None:
    lines = shown(status(), is_terminal=True).splitlines()
    assert [line.strip() for line in lines if len(line) > 80] == [f"{URN}0"]
    wrapped = [line for line in lines if "server says" in line]
    assert len(wrapped) > 1
    assert all(each.startswith("    ") for each in wrapped)


def test_anywhere_else_each_reason_is_one_line_without_colours() -> None:
    text = shown(status(), is_terminal=False)
    assert f"    {' '.join(REASON.split())}\n" in text
    assert "    ValueError: no second line\n" in text
    assert f"    schemaMetadata, run {RUN}\n" in text
    assert "\x1b" not in text


def test_runs_that_wait_though_a_dispatcher_is_alive_are_pointed_out() -> None:
    hint = "`datahub-eventlog check` shows whether DataHub can be reached."
    assert hint in shown(status(), is_terminal=False)
    assert hint not in shown(replace(status(), oldest_pending_seconds=5.0), is_terminal=False)
    assert hint not in shown(replace(status(), dispatchers=()), is_terminal=False)


def test_a_clock_that_is_wrong_is_named_with_what_to_do() -> None:
    assert "clock" not in shown(status(), is_terminal=False)
    found = replace(status(), ahead=Ahead(86387.2, is_local=True))
    text = shown(found, is_terminal=False)
    assert "86387 s ahead of this machine's clock" in text
    assert "synchronize it by NTP" in text
    lines = shown(found, is_terminal=True).splitlines()
    assert [each.strip() for each in lines if len(each) > 80] == [f"{URN}0"]
    assert status_json(found)["clock_ahead_seconds"] == 86387.2
    assert status_json(status())["clock_ahead_seconds"] is None


def test_parked_runs_are_counted_also_where_not_all_are_shown() -> None:
    found = replace(status(), runs={**COUNTS, "parked": 150})
    text = shown(found, is_terminal=False)
    assert "Parked: 150. " in text
    assert f"and {150 - SHOWN} more" in text


def test_many_rejections_are_cut_and_counted() -> None:
    text = shown(status(50), is_terminal=False)
    assert "Rejected: 50. " in text
    assert text.count("schemaMetadata") == SHOWN
    assert f"and {50 - SHOWN} more" in text


def test_without_a_dispatcher_it_says_what_to_start() -> None:
    quiet = Status(COUNTS, None, 0, (), (), ())
    text = shown(quiet, is_terminal=False)
    assert "No dispatcher is alive: start dagster-daemon or a worker." in text
    assert "Parked" not in text
    assert "Rejected" not in text
    assert "oldest" not in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (90061, "1 day 1 h"), (172800, "2 days")],
)
def test_a_duration_has_two_units_at_most(seconds: float, words: str) -> None:
    assert duration(seconds) == words
