"""Delivery to DataHub's GMS, through acryl-datahub's own client."""

from __future__ import annotations

import functools
import itertools
import json
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import requests
from datahub.configuration.common import OperationalError
from datahub.emitter.aspect import TIMESERIES_ASPECT_MAP
from datahub.emitter.rest_emitter import (
    BATCH_INGEST_MAX_PAYLOAD_LENGTH,
    INGEST_MAX_PAYLOAD_BYTES,
    DatahubRestEmitter,
    EmitMode,
)
from datahub.ingestion.graph.client import DataHubGraph
from datahub.ingestion.graph.config import DatahubClientConfig
from datahub.metadata.schema_classes import SystemMetadataClass
from tenacity import RetryCallState, Retrying, retry_if_exception
from tenacity.wait import wait_exponential, wait_random, wait_random_exponential

from datahub_eventlog import error_text
from datahub_eventlog.config import RestTarget
from datahub_eventlog.errors import (
    ConfigurationError,
    Conflict,
    DeliveryError,
    Misconfigured,
    Rejected,
    Unavailable,
)
from datahub_eventlog.sinks import Finding, OnAnswer, always_proceed, ignore_answer
from datahub_eventlog.sinks.answers import (
    ADVICE,
    ServerError,
    Unending,
    content,
    judge,
    request_failure,
)
from datahub_eventlog.sinks.batch import BatchDelivery, BatchLimits, Item
from datahub_eventlog.sinks.lanes import LANES, in_parallel, split
from datahub_eventlog.sinks.mcps import mcp, observed
from datahub_eventlog.sinks.session import ANSWER_BYTES, GRAPH_BYTES, BoundedSession
from datahub_eventlog.values import Proposal

PORTION = 2000
"""Proposals that are converted to the client's form at once."""
TRIES = 4
"""Of one request, within seconds."""
CONFLICT_TRIES = 10
"""Of a request that conflicts with another transaction, which ends soon."""
LONGEST_WAIT_SECONDS = 10.0
"""If a server asks to wait longer, the dispatcher pauses instead."""
ENVELOPE_BYTES = 1000
"""Of a proposal without its aspect and urn: names, content type, system metadata."""

ON_THE_WIRE: Mapping[str, EmitMode] = {
    "SYNC_PRIMARY": EmitMode.SYNC_PRIMARY,
    "SYNC_WAIT": EmitMode.SYNC_PRIMARY,
    "ASYNC": EmitMode.ASYNC,
    # It must return after all is persisted, which only a synchronous write does over Rest.li.
    "ASYNC_WAIT": EmitMode.SYNC_PRIMARY,
}
INDEX_NOW: Mapping[str, str] = {"X-DataHub-Sync-Index-Update": "true"}
"""The header of proposals that SYNC_WAIT adds to SYNC_PRIMARY."""


