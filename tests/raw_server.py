"""A server that answers with any bytes at all, well-formed or not."""

from __future__ import annotations

import contextlib
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from itertools import repeat, takewhile
from typing import TypeAlias

from typing_extensions import Self

Answer: TypeAlias = Callable[[], Iterator[bytes]]
"""The pieces that are sent one after the other, as long as somebody takes them."""


class RawServer:
    """Answers every request in the same way, whatever was asked. Starts as a context manager."""

    def __init__(self, answer: Answer, *, is_reading: bool = True) -> None:
        """`is_reading`: whether it takes the content of a request."""
        self._answer = answer
        self._is_reading = is_reading
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.requests: list[bytes] = []
        """The heads of the requests."""
        self.sent = 0
        """Bytes that the other side, or the network between, took of our answers."""
        self.gone = threading.Event()
        """Somebody went away in the middle of an answer."""
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._connected, args=(connection,), daemon=True).start()

    def _connected(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as file:
            while head := b"".join(
                takewhile(lambda line: bytes(line).strip(), iter(file.readline, b""))
            ):
                self.requests.append(head)
                if not self._is_reading:
                    self.ended.wait()
                length = next(
                    (x for x in head.splitlines() if x.lower().startswith(b"content-l")), b":0"
                )
                file.read(int(length.partition(b":")[2]))
                self._send(connection)

    def _send(self, connection: socket.socket) -> None:
        try:
            for piece in self._answer():
                connection.sendall(piece)
                self.sent += len(piece)
        except OSError:
            self.gone.set()
            raise


def head(*lines: str, status: str = "200 OK") -> bytes:
    """The first line and the headers of an answer."""
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "\r\n"]).encode("latin-1")


def whole(body: bytes, *lines: str, status: str = "200 OK") -> Answer:
    """An answer with that content, of the length that it says."""
    length = f"Content-Length: {len(body)}"
    return lambda: iter([head(length, *lines, status=status), body])


def exactly(content: bytes) -> Answer:
    """These bytes and nothing else."""
    return lambda: iter([content])


def endless(start: bytes, piece: bytes) -> Answer:
    """A beginning, and then the same for ever."""

    def answer() -> Iterator[bytes]:
        yield start
        yield from repeat(piece)

    return answer


def dripping(content: bytes, wait: Callable[[float], object]) -> Answer:
    """A byte, and then another one every tenth of a second."""

    def answer() -> Iterator[bytes]:
        for byte in content:
            yield bytes([byte])
            wait(0.1)

    return answer


def packed(size: int) -> bytes:
    """So many zeros as gzip has them: a thousandth."""
    packer = zlib.compressobj(wbits=31)
    return packer.compress(bytes(size)) + packer.flush()
