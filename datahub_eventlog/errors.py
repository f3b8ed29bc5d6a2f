"""The exception tree, and what happens after each one.

```
DataHubEventLogError
├── ConfigurationError    the dispatcher does not start; check, worker: exit 1 with the message
├── PatternTooSlow        the run is deferred, and parked after `max_attempts`; check: exit 1
├── LedgerUnavailable     capture: logged, repeated at the next event; dispatcher: tries again
│   └── LedgerMissing     capture and dispatcher: a local file is the ledger instead
├── LedgerRefused         capture: logged; the run is deferred, and parked after `max_attempts`
├── LeaseLost             the run belongs to another dispatcher now: logged, nothing is written
└── DeliveryError
    ├── Unavailable       the dispatcher pauses all runs; no run loses an attempt
    │   └── Misconfigured the same pause; the message says what to correct
    ├── Conflict          the run is tried again within seconds; no pause, no attempt is lost
    └── Rejected          recorded with urn, aspect and reason; everything else is delivered
```
"""


class DataHubEventLogError(Exception):
    """Something in datahub_eventlog went wrong; the base of every error it raises."""


class ConfigurationError(DataHubEventLogError):
    """The `datahub:` block of dagster.yaml, or something it names, is wrong."""


class PatternTooSlow(DataHubEventLogError):
    """A pattern of the configuration does not decide in time whether it fits a name."""


class LedgerUnavailable(DataHubEventLogError):
    """The ledger's database could not be reached or written in time."""


class LedgerMissing(LedgerUnavailable):
    """The ledger's tables don't exist, and can't be created."""


class LedgerRefused(DataHubEventLogError):
    """The ledger's database refuses a value, such as a letter that its character set lacks."""


class LeaseLost(DataHubEventLogError):
    """The lease has expired and another dispatcher has taken the run."""


class DeliveryError(DataHubEventLogError):
    """DataHub did not accept a batch."""


class Unavailable(DeliveryError):
    """DataHub can't be reached, is overloaded, or has a temporary fault."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        """`retry_after`: the seconds that the server asked to wait, if it did."""
        super().__init__(message)
        self.retry_after = retry_after


class Misconfigured(Unavailable):
    """DataHub answers, but address, token or rights are wrong: waiting alone won't help."""


class Conflict(DeliveryError):
    """Another client writes the same entities, again and again."""


class Rejected(DeliveryError):
    """DataHub refused one proposal for its content."""

    def __init__(self, urn: str, aspect: str, reason: str) -> None:
        """`reason`: the server's own."""
        super().__init__(f"{urn} {aspect}: {reason}")
        self.urn = urn
        self.aspect = aspect
        self.reason = reason