class RestSink:
    """Delivers over Rest.li's batch endpoint, which keeps the order and names what it refuses.

    A large batch becomes parallel requests; each entity's proposals keep their order. A request
    is repeated a few times within seconds; longer outages are raised to the caller.
    """

    def __init__(
        self,
        target: RestTarget,
        emit_mode: str = "SYNC_PRIMARY",
        *,
        sleep: Callable[[float], None] = time.sleep,
        on_answer: OnAnswer = ignore_answer,
    ) -> None:
        """Take a target; `sleep` waits between tries, `on_answer` gets a request's seconds."""
        self._on_answer = on_answer
        self._url = error_text.address(target.server)
        self._timeout = target.timeout_sec
        self._mode = ON_THE_WIRE[emit_mode]
        self._headers = INDEX_NOW if emit_mode == "SYNC_WAIT" else None
        self._target = target
        self._emitters = [self._new_emitter()]
        self._limits = BatchLimits(BATCH_INGEST_MAX_PAYLOAD_LENGTH, INGEST_MAX_PAYLOAD_BYTES)
        self._retry_500 = retrying(is_500_or_outage, sleep)
        self._retry_outages = retrying(_is_outage, sleep)

    def emit(
        self, batch: Sequence[Proposal], proceed: Callable[[], None] = always_proceed
    ) -> Sequence[Rejected]:
        """Deliver the batch; see `Sink`."""
        rejected: list[Rejected] = []
        for start in range(0, len(batch), PORTION):
            rejected += self._emit_portion(batch[start : start + PORTION], proceed)
        return rejected

    def close(self) -> None:
        """Close the connections."""
        for emitter in self._emitters:
            emitter.close()

    def _new_emitter(self) -> DatahubRestEmitter:
        emitter = open_emitter(self._target)
        session_of(emitter).hooks["response"].append(self._judge)
        return emitter

    def _emit_portion(
        self, portion: Sequence[Proposal], proceed: Callable[[], None]
    ) -> list[Rejected]:
        items: list[Item] = []
        rejected: list[Rejected] = []
        metadata = functools.cache(observed)
        for proposal in portion:
            try:
                items.append(_item(proposal, self._headers, metadata(proposal.run_id)))
            except ValueError as error:
                reason = f"it is no UTF-8: {error}"
                rejected.append(Rejected(proposal.urn, proposal.aspect, reason))
        tasks = [functools.partial(self._deliver, proceed, part) for part in self._parts(items)]
        return rejected + list(itertools.chain(*in_parallel(tasks, LANES)))

    def _parts(self, items: Sequence[Item]) -> Sequence[Sequence[Item]]:
        """What is sent in parallel; a slow server gets one request at a time."""
        most = self._limits.max_proposals
        if len(items) <= most or self._limits.current_max < most:
            return [items]
        parts = split(items, most)
        self._emitters += [self._new_emitter() for _ in parts[len(self._emitters) : LANES]]
        return parts

    def _deliver(
        self, proceed: Callable[[], None], items: Sequence[Item], lane: int
    ) -> list[Rejected]:
        def post(request: Sequence[Item], *, is_patient: bool) -> float:
            retrying = self._retry_500 if is_patient else self._retry_outages
            return retrying(self._attempt, self._emitters[lane], proceed, request)

        return BatchDelivery(items, post, self._limits).run()

    def _attempt(
        self, emitter: DatahubRestEmitter, proceed: Callable[[], None], request: Sequence[Item]
    ) -> float:
        """Send one request and return the share of the timeout that its answer took."""
        proceed()
        begun = time.monotonic()
        try:
            emitter.emit_mcps([item.mcp for item in request], emit_mode=self._mode)
        except OperationalError as error:
            raise request_failure(error.__cause__, self._url, self._timeout) from None
        except (OSError, UnicodeError) as error:
            raise unusable(error) from None
        finally:
            seconds = time.monotonic() - begun
            self._on_answer(seconds)
        return seconds / self._timeout

    def _judge(self, response: requests.Response, **settings: Any) -> None:
        _ = response.content  # read to its end, so that the connection can be used again
        judge(response, self._url)


def open_emitter(target: RestTarget, most_bytes: int = ANSWER_BYTES) -> DatahubRestEmitter:
    """The client, whose answers have at most so many bytes."""
    try:
        emitter = DatahubRestEmitter(
            target.server, openapi_ingestion=False, retry_max_times=0, **_options(target)
        )
    except TypeError as error:
        raise ConfigurationError(f"the installed acryl-datahub is too old: {error}") from None
    _bound(emitter, target, most_bytes)
    return emitter


def _bound(emitter: DatahubRestEmitter, target: RestTarget, most_bytes: int) -> None:
    emitter._session = BoundedSession(session_of(emitter), target.timeout_sec, most_bytes)  # noqa: SLF001 - see `session_of`


def _options(target: RestTarget) -> dict[str, Any]:
    """The options that are set, under the client's names."""
    given = {
        "token": target.token,
        "timeout_sec": target.timeout_sec,
        "extra_headers": dict(target.extra_headers),
        "ca_certificate_path": target.ca_certificate_path,
        "client_certificate_path": target.client_certificate_path,
        "client_key_path": target.client_key_path,
        "disable_ssl_verification": target.disable_ssl_verification,
    }
    return {name: value for name, value in given.items() if value is not None}


def session_of(emitter: DatahubRestEmitter) -> requests.Session:
    """The session of the client, with its headers and certificates."""
    return emitter._session  # noqa: SLF001 - `session` is there since 1.7 only


def unusable(error: Exception) -> Misconfigured:
    """What is wrong with the target if a request can't even be made."""
    if isinstance(error, UnicodeError):
        return Misconfigured("the token or a header in extra_headers has letters beyond Latin-1")
    return Misconfigured(f"datahub_client_config: {error}")


def _item(
    proposal: Proposal, headers: Mapping[str, str] | None, metadata: SystemMetadataClass
) -> Item:
    # The aspect is a string in the request's JSON, where each quote costs a backslash.
    length = len(json.dumps(proposal.body)) + len(proposal.urn) + ENVELOPE_BYTES
    is_timeseries = proposal.aspect in TIMESERIES_ASPECT_MAP
    return Item(proposal, mcp(proposal, headers, metadata), length, is_timeseries)


