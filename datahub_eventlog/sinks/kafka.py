"""Delivery to DataHub's proposal topic on Kafka, through acryl-datahub's own client.

Delivered means that the brokers have acknowledged it; whether DataHub accepts the content is not
reported.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import requests
from avro.errors import AvroTypeException
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.error import ProduceError
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from datahub.configuration.kafka import KafkaProducerConnectionConfig
from datahub.emitter import kafka_emitter
from datahub.emitter.kafka_emitter import (
    DEFAULT_MCE_KAFKA_TOPIC,
    MCE_KEY,
    MCP_KEY,
    DatahubKafkaEmitter,
    KafkaEmitterConfig,
)
from pydantic import ValidationError

from datahub_eventlog import error_text
from datahub_eventlog.config import KafkaTarget
from datahub_eventlog.errors import (
    ConfigurationError,
    DeliveryError,
    Misconfigured,
    Rejected,
    Unavailable,
)
from datahub_eventlog.sinks import Finding, always_proceed
from datahub_eventlog.sinks.mcps import mcp
from datahub_eventlog.values import Proposal

MessageTooLargeError: type[Exception] = getattr(kafka_emitter, "MessageTooLargeError", BufferError)
"""What acryl-datahub raises instead of Kafka's own exception, since 1.7."""

PORTION = 500
"""Proposals until the sink waits for the brokers."""
ACKNOWLEDGE_SECONDS = 30
"""For the brokers to acknowledge, unless producer_config has another timeout."""
PROBE_SECONDS = 10
TIMEOUT_KEYS = ("message.timeout.ms", "delivery.timeout.ms")

DEFAULTS: Mapping[str, Any] = {
    # A later message of the same entity must not overtake one that is retried.
    "max.in.flight.requests.per.connection": 1,
    # librdkafka would write each failed attempt to connect to standard error.
    "log_level": 0,
}
CONFIGURATION = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - public in spite of its name
        KafkaError._AUTHENTICATION,  # noqa: SLF001
        KafkaError._SSL,  # noqa: SLF001
    }
)
TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE})


class KafkaSink:
    """Produces in order, a portion at a time, and waits until each has arrived."""

    def __init__(self, target: KafkaTarget) -> None:
        """Take a target; raises `ConfigurationError` for options that Kafka does not know."""
        self._target = target
        self._acknowledge_seconds = _acknowledge_seconds(target.producer_config)
        self._last_error: KafkaError | None = None
        # Without a connection, the client's serializer would wait for one for a minute.
        self._has_connected = False
        self._emitter = _emitter(target, {"error_cb": self._remember})
        self._producer: Producer = self._emitter.producers[MCP_KEY]

    def emit(
        self, batch: Sequence[Proposal], proceed: Callable[[], None] = always_proceed
    ) -> Sequence[Rejected]:
        """Deliver the batch; see `Sink`."""
        if not self._has_connected:
            proceed()
            self.topics()
            self._has_connected = True
        rejected: list[Rejected] = []
        for start in range(0, len(batch), PORTION):
            proceed()
            rejected += self._emit_portion(batch[start : start + PORTION])
        return rejected

    def topics(self) -> Collection[str]:
        """The names of the topics that the brokers know."""
        try:
            metadata = self._producer.list_topics(
                timeout=min(self._acknowledge_seconds, PROBE_SECONDS)
            )
        except KafkaException as error:
            raise self._unavailable(error.args[0]) from None
        return frozenset(metadata.topics)

    def close(self) -> None:
        """Close the connections."""
        self._emitter.close()

    def _remember(self, error: KafkaError) -> None:
        """Keep the reason why messages time out, which they don't have themselves."""
        self._last_error = error

    def _emit_portion(self, portion: Sequence[Proposal]) -> list[Rejected]:
        self._last_error = None
        reports: dict[int, KafkaError | None] = {}
        rejected: list[Rejected] = []
        try:
            for index, proposal in enumerate(portion):
                report = functools.partial(_report, reports, index)
                rejected += self._produce(proposal, report)
        finally:
            left = self._flush()
        if left:
            raise self._unavailable(None)
        for index, error in sorted(reports.items()):
            if error is not None:
                rejected.append(self._refusal(portion[index], error))
        return rejected

    def _produce(self, proposal: Proposal, report: Callable[[Any, Any], None]) -> list[Rejected]:
        """Queue a proposal; returns a rejection if it can never be sent."""
        try:
            self._emitter.emit_mcp_async(mcp(proposal), report)
        except ValueError as error:
            return [Rejected(proposal.urn, proposal.aspect, f"it is no UTF-8: {error}")]
        except BufferError:
            raise self._unavailable(None) from None
        except ProduceError as error:
            if isinstance(error.exception, AvroTypeException):
                return [Rejected(proposal.urn, proposal.aspect, "it can't be written as Avro")]
            raise _registry_error(error.exception, self._target) from None
        except MessageTooLargeError as error:
            return [Rejected(proposal.urn, proposal.aspect, str(error))]
        except KafkaException as error:
            return [self._refusal(proposal, error.args[0])]
        return []

    def _flush(self) -> int:
        """Wait until each message has its report; return how many still have none."""
        if self._producer.flush(self._acknowledge_seconds + 1):
            self._producer.purge()
            return int(self._producer.flush(1))
        return 0

    def _refusal(self, proposal: Proposal, error: KafkaError) -> Rejected:
        """What an error means for one proposal; raises what it means for all of them."""
        if error.code() in TOO_LARGE:
            return Rejected(proposal.urn, proposal.aspect, error.str())
        raise self._unavailable(error)

    def _unavailable(self, error: KafkaError | None) -> Unavailable:
        where = f"Kafka at {self._target.bootstrap}"
        for reason in (error, self._last_error):
            if reason is not None and reason.code() in CONFIGURATION:
                advice = "correct datahub_kafka_config: connection"
                return Misconfigured(f"{where}: {reason.str()}: {advice}")
        reason = self._last_error or error
        text = reason.str() if reason is not None else "too many messages are waiting"
        return Unavailable(f"Connection error: {where} did not take the proposals: {text}")


