"""Delivery into a folder: one file a run, which `datahub ingest mcps` reads.

A file is a JSON array with one proposal a line. Lines are only ever added, before the closing
bracket; an incomplete line that a crash left is cut off by the next delivery to that file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import filelock

from datahub_eventlog.config import FileTarget
from datahub_eventlog.errors import Misconfigured, Rejected, Unavailable
from datahub_eventlog.sinks import Finding, always_proceed
from datahub_eventlog.values import Change, Proposal

HEAD = b"[\n"
TAIL = b"]\n"
RUNLESS = "runless"
LOCK = ".lock"
MAX_NAME_LENGTH = 200
LOCK_SECONDS = 10.0
"""To wait for another process that writes into the folder."""


class FileSink:
    """Appends to the files of a folder; other processes may do so at the same time."""

    def __init__(self, target: FileTarget) -> None:
        """Take a target; the folder is created with the first proposal."""
        self._folder = Path(target.path)
        self._lock = filelock.FileLock(self._folder / LOCK, timeout=LOCK_SECONDS)

    def emit(
        self, batch: Sequence[Proposal], proceed: Callable[[], None] = always_proceed
    ) -> Sequence[Rejected]:
        """Deliver the batch; see `Sink`. It is synced to disk when this returns."""
        lines: dict[str, list[bytes]] = {}
        rejected: list[Rejected] = []
        for proposal in batch:
            try:
                lines.setdefault(proposal.run_id, []).append(_line(proposal))
            except ValueError as error:
                reason = f"it is no JSON: {error}"
                rejected.append(Rejected(proposal.urn, proposal.aspect, reason))
        for run_id, run_lines in lines.items():
            proceed()
            with _explained(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                with self._lock:
                    _append(self._folder / file_name(run_id), run_lines)
        return rejected

    def close(self) -> None:
        """Do nothing: no file stays open."""


def file_name(run_id: str) -> str:
    """The name of a run's file; of the events without a run if `run_id` is empty."""
    # Dagster accepts any text as a run's id.
    safe = urllib.parse.quote(run_id, safe="").replace(".", "%2E")
    if len(safe) > MAX_NAME_LENGTH:
        safe = hashlib.sha256(run_id.encode()).hexdigest()
    return f"{safe or RUNLESS}.json"


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Raise what an error of the operating system means for delivery."""
    try:
        yield
    except filelock.Timeout:
        raise Unavailable(
            f"another process has held {folder / LOCK} for {LOCK_SECONDS:g} s"
        ) from None
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        text = f"{error.filename or folder} can't be written ({error.strerror})"
        advice = "correct datahub_file_config: path, or its rights"
        raise Misconfigured(f"{text}: {advice}") from error
    except OSError as error:
        raise Unavailable(f"{folder} can't be written: {error.strerror}") from error


def _line(proposal: Proposal) -> bytes:
    """The proposal in the client's form for files; raises `ValueError` if it is no JSON."""
    fields: dict[str, Any] = {
        "entityType": proposal.entity_type,
        "entityUrn": proposal.urn,
        "changeType": proposal.change.value,
        "aspectName": proposal.aspect,
        "aspect": aspect_json(proposal),
    }
    if proposal.headers:
        fields["headers"] = dict(proposal.headers)
    if proposal.run_id:
        fields["systemMetadata"] = {"runId": proposal.run_id}
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def aspect_json(proposal: Proposal) -> dict[str, Any]:
    """The field `aspect` of a proposal in a file; raises `ValueError` if its body is no JSON."""
    value = json.loads(proposal.body)
    if value:
        return {"json": value}
    # The client would read an empty value as no value.
    kind = "application/json-patch+json" if proposal.change is Change.PATCH else "application/json"
    return {"value": proposal.body, "contentType": kind}


def _append(path: Path, lines: Sequence[bytes]) -> None:
    is_new = not path.exists()
    # Unbuffered: after a failed write, closing the file must not write the rest.
    with path.open("xb+" if is_new else "rb+", buffering=0) as file:
        end = _end(file, path)
        head = b"" if end else HEAD
        comma = b"," if end > len(HEAD) else b""
        try:
            _write(file, end, head + comma + b",".join(lines) + TAIL)
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(end)
                _write(file, end, TAIL if end else HEAD + TAIL)
            raise
    if is_new:
        _sync_folder(path.parent)


def _write(file: FileIO, position: int, content: bytes) -> None:
    file.seek(position)
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def _end(file: FileIO, path: Path) -> int:
    """Where the complete lines end; an incomplete one, from a crash, is cut off."""
    size = file.seek(0, os.SEEK_END)
    if size >= len(HEAD + TAIL):
        file.seek(size - len(TAIL) - 1)
        if file.read() == b"\n" + TAIL:
            return size - len(TAIL)
    file.seek(0)
    content = file.readall()
    end = content.rfind(b"\n") + 1
    if not _is_ours(content[:end] or content):
        raise Misconfigured(f"{path} is not a file of proposals that we wrote: move it away")
    file.truncate(end)
    return end


def _is_ours(content: bytes) -> bool:
    first, *lines = content.splitlines() or [HEAD.strip()]
    try:
        values = [json.loads(line.removeprefix(b",")) for line in lines]
    except ValueError:
        return False
    return first == HEAD.strip() and all(isinstance(value, dict) for value in values)


def _sync_folder(folder: Path) -> None:
    """Sync a new file's name, too; some systems can't."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def probe(target: FileTarget) -> Sequence[Finding]:
    """Whether the folder is there, or can be made, and can be written."""
    folder = Path(target.path)
    try:
        with _explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(HEAD)
    except Unavailable as error:
        return [Finding(is_ok=False, what="folder", text=str(error))]
    return [Finding(is_ok=True, what="folder", text=f"{folder} can be written")]
