"""What is sent next, decided without any network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import pytest
from proposals import RUN_ID, dataset_urn, many, properties, run_event

from datahub_eventlog.errors import DeliveryError, Unavailable
from datahub_eventlog.sinks.answers import Refused, ServerError, TimedOut
from datahub_eventlog.sinks.batch import BatchDelivery, BatchLimits, Item
from datahub_eventlog.sinks.mcps import mcp
from datahub_eventlog.sinks.rest import INDEX_NOW
from datahub_eventlog.values import Proposal

Reply: TypeAlias = Exception | float
"""What a request brings: an error, or the share of the timeout that its answer took."""
SLOW = 0.5


class Server:
    """Answers each request as a function of its proposals' names says, and keeps them."""

    def __init__(self, answer: Callable[[Sequence[str]], Reply]) -> None:
        self.requests: list[list[str]] = []
        self._answer = answer

    def __call__(self, request: Sequence[Item], *, is_patient: bool) -> float:
        names = [each.proposal.urn for each in request]
        self.requests.append(names)
        answer = self._answer(names)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def sizes(self) -> list[int]:
        return [len(each) for each in self.requests]


def in_turn(*replies: Reply, then: Reply = SLOW) -> Server:
    turns = iter(replies)
    return Server(lambda _: next(turns, then))


def item(proposal: Proposal, length: int = 1) -> Item:
    is_timeseries = proposal.aspect == "dataProcessInstanceRunEvent"
    return Item(proposal, mcp(proposal), length, is_timeseries)


def items(count: int) -> list[Item]:
    return [item(each) for each in many(count)]


def limits(max_proposals: int = 200, max_bytes: int = 1_000_000, proposals: int = 0) -> BatchLimits:
    return BatchLimits(max_proposals, max_bytes, proposals)


@pytest.mark.parametrize("share", [0.01, 0.24])
def test_quick_answers_double_the_size_up_to_what_is_allowed(share: float) -> None:
    server = Server(lambda _: share)
    known = limits(max_proposals=100, proposals=20)
    BatchDelivery(items(300), server, known).run()
    assert server.sizes == [20, 40, 80, 100, 60]


def test_slow_answers_keep_the_size() -> None:
    server = Server(lambda _: 0.3)
    BatchDelivery(items(60), server, limits(proposals=20)).run()
    assert server.sizes == [20, 20, 20]


def test_a_short_remainder_proves_nothing_about_the_size() -> None:
    known = limits(proposals=20)
    BatchDelivery(items(5), Server(lambda _: 0.0), known).run()
    assert known.current_max == 20


def test_bytes_bound_a_request_and_one_proposal_always_goes() -> None:
    server = Server(lambda _: 0.0)
    lengths = [6, 4, 1, 50, 10]
    batch = [item(each, length) for each, length in zip(many(5), lengths, strict=True)]
    BatchDelivery(batch, server, limits(max_bytes=10)).run()
    assert server.sizes == [2, 1, 1, 1]


def test_timeouts_halve_until_the_server_manages() -> None:
    server = Server(lambda names: TimedOut("late") if len(names) > 50 else SLOW)
    known = limits()
    BatchDelivery(items(200), server, known).run()
    assert server.sizes == [200, 100, 50, 50, 50, 50]
    assert known.current_max == 50


def test_a_server_that_is_stuck_is_found_out_after_a_few_timeouts() -> None:
    server = Server(lambda _: TimedOut("late"))
    known = limits()
    with pytest.raises(Unavailable, match="late"):
        BatchDelivery(items(200), server, known).run()
    assert server.sizes == [200, 100, 50]
    assert known.current_max == 25


def test_one_proposal_that_is_never_answered_is_its_runs_own_trouble() -> None:
    batch = items(8)
    endless = batch[4].proposal.urn
    server = Server(lambda names: TimedOut("late") if endless in names else SLOW)
    known = limits()

    def attempt() -> str:
        """What is told of the run when the dispatcher no longer thinks that the server is away."""
        while True:
            try:
                BatchDelivery(batch, server, known).run()
            except Unavailable:
                continue
            except DeliveryError as error:
                return str(error)

    expected = f"late to {endless} datasetProperties alone; it accepts others"
    assert [attempt() for _ in range(2)] == [expected] * 2