# ------------------------------------------------------------------------------------------ retries


def retrying(
    is_worth_it: Callable[[BaseException], bool], sleep: Callable[[float], None]
) -> Retrying:
    """Tries a request a few times within seconds; the last error is raised."""
    return Retrying(
        retry=retry_if_exception(is_worth_it), stop=_stop, wait=_wait, sleep=sleep, reraise=True
    )


def is_500_or_outage(error: BaseException) -> bool:
    """Whether the server may answer within seconds; 500 can also be the request's own fault."""
    return isinstance(error, ServerError) or _is_outage(error)


def _is_outage(error: BaseException) -> bool:
    """Whether the server may be back within seconds."""
    if isinstance(error, Conflict):
        return True
    if not isinstance(error, Unavailable) or isinstance(error, Misconfigured | Unending):
        return False
    return (error.retry_after or 0) <= LONGEST_WAIT_SECONDS


_BACKOFF = wait_exponential(multiplier=0.3, max=LONGEST_WAIT_SECONDS) + wait_random(0, 0.2)
_JITTER = wait_random_exponential(multiplier=0.1, max=2.0)


def _stop(state: RetryCallState) -> bool:
    tries = CONFLICT_TRIES if isinstance(_error(state), Conflict) else TRIES
    return state.attempt_number >= tries


def _wait(state: RetryCallState) -> float:
    error = _error(state)
    if isinstance(error, Conflict):
        return _JITTER(state)
    asked = error.retry_after if isinstance(error, Unavailable) else None
    return max(_BACKOFF(state), asked or 0)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


# -------------------------------------------------------------------------------- for the extractor


def graph(target: RestTarget) -> DataHubGraph:
    """DataHub's own client for reading and searching, which extractors are given."""
    options = {**_options(target), "openapi_ingestion": False, "retry_max_times": 1}
    client = DataHubGraph(DatahubClientConfig(server=target.server, **options))
    _bound(client, target, GRAPH_BYTES)
    return client


# ---------------------------------------------------------------------------------------- for check


def probe(target: RestTarget) -> Sequence[Finding]:
    """Whether GMS answers, and accepts the token: its configuration is public, aspects are not."""
    emitter = open_emitter(target)
    try:
        config = _get(emitter, target, "/config")
        if str(config.get("noCode")).lower() != "true":
            url = error_text.address(target.server)
            text = f"{url} is DataHub's frontend or something else, not GMS: {ADVICE[404]}"
            return [Finding(is_ok=False, what="DataHub", text=text)]
        text = f"GMS {_version(config)} answers at {error_text.address(target.server)}"
        return [Finding(is_ok=True, what="DataHub", text=text), _token(emitter, target)]
    except DeliveryError as error:
        return [Finding(is_ok=False, what="DataHub", text=str(error))]
    finally:
        emitter.close()


def _version(config: Mapping[str, Any]) -> str:
    versions = config.get("versions")
    ours = versions.get("acryldata/datahub") if isinstance(versions, Mapping) else None
    version = ours.get("version") if isinstance(ours, Mapping) else None
    return error_text.one_line(version, 50) if isinstance(version, str) else "of an unknown version"


def _token(emitter: DatahubRestEmitter, target: RestTarget) -> Finding:
    """Whether an aspect can be read, which may not exist: both answers need a valid token."""
    urn = urllib.parse.quote("urn:li:dataPlatform:dagster", safe="")
    try:
        _get(emitter, target, f"/aspects/{urn}?aspect=dataPlatformInfo&version=0")
    except DeliveryError as error:
        return Finding(is_ok=False, what="token", text=str(error))
    text = "DataHub accepts the token" if target.token else "DataHub asks for no token"
    return Finding(is_ok=True, what="token", text=text)


def _get(emitter: DatahubRestEmitter, target: RestTarget, path: str) -> Mapping[str, Any]:
    """The answer's content; empty for what GMS says it does not have."""
    url = error_text.address(target.server)
    try:
        response = session_of(emitter).get(f"{target.server}{path}")
    except requests.RequestException as error:
        raise request_failure(error, url, target.timeout_sec) from None
    except (OSError, UnicodeError) as error:
        raise unusable(error) from None
    for redirect in response.history:
        judge(redirect, url)
    if response.status_code == requests.codes.not_found and content(response) is not None:
        return {}
    return judge(response, url)
