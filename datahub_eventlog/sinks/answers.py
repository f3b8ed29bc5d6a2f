"""What an answer of DataHub's GMS, or its absence, means for what was sent.

| answer | meaning |
|---|---|
| 200 with JSON | applied |
| 400, 409, 412, 413, 422 | `Refused`: the content of at least one proposal |
| 500 | `ServerError`: the server is down, or one proposal causes it |
| no whole answer in time, 408, 504 | `TimedOut`: too much at once, or the server is stuck |
| 503 for two transactions that conflict in the database | `Conflict` |
| 401, 403, 404 and other 4xx; a web page; an untrusted certificate | `Misconfigured` |
| a redirect that loses what was sent, or leads to another origin | `Misconfigured` |
| a success whose content is too long; of an error the beginning is enough | `Unending` |
| no connection, 425, 429, 502, 503; an answer that is no HTTP; anything else | `Unavailable` |

Nothing else is raised, whatever an answer contains.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import re
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

import requests
from urllib3.exceptions import (
    ConnectTimeoutError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
)

from datahub_eventlog import error_text
from datahub_eventlog.errors import Conflict, DeliveryError, Misconfigured, Unavailable
from datahub_eventlog.sinks.session import Endless, RedirectedElsewhere, Unreadable, is_cut

MAX_REASON_LENGTH = 500
SUCCESS = range(200, 300)
CONTENT = frozenset({400, 409, 412, 413, 422})
TOO_LARGE = 413
SERVER_ERROR = 500
TOO_SLOW = frozenset({408, 504})
PASSING = frozenset({425, 429})
LOSING_REDIRECTS = frozenset({301, 302, 303})
"""They turn a POST into a GET, so nothing would be written."""

CONFLICT = b"DATABASE_TRANSACTION_CONFLICT"
"""In the answer of GMS 1.7 where another request wrote the same rows."""
MESSAGE = r'"message"\s*:\s*"((?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u]){0,2000})'
UNTRUSTED = ("CERTIFICATE", "WRONG_VERSION", "RECORD_LAYER")

ADVICE: Mapping[int, str] = {
    401: "it does not accept the token: put a valid one into DATAHUB_GMS_TOKEN, or into "
    "datahub_client_config: token",
    403: "the token may not write: give its owner the privilege to edit entities",
    404: "there is no such path: `server` must be the address of GMS (usually "
    "http://<gms host>:8080) or of the frontend's proxy to it (usually "
    "http://<frontend host>:9002/api/gms)",
    407: "a proxy asks for credentials: put them into HTTP_PROXY",
}


class Refused(DeliveryError):
    """DataHub refused a request for the content of at least one of its proposals."""

    def __init__(self, reason: str, *, is_too_large: bool = False) -> None:
        """`is_too_large`: whether a smaller request may be accepted."""
        super().__init__(reason)
        self.is_too_large = is_too_large


class ServerError(DeliveryError):
    """DataHub answered 500."""


class TimedOut(DeliveryError):
    """DataHub did not answer in time; the request may still be applied."""


class Unending(Unavailable):
    """DataHub's answer is far too long: repeating the request at once would not help."""


def judge(response: requests.Response, url: str) -> Mapping[str, Any]:
    """The content of a successful answer; raises what any other answer means.

    A redirect that keeps the request's body is a success without content: the client follows it.
    """
    if response.is_redirect:
        if response.status_code in LOSING_REDIRECTS:
            raise _elsewhere(url, f"redirects to {_location(response, url)}")
        return {}
    answer = content(response)
    status = response.status_code
    if answer is not None and status in SUCCESS:
        return answer
    is_gms = answer is not None or _is_cut_object(response)
    if status in CONTENT and (is_gms or status == TOO_LARGE):
        raise Refused(f"{status}: {_reason(response)}", is_too_large=status == TOO_LARGE)
    raise _error_answer(response, url)


def _location(response: requests.Response, url: str) -> str:
    try:
        there = urllib.parse.urljoin(url, response.headers["Location"])
    except ValueError:
        return "something that is no address"
    return error_text.one_line(error_text.address(there))


def _elsewhere(url: str, what: str) -> Misconfigured:
    return Misconfigured(f"{url} {what}: make `server` the final address")


def _error_answer(response: requests.Response, url: str) -> DeliveryError:
    status = response.status_code
    what = f"DataHub's GMS at {url} answers {status}"
    if status == SERVER_ERROR:
        return ServerError(f"{what}: {_reason(response)}")
    if status > SERVER_ERROR and CONFLICT in response.content:
        return Conflict(f"{what}: another transaction writes the same")
    if status in TOO_SLOW:
        return TimedOut(f"{what}: it took too long")
    if status in PASSING or status > SERVER_ERROR:
        return Unavailable(f"{what}: {_reason(response)}", retry_after=_retry_after(response))
    if status in ADVICE:
        return Misconfigured(f"{url} answers {status}: {ADVICE[status]}")
    return Misconfigured(f"what answers at {url} is not DataHub's GMS ({status}): {ADVICE[404]}")


