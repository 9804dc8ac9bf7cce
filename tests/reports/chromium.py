"""A headless Chromium that tests speak to: the DevTools protocol over a small WebSocket client (RFC 6455).

No frames with extensions, no servers other than the browser on this machine, text messages alone.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
_QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
    ),
    *(
        "--disable-extensions",
        "--no-default-browser-check",
        "--remote-debugging-port=0",
        "--window-size=1200,1600",
    ),
)
_PATIENCE_S = 30.0


class WebSocket:
    """The client's end of one connection."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self._socket = socket.create_connection((host, port), timeout=_PATIENCE_S)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._held = b""
        while b"\r\n\r\n" not in self._held:
            self._held += self._more()
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        assert b" 101 " in head.split(b"\r\n")[0], head

    def send(self, text: str) -> None:
        data = text.encode()
        mask = os.urandom(4)
        size = len(data)
        if size < 126:
            head = struct.pack("!BB", 0x81, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x81, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x81, 0x80 | 127, size)
        repeated = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        masked = (int.from_bytes(data, "big") ^ repeated).to_bytes(size, "big")
        self._socket.sendall(head + mask + masked)

    def receive(self) -> str:
        """The next whole message."""
        parts = b""
        while True:
            first, second = self._exactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", self._exactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self._exactly(8))
            data, kind = self._exactly(size), first & 0x0F
            if kind == 8:
                raise ConnectionError("the browser closed the connection")
            if kind in (0, 1):
                parts += data
                if first & 0x80:
                    return parts.decode()

    def close(self) -> None:
        self._socket.close()

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the browser went away")
        return data

    def _exactly(self, count: int) -> bytes:
        pieces, have = [self._held], len(self._held)
        while have < count:
            pieces.append(self._more())
            have += len(pieces[-1])
        whole = b"".join(pieces)
        self._held = whole[count:]
        return whole[:count]


class Tab:
    """One page: commands, and the events that came meanwhile."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **told: Any) -> dict[str, Any]:
        return self._browser.do(method, self._session, self.events, **told)

    def open(self, path: Path) -> None:
        """Load a file, and wait until it has settled."""
        self.events.clear()
        self.do("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript gives; promises are awaited."""
        found = self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a condition of JavaScript holds."""
        end = time.monotonic() + _PATIENCE_S
        while not self.value(f"!!({condition})"):
            assert time.monotonic() < end, f"never came: {condition}"
            time.sleep(0.02)

    def press(self, key: str, shift: bool = False) -> None:
        """Press and release a key."""
        code = {"Tab": 9, "Enter": 13, "Escape": 27, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}.get(
            key, 0
        )
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        told = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.do("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **told)
        self.do("Input.dispatchKeyEvent", type="keyUp", **told)

    def mouse(self, kind: str, x: float, y: float) -> None:
        self.do("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, path: Path, width: int = 1200, height: int = 0, scale: float = 1.0) -> None:
        """A picture of the page, of all its height where none is said."""
        self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height or 900,
            deviceScaleFactor=scale,
            mobile=False,
        )
        clip = {}
        if not height:
            tall = self.value("document.documentElement.scrollHeight")
            clip = {
                "captureBeyondViewport": True,
                "clip": {"x": 0, "y": 0, "width": width, "height": tall, "scale": 1},
            }
        data = self.do("Page.captureScreenshot", format="png", **clip)["data"]
        path.write_bytes(base64.b64decode(data))

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and exceptions."""
        found = []
        for event in self.events:
            told = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(told["exceptionDetails"])[:500])
            if event["method"] == "Runtime.consoleAPICalled" and told["type"] in (
                "error",
                "warning",
                "assert",
            ):
                found.append(json.dumps(told["args"])[:500])
            if event["method"] == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
                found.append(told["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """The addresses that were asked for."""
        return [
            e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"
        ]


class Browser:
    """One browser; `tab` gives pages with nothing in common."""

    def __init__(self, port: int, path: str) -> None:
        self._socket = WebSocket("127.0.0.1", port, path)
        self._number = 0

    def do(
        self, method: str, session: str | None, events: list[dict[str, Any]], **told: Any
    ) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {
            "id": number,
            "method": method,
            "params": told,
            **({"sessionId": session} if session else {}),
        }
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.receive())
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])
            if "method" in answer and answer.get("sessionId") == session:
                events.append(answer)

    def tab(self) -> Tab:
        context = self.do("Target.createBrowserContext", None, [])["browserContextId"]
        target = self.do("Target.createTarget", None, [], url="about:blank", browserContextId=context)[
            "targetId"
        ]
        session = self.do("Target.attachToTarget", None, [], targetId=target, flatten=True)["sessionId"]
        return Tab(self, session)

    def close(self) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self.do("Browser.close", None, [])
        self._socket.close()


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a profile of its own, gone at the end."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [PROGRAM, *_QUIET, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            said, end = Path(profile) / "DevToolsActivePort", time.monotonic() + _PATIENCE_S
            while not said.exists() or said.read_text().count("\n") < 1:
                assert process.poll() is None, "Chromium did not start"
                assert time.monotonic() < end, "Chromium does not say where it listens"
                time.sleep(0.02)
            port, path = said.read_text().splitlines()[:2]
            browser = Browser(int(port), path)
            yield browser
            browser.close()
            process.wait(10)
        finally:
            process.kill()
            process.wait()
