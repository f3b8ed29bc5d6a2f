"""Comparing a sample of the delivered runs with DataHub, from time to time.

It has a thread, an instance and connections of its own: a DataHub that answers slowly keeps no
delivery waiting. The dispatchers of a ledger take turns.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from datahub_eventlog import error_text
from datahub_eventlog.config import Config, readable_target
from datahub_eventlog.dispatcher.assembling import Open, assemble
from datahub_eventlog.dispatcher.observer import Observer
from datahub_eventlog.dispatcher.parts import Parts
from datahub_eventlog.dispatcher.verifying import Expectations, newer_run, send_again
from datahub_eventlog.errors import DeliveryError, LedgerUnavailable
from datahub_eventlog.log import Repeated, logger
from datahub_eventlog.sinks.reading import RestReader
from datahub_eventlog.verification.findings import Tally
from datahub_eventlog.verification.verifier import Found, Verifier

CHECK_EVERY = timedelta(seconds=60)
"""How often it is asked whose turn it is."""
TURN = "verify"
END_TIMEOUT = timedelta(seconds=5)


@contextmanager
def sampling(config: Config, open_instance: Open, observer: Observer) -> Iterator[None]:
    """Verify samples in a thread until the end."""
    thread = SampleThread(config, open_instance, observer)
    thread.start()
    try:
        yield
    finally:
        thread.stop()


class SampleThread:
    """Verifies in the background until `stop`; errors are logged, never raised."""

    def __init__(self, config: Config, open_instance: Open, observer: Observer) -> None:
        self._config = config
        self._open = open_instance
        self._observer = observer
        self._stop = threading.Event()
        self._error = Repeated()
        self._thread = threading.Thread(
            target=self._run, name="datahub-eventlog-verify", daemon=True
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end, and wait for that, but not for a server that does not answer."""
        self._stop.set()
        self._thread.join(END_TIMEOUT.total_seconds())

    def _run(self) -> None:
        every = min(CHECK_EVERY, self._config.verify.interval).total_seconds()
        while not self._stop.wait(every):
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - deliveries go on
                reason = error_text.describe(error)
                self._error.log("Nothing could be compared with DataHub: %s", reason)

    def _look(self) -> None:
        """Compare a sample, if it is this process's turn."""
        with self._open() as opened:
            if opened.ledger.upkeep.may_begin(TURN, self._config.verify.interval):
                with assemble(opened, self._config) as parts:
                    self._compare(parts)

    def _compare(self, parts: Parts) -> None:
        reader = RestReader(readable_target(self._config), sleep=self._wait)
        found: list[Found] = []

        def compare() -> None:
            found.extend(verifier.compare().found)

        verifier = Verifier(parts.ledger, reader, newer_run(parts.source), self._wait, compare)
        try:
            sample = parts.ledger.runs.sample(self._config.verify.sample)
            self._add(sample, parts, verifier)
            compare()
        finally:
            reader.close()
        self._report(verifier.tally, len(sample))
        send_again(parts, [each for each in found if each.finding.is_fault])
        self._error.forget()

    def _add(self, sample: Sequence[str], parts: Parts, verifier: Verifier) -> None:
        expectations = Expectations(self._config, parts, verifier)
        rows = parts.ledger.runs.rows(sample)
        for run_id in sample:
            if self._stop.is_set():
                return
            try:
                expectations.add_run(run_id, rows.get(run_id))
            except (LedgerUnavailable, DeliveryError):
                raise
            except Exception as error:  # noqa: BLE001 - one bad run must not hold up the others
                logger.info("Run %s is not compared: %s", run_id, error_text.describe(error))

    def _report(self, tally: Tally, runs: int) -> None:
        self._observer.verified(tally.aspects, tally.faults)
        for reason in tally.not_readable.values():
            logger.warning("Not all could be compared with DataHub: %s", reason)
        if tally.faults:
            logger.warning(
                "DataHub lacks, or has otherwise, %d of %d aspects of %d runs; they are sent again."
                " `datahub-eventlog verify` compares all runs",
                tally.faults,
                tally.aspects,
                runs,
            )

    def _wait(self, seconds: float) -> None:
        self._stop.wait(seconds)
