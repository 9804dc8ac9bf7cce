"""One JSON answer over HTTP, within a time that holds whatever the server does. Standard library alone."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from http.client import HTTPException
from typing import IO, Any
from urllib.parse import urlencode, urlsplit

_LARGEST_ANSWER = 4 << 20
_HERE = ("127.0.0.1", "::1", "localhost")
_REASONS = {
    400: "does not know what was asked",
    401: "refuses the token",
    403: "refuses the token, or does not give it this",
    404: "does not know what was asked",
    429: "was asked too often; wait",
}


class Unanswered(Exception):
    """There is no answer that can be used; the message is one line."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token elsewhere."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        fp.close()
        raise Unanswered(f"{urlsplit(req.full_url).hostname} sends us elsewhere, which is not followed")


def ask(url: str, query: Mapping[str, str], token: str, deadline_s: float) -> Any:
    """The JSON content of the answer to a GET with the header `auth-token`.

    Parameters
    ----------
    url
        https, or http to this machine.
    deadline_s
        When to give up, on the clock of `time.monotonic`. It holds for names that do not resolve and servers that
        drip bytes too: the request runs in a thread, which is left behind.

    Raises
    ------
    Unanswered
        For everything that can go wrong.
    """
    if why := refusal(url, token):
        raise Unanswered(why)
    host = urlsplit(url).hostname or ""
    request = urllib.request.Request(
        f"{url}?{urlencode(query)}",
        headers={"auth-token": token, "Accept": "application/json", "User-Agent": "energyprof"},
    )
    text = _within(request, host, deadline_s)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Unanswered(f"{host} answered with something that is no JSON") from None


def refusal(url: str, token: str) -> str:
    """Why this is never asked; empty where it may be. Nothing is asked."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:  # such as [::
        return f"{url[:60]!r} is no address"
    if not host or (parts.scheme != "https" and not (parts.scheme == "http" and host in _HERE)):
        return f"{url[:60]!r} is not https"
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        return "the token is empty, or not of letters and digits alone"
    return ""


def _within(request: urllib.request.Request, host: str, deadline_s: float) -> bytes:
    """The body, from a thread that is waited for until the deadline."""
    outcome: list[bytes | Exception] = []

    def run() -> None:
        try:
            outcome.append(_read(request, host, deadline_s))
        except Exception as fault:  # handed over to whoever waits
            outcome.append(fault)

    thread = threading.Thread(target=run, name="energyprof-asking", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread can be had
        raise Unanswered(f"{host} was not asked: no thread can be started") from None
    thread.join(max(0.0, deadline_s - time.monotonic()))
    if not outcome:
        raise Unanswered(f"{host} did not answer in time")
    if isinstance(outcome[0], Exception):
        raise _reason(outcome[0], host) from None
    return outcome[0]


def _read(request: urllib.request.Request, host: str, deadline_s: float) -> bytes:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if host in _HERE:
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    body = bytearray()
    with opener.open(request, timeout=_left_s(deadline_s)) as answer:
        while True:
            _left_s(deadline_s)
            piece = answer.read1(65536)
            if not piece:
                return bytes(body)
            body += piece
            if len(body) > _LARGEST_ANSWER:
                raise Unanswered(f"{host} answered with more than {_LARGEST_ANSWER >> 20} MB")


def _left_s(deadline_s: float) -> float:
    left = deadline_s - time.monotonic()
    if left <= 0.0:
        raise TimeoutError
    return left


def _reason(fault: Exception, host: str) -> Unanswered:
    """What went wrong, in one line, and without the token."""
    if isinstance(fault, Unanswered):
        return fault
    if isinstance(fault, urllib.error.HTTPError):
        code = fault.code
        fault.close()
        return Unanswered(f"{host} {_REASONS.get(code, 'has a fault')} (HTTP {code})")
    cause = fault.reason if isinstance(fault, urllib.error.URLError) else fault
    if isinstance(cause, TimeoutError):
        return Unanswered(f"{host} did not answer in time")
    if isinstance(cause, HTTPException):
        return Unanswered(f"{host} answered with something that is no HTTP")
    why = (getattr(cause, "strerror", None) or str(cause) or type(cause).__name__).splitlines()[0]
    return Unanswered(f"{host} cannot be reached: {why[:80]}")
