"""HTTP requests with bounds: on their time, on the bytes of an answer, and to one origin.

The bytes are bounded as they arrive and after decompression. A server may take the whole timeout
until it begins to answer; the whole request takes a quarter more at most. A redirect to another
scheme, host or port is refused before anything is sent there.
"""

from __future__ import annotations

import functools
import http.client
import io
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from datahub_eventlog import error_text

ANSWER_BYTES = 4 * 2**20
"""Of an answer to proposals, which is short."""
REFUSAL_BYTES = 64 * 2**10
"""Of an error, whose status says enough; the rest is cut off."""
GRAPH_BYTES = 64 * 2**20
"""Of an answer to a query; a single aspect has at most the 16 MB of a request."""
HEAD_BYTES = 2**20
"""Of headers and the sizes of chunks, in addition."""
PIECE_BYTES = 16 * 1024
"""Of one record of TLS, for which the socket's timeout counts."""
TOTAL_SHARE = 1.25
"""Of the timeout, for connecting, sending and the whole answer."""
MAX_REDIRECTS = 5
FIRST_ERROR = 400
"""The first status of an error."""
CUT = "_datahub_eventlog_is_cut"
COMPRESSIONS = frozenset({"", "gzip", "x-gzip", "deflate"})
"""Compressions that urllib3 undoes piece by piece, in all of its versions."""
UNCOMPRESSED = frozenset(
    {
        *("", "identity", "none", "utf-8", "utf8", "ascii", "us-ascii"),
        *("iso-8859-1", "iso-8859-15", "latin-1", "latin1", "windows-1252"),
    }
)
"""What servers write there for content that is not compressed; charsets belong elsewhere."""
PORTS = {"http": 80, "https": 443}
PROTOCOL_ERRORS = (
    *(ArithmeticError, LookupError, RecursionError, ValueError),
    *(http.client.HTTPException, HTTPError),
)
"""What urllib3 and requests raise, and don't wrap, when an answer breaks the rules."""


class RedirectedElsewhere(requests.RequestException):
    """The server redirects to another origin."""


class Endless(requests.RequestException):
    """The server's answer is too long."""


class Unreadable(requests.RequestException):
    """The server's answer breaks the rules of HTTP."""


Origin = tuple[str, str | None, int | None]