def content(response: requests.Response) -> Mapping[str, Any] | None:
    """The JSON object of an answer; None for a web page or the like."""
    if not response.content and "X-RestLi-Protocol-Version" in response.headers:
        return {}
    # Not in the charset that the answer names: some take forever to decode, as does guessing one.
    with contextlib.suppress(ValueError, RecursionError):
        try:
            answer = json.loads(response.content)
        except UnicodeDecodeError:
            answer = json.loads(response.content.decode("latin-1"))
        return answer if isinstance(answer, dict) else None
    return None


def _is_cut_object(response: requests.Response) -> bool:
    return is_cut(response) and response.content.lstrip().startswith(b"{")


def _cut_message(response: requests.Response) -> Mapping[str, Any]:
    """The message of a JSON object that was cut off, or the beginning of it."""
    if not _is_cut_object(response):
        return {}
    match = re.search(MESSAGE, response.content.decode(errors="replace"))
    with contextlib.suppress(ValueError):
        return {"message": json.loads(f'"{match[1]}"', strict=False)} if match else {}
    return {}


def _reason(response: requests.Response) -> str:
    """The server's message on one line, without its stack trace."""
    answer = content(response) or _cut_message(response)
    texts = (answer.get("message"), answer.get("error"), response.reason)
    reason = next((text for text in texts if text and isinstance(text, str)), "no reason")
    return error_text.one_line(reason, MAX_REASON_LENGTH)


def _retry_after(response: requests.Response) -> float | None:
    """The seconds that the server asks to wait; it names them, or the time to come back."""
    value = response.headers.get("Retry-After", "").strip()
    with contextlib.suppress(ArithmeticError, LookupError, OSError, TypeError, ValueError):
        if value.isdecimal():
            return float(value)
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None


def request_failure(error: BaseException | None, url: str, seconds: float) -> DeliveryError:
    """What an error of the client means for delivery; `seconds` is the timeout.

    The message has the kind of an error and not its text: that of a bad header has the token.
    """
    reason = _innermost(error)
    match reason:
        case RedirectedElsewhere():
            return _elsewhere(url, str(reason))
        case requests.TooManyRedirects():
            return _elsewhere(url, "redirects again and again")
        case _:
            return _connection_failure(reason, url, seconds)


def _connection_failure(reason: BaseException | None, url: str, seconds: float) -> DeliveryError:
    match reason:
        case Endless() | Unreadable():
            kind = Unending if isinstance(reason, Endless) else Unavailable
            return kind(f"DataHub's GMS at {url} gives no usable answer: {reason}")
        case requests.exceptions.InvalidHeader():
            return Misconfigured("the token or a header in extra_headers has a line break in it")
        case requests.exceptions.RequestException() if isinstance(reason, ValueError):
            return Misconfigured(f"{url} is no address that can be asked: correct `server`")
        case requests.exceptions.ReadTimeout() | ReadTimeoutError() | TimeoutError():
            return TimedOut(f"DataHub's GMS at {url} did not answer within {seconds:g} s")
        case ssl.SSLError() if any(sign in str(reason) for sign in UNTRUSTED):
            return Misconfigured(
                f"the certificate of {url} is not trusted, or it does not speak TLS: correct "
                "`server`, or name the authority's certificate in ca_certificate_path"
            )
        case _:
            why = _why(reason, seconds)
            return Unavailable(f"Connection error: DataHub's GMS is not up at {url} ({why})")


def _innermost(error: BaseException | None) -> BaseException | None:
    """The cause in urllib3 or below, which requests wraps."""
    while error is not None:
        # A ProtocolError has a text of urllib3's before what http.client or the socket raised.
        args = error.args if isinstance(error, ProtocolError) else error.args[:1]
        inner = (getattr(error, "reason", None), *args)
        causes = [value for value in inner if isinstance(value, BaseException)]
        if not causes:
            break
        error = causes[0]
    return error


def _why(reason: BaseException | None, seconds: float) -> str:
    match reason:
        case NewConnectionError():
            return str(reason).rpartition(": ")[2]
        case ConnectTimeoutError():
            return f"no answer within {seconds:g} s"
        case ProxyError():
            return "the proxy does not answer"
        case ssl.SSLError() | ConnectionError() | ProtocolError() | http.client.IncompleteRead():
            return "the connection ended too early"
        case _:
            return type(reason).__name__