def test_answers_between_timeouts_show_that_it_is_only_slow() -> None:
    server = in_turn(TimedOut("late"), SLOW, TimedOut("late"), SLOW, SLOW, TimedOut("late"))
    assert BatchDelivery(items(20), server, limits(proposals=8)).run() == []


def test_a_timeout_while_halving_starts_that_piece_again() -> None:
    server = in_turn(Refused("no"), TimedOut("late"))
    assert BatchDelivery(items(8), server, limits()).run() == []
    assert server.sizes == [8, 4, 2, 2, 2, 2]


def test_halving_finds_each_guilty_one() -> None:
    guilty = {dataset_urn(number) for number in (0, 7, 8, 99)}
    server = Server(lambda names: Refused("no") if guilty & set(names) else SLOW)
    rejected = BatchDelivery(items(100), server, limits()).run()
    assert [each.urn for each in rejected] == [dataset_urn(number) for number in (0, 7, 8, 99)]


def test_too_large_a_request_is_remembered() -> None:
    known = limits()
    server = Server(lambda names: Refused("413", is_too_large=True) if len(names) > 40 else SLOW)
    assert BatchDelivery(items(200), server, known).run() == []
    assert known.current_max == 25


def test_while_all_is_500_little_is_tried() -> None:
    server = Server(lambda _: ServerError("500"))
    with pytest.raises(Unavailable, match=r"500 \(to urn:li:dataset"):
        BatchDelivery(items(200), server, limits()).run()
    assert len(server.requests) <= 12


def test_a_server_that_breaks_down_in_the_middle_rejects_nothing() -> None:
    server = in_turn(SLOW, SLOW, then=ServerError("500"))
    with pytest.raises(Unavailable, match="500"):
        BatchDelivery(items(600), server, limits()).run()
    assert server.sizes == [200, 200, 200, 1]


def test_a_server_that_breaks_down_while_halving_rejects_nothing() -> None:
    server = in_turn(SLOW, ServerError("500"), SLOW, then=ServerError("500"))
    with pytest.raises(Unavailable, match="500"):
        BatchDelivery(items(400), server, limits()).run()


def test_several_proposals_that_the_server_stumbles_over_are_all_found() -> None:
    guilty = {dataset_urn(number) for number in (0, 1, 2, 3)}
    server = Server(lambda names: ServerError("500") if guilty & set(names) else SLOW)
    rejected = BatchDelivery(items(20), server, limits()).run()
    assert {each.urn for each in rejected} == guilty


def test_a_timeseries_of_an_earlier_batch_proves_that_the_server_is_up() -> None:
    guilty = dataset_urn("guilty")
    server = Server(lambda names: ServerError("500") if guilty in names else SLOW)
    known = limits()
    BatchDelivery([item(run_event("r")), item(properties("state"))], server, known).run()
    (rejected,) = BatchDelivery([item(properties("guilty"))], server, known).run()
    assert rejected.urn == guilty
    sent_again = [each for each in server.requests if each == [run_event("r").urn]]
    assert len(sent_again) == 1
    assert [dataset_urn("state")] not in server.requests


def test_a_passing_500_after_the_proof_is_no_rejection() -> None:
    server = in_turn(ServerError("500"), ServerError("500"))
    assert BatchDelivery(items(2), server, limits()).run() == []


def test_a_proposal_says_that_the_index_is_to_be_written_at_once() -> None:
    assert mcp(properties("a"), INDEX_NOW).headers == {"X-DataHub-Sync-Index-Update": "true"}
    assert mcp(properties("a")).headers is None


def test_a_proposal_keeps_its_body_byte_by_byte() -> None:
    made = mcp(properties("a", "ä"))
    assert made.aspect is not None
    assert made.aspect.value == properties("a", "ä").body.encode()
    assert made.systemMetadata is not None
    assert made.systemMetadata.runId == RUN_ID