@dataclass(frozen=True)
class _Exchange:
    """A request with its redirects, until its answer is read."""

    origin: Origin
    end: float
    """By the monotonic clock."""
    most_bytes: int
    responses: list[requests.Response] = field(default_factory=list)

    def time_left(self, timeout: float | None) -> float:
        """The seconds for the next wait; raises `TimeoutError` if none are left."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time for the request is over")
        return left if timeout is None else min(left, timeout)


_exchange: ContextVar[_Exchange | None] = ContextVar("exchange", default=None)


class BoundedSession(requests.Session):
    """A session with the settings of another one, and these bounds.

    Raises what any session raises, and the exceptions of this module, which are of that kind.
    """

    def __init__(self, session: requests.Session, seconds: float, most_bytes: int) -> None:
        """Take over headers, certificates and adapters; `seconds` is the default timeout."""
        super().__init__()
        state: dict[str, Any] = session.__getstate__()
        self.__setstate__(state)
        for prefix in PORTS:
            self.mount(f"{prefix}://", _Adapter(session.get_adapter(f"{prefix}://")))
        self.headers["Accept-Encoding"] = "gzip"
        self.max_redirects = MAX_REDIRECTS
        self._seconds = seconds
        self._most_bytes = most_bytes

    def send(self, request: requests.PreparedRequest, **settings: Any) -> requests.Response:
        """Send a request, or the next one after a redirect."""
        settings["timeout"] = settings.get("timeout") or self._seconds
        exchange = _exchange.get()
        if exchange is None:
            return self._begin(request, settings)
        if _origin(request.url) != exchange.origin:
            raise RedirectedElsewhere(f"redirects to {error_text.address(str(request.url))}")
        return super().send(request, **settings)

    def _begin(
        self, request: requests.PreparedRequest, settings: dict[str, Any]
    ) -> requests.Response:
        timeout = settings["timeout"]
        seconds = max(timeout) if isinstance(timeout, tuple) else timeout
        end = time.monotonic() + TOTAL_SHARE * seconds
        exchange = _Exchange(_origin(request.url), end, self._most_bytes)
        token = _exchange.set(exchange)
        try:
            return super().send(request, **settings)
        except BaseException as error:
            for response in exchange.responses:  # some may not be read to the end
                response.close()
            if _is_unreadable(error):
                raise Unreadable(f"its answer is no HTTP ({type(error).__name__})") from error
            raise
        finally:
            _exchange.reset(token)


def _is_unreadable(error: BaseException) -> bool:
    """Whether an answer broke the rules, and not the request."""
    if isinstance(error, requests.RequestException | UnicodeEncodeError):
        return False
    return isinstance(error, PROTOCOL_ERRORS)


def _origin(url: str | None) -> Origin:
    try:
        split = urllib.parse.urlsplit(url or "")
        return split.scheme, split.hostname, split.port or PORTS.get(split.scheme)
    except ValueError as error:
        raise requests.exceptions.InvalidURL(str(error)) from None


class _Adapter(HTTPAdapter):
    """An adapter with the settings of another one, whose connections keep the bounds."""

    def __init__(self, adapter: Any) -> None:
        super().__init__()
        self.__setstate__(adapter.__getstate__())
        # A server may ask to wait for a day; the dispatcher decides how long to pause.
        self.max_retries = self.max_retries.new(respect_retry_after_header=False)

    def init_poolmanager(self, *args: Any, **settings: Any) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*args, **settings)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **settings: Any) -> Any:
        """The pools of connections that go through that proxy."""
        manager = super().proxy_manager_for(proxy, **settings)
        if isinstance(manager, ProxyManager):  # SOCKS has connections of its own
            manager.pool_classes_by_scheme = POOLS
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **settings: Any) -> Any:
        """Send a request; its answer is read later, within the bounds."""
        response = super().send(request, *args, **settings)
        exchange = _exchange.get()
        if exchange is not None:
            exchange.responses.append(response)
            _check(response, exchange.most_bytes)
            raw = response.raw
            bounded = functools.partial(_at_most, exchange.most_bytes)
            if response.status_code >= FIRST_ERROR:
                bounded = functools.partial(_beginning, raw)
            raw.stream = functools.partial(bounded, raw.stream, raw.close)
        return response


def is_cut(response: requests.Response) -> bool:
    """Whether an error was too long to be read to its end."""
    return getattr(response.raw, CUT, False)


def _check(response: requests.Response, most_bytes: int) -> None:
    """Raise what the headers of an answer show already."""
    compression = _compression(response)
    length = response.headers.get("Content-Length", "").strip()
    # Compared as text first: `int` refuses thousands of digits.
    is_long = length.isdecimal() and (
        len(length.lstrip("0")) > len(str(most_bytes)) or int(length) > most_bytes
    )
    if compression in COMPRESSIONS and (response.status_code >= FIRST_ERROR or not is_long):
        return
    response.close()
    if compression not in COMPRESSIONS:
        raise Unreadable("its answer is compressed in a way that was not asked for")
    raise _too_long(most_bytes)


def _compression(response: requests.Response) -> str:
    """How the content is compressed; the header is corrected, as urllib3 does not know `none`."""
    names = response.headers.get("Content-Encoding", "").lower().split(",")
    compression = ",".join(name.strip() for name in names if name.strip() not in UNCOMPRESSED)
    if "Content-Encoding" in response.headers:
        response.raw.headers["Content-Encoding"] = compression
    return compression


def _at_most(
    most_bytes: int,
    stream: Callable[..., Iterator[bytes]],
    close: Callable[[], None],
    *args: Any,
    **settings: Any,
) -> Iterator[bytes]:
    """The decompressed content; raises `Endless` if it is longer than that."""
    count = 0
    for piece in stream(*args, **settings):
        count += len(piece)
        if count > most_bytes:
            close()
            raise _too_long(most_bytes)
        yield piece


def _beginning(
    raw: Any,
    stream: Callable[..., Iterator[bytes]],
    close: Callable[[], None],
    *args: Any,
    **settings: Any,
) -> Iterator[bytes]:
    """The first bytes of an error; then the connection is closed."""
    left = REFUSAL_BYTES
    for piece in stream(*args, **settings):
        yield piece[:left]
        left -= len(piece)
        if left < 0:
            setattr(raw, CUT, True)
            close()
            return


def _too_long(most_bytes: int) -> Endless:
    return Endless(f"its answer is longer than {most_bytes // 2**20} MB")


class _Bytes(io.RawIOBase):
    """The bytes from a socket, until they are too many or too late."""

    def __init__(self, raw: Any, sock: Any, exchange: _Exchange) -> None:
        super().__init__()
        self._raw = raw
        self._socket = sock
        self._timeout: float | None = sock.gettimeout()
        self._exchange = exchange
        self._count = 0

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(self._exchange.time_left(self._timeout))
        count: int | None = self._raw.readinto(buffer)
        self._count += count or 0
        if self._count > self._exchange.most_bytes + HEAD_BYTES:
            raise _too_long(self._exchange.most_bytes)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer that is read within the bounds from its first line on."""

    def __init__(self, sock: Any, *args: Any, **settings: Any) -> None:
        super().__init__(sock, *args, **settings)
        exchange = _exchange.get()
        if exchange is not None:
            raw: Any = self.fp
            self.fp = io.BufferedReader(_Bytes(raw.detach(), sock, exchange))


class _Sending:
    """What both kinds of connections do differently from urllib3's."""

    sock: Any
    timeout: float | None

    def connect(self) -> None:
        exchange = _exchange.get()
        if exchange is not None:
            self.timeout = exchange.time_left(self.timeout)
        super().connect()  # type: ignore[misc]

    def send(self, data: Any) -> None:
        """Send piece by piece: over TLS, the timeout counts for each piece."""
        exchange = _exchange.get()
        for piece in _pieces(data):
            if exchange is not None and self.sock is not None:
                self.sock.settimeout(exchange.time_left(self.timeout))
            super().send(piece)  # type: ignore[misc]


def _pieces(data: Any) -> Iterator[Any]:
    if not isinstance(data, bytes) or len(data) <= PIECE_BYTES:
        yield data
        return
    view = memoryview(data)
    for start in range(0, len(view), PIECE_BYTES):
        yield view[start : start + PIECE_BYTES]


class _Connection(_Sending, HTTPConnection):
    response_class = _Answer


class _SecureConnection(_Sending, HTTPSConnection):
    response_class = _Answer


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _Pool, "https": _SecurePool}