def _report(
    reports: dict[int, KafkaError | None], index: int, error: KafkaError | None, _: object
) -> None:
    reports[index] = error


def _acknowledge_seconds(config: Mapping[str, Any]) -> float:
    for key in TIMEOUT_KEYS:
        if key in config:
            return float(config[key]) / 1000
    return ACKNOWLEDGE_SECONDS


def _emitter(target: KafkaTarget, more: Mapping[str, Any]) -> DatahubKafkaEmitter:
    producer_config = {**DEFAULTS, **target.producer_config, **more}
    if not any(key in producer_config for key in TIMEOUT_KEYS):
        producer_config[TIMEOUT_KEYS[0]] = ACKNOWLEDGE_SECONDS * 1000
    try:
        connection = KafkaProducerConnectionConfig(
            bootstrap=target.bootstrap,
            schema_registry_url=target.schema_registry_url,
            schema_registry_config=_registry_config(target),
            producer_config=producer_config,
        )
        return DatahubKafkaEmitter(_emitter_config(connection, target.topic))
    except ValidationError as error:
        reasons = "; ".join(f"{detail['loc'][-1]}: {detail['msg']}" for detail in error.errors())
        raise _wrong(reasons) from None
    except KafkaException as error:
        raise _wrong(_without_secrets(error.args[0].str(), target)) from None
    except ValueError as error:
        raise _wrong(_without_secrets(str(error), target)) from None


def _registry_config(target: KafkaTarget) -> dict[str, Any]:
    return {"timeout": ACKNOWLEDGE_SECONDS, **target.schema_registry_config}


def _emitter_config(connection: KafkaProducerConnectionConfig, topic: str) -> KafkaEmitterConfig:
    routes = {MCE_KEY: DEFAULT_MCE_KAFKA_TOPIC, MCP_KEY: topic}
    options: dict[str, Any] = {"connection": connection, "topic_routes": routes}
    if "max_queue_full_block_seconds" in KafkaEmitterConfig.model_fields:
        options["max_queue_full_block_seconds"] = ACKNOWLEDGE_SECONDS  # five minutes by default
    return KafkaEmitterConfig(**options)


def _wrong(reason: str) -> ConfigurationError:
    return ConfigurationError(f"datahub_kafka_config: connection: {reason}")


def _without_secrets(text: str, target: KafkaTarget) -> str:
    """The text without any value of the two blocks of options, since each may be a password."""
    values = (*target.producer_config.values(), *target.schema_registry_config.values())
    for value in map(str, values):
        if value:
            text = text.replace(value, "…")
    return text


def _registry_error(error: BaseException | None, target: KafkaTarget) -> DeliveryError:
    url = error_text.address(target.schema_registry_url)
    if not isinstance(error, SchemaRegistryError):
        kind = type(error).__name__
        return Unavailable(f"Connection error: the schema registry is not up at {url} ({kind})")
    text = f"the schema registry at {url} answers {error.http_status_code}"
    if error.http_status_code in range(400, 500):
        return Misconfigured(
            f"{text}: correct datahub_kafka_config: connection: schema_registry_url"
        )
    return Unavailable(text)


# ---------------------------------------------------------------------------------------- for check


def probe(target: KafkaTarget) -> Sequence[Finding]:
    """Whether brokers and schema registry answer, and the topic of the proposals is there."""
    return [_probe_brokers(target), _probe_registry(target)]


def _probe_brokers(target: KafkaTarget) -> Finding:
    sink = KafkaSink(target)
    try:
        topics = sink.topics()
    except DeliveryError as error:
        return Finding(is_ok=False, what="Kafka", text=str(error))
    finally:
        sink.close()
    if target.topic not in topics:
        text = f"{target.bootstrap} has no topic {target.topic}: is it DataHub's Kafka?"
        return Finding(is_ok=False, what="Kafka", text=text)
    return Finding(is_ok=True, what="Kafka", text=f"the brokers at {target.bootstrap} answer")


def _probe_registry(target: KafkaTarget) -> Finding:
    """Whether the registry answers, with the credentials and certificates of delivery."""
    url = error_text.address(target.schema_registry_url)
    options = {"url": target.schema_registry_url, **_registry_config(target)}
    try:
        SchemaRegistryClient({**options, "timeout": PROBE_SECONDS, "max.retries": 0}).get_subjects()
    except Exception as error:  # noqa: BLE001 - the client wraps no errors
        # DataHub's own registry does not implement the list of subjects.
        if getattr(error, "http_status_code", None) != requests.codes.not_implemented:
            reason = _registry_error(error, target)
            return Finding(is_ok=False, what="schema registry", text=str(reason))
    return Finding(is_ok=True, what="schema registry", text=f"it answers at {url}")
