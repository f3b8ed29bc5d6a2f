"""A dispatcher keeps the ledger's SQLite file open."""

import sqlite3
from contextlib import closing
from pathlib import Path

from datahub_eventlog.ledger import Ledger


def test_a_held_file_keeps_its_journal_and_lets_others_write(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    journal = tmp_path / "ledger.db-wal"
    ledger = Ledger.in_file(str(path), patience=5)
    ledger.migrate()
    ledger.touch("one")
    assert not journal.exists(), "the last to close it has emptied it"

    with ledger.held():
        ledger.touch("two")
        assert journal.exists()
        with closing(sqlite3.connect(path, timeout=0)) as other:
            other.execute("BEGIN EXCLUSIVE")
            other.rollback()

    assert not journal.exists()
    assert ledger.missing(["one", "two"]) == []


def test_a_file_that_cannot_be_opened_is_not_held(tmp_path: Path) -> None:
    ledger = Ledger.in_file(str(tmp_path / "nowhere" / "ledger.db"), patience=5)

    with ledger.held():
        assert not (tmp_path / "nowhere").exists()
