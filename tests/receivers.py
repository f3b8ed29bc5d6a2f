"""Receivers in the place of DataHub, for any test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from receiver import Receiver


@pytest.fixture
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    """A receiver that demands the `TOKEN` of the test's module, if it has one."""
    with Receiver(token=getattr(request.module, "TOKEN", None)) as receiver:
        yield receiver


class Sleeps(list[float]):
    """Records the seconds that a sink wants to wait, and does not wait."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)
