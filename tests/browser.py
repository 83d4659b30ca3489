"""A Chromium without a window, driven over the pipe of its DevTools protocol.

It needs no driver and no package: a browser that is on the machine will do.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

BINARY = next(
    filter(
        None,
        map(
            shutil.which,
            ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
        ),
    ),
    None,
)
_KEYS = {"Enter": ("\r", 13), "Backspace": ("", 8), "Tab": ("\t", 9), "Escape": ("", 27)}
_KEYS |= {"ArrowLeft": ("", 37), "ArrowUp": ("", 38), "ArrowRight": ("", 39), "ArrowDown": ("", 40)}


class Browser:
    """One browser with one tab.

    Attributes
    ----------
    errors : what went wrong in pages: exceptions, and errors on the console
    requests : the addresses that were asked for
    """

    def __init__(self, profile: Path) -> None:
        assert BINARY is not None
        to_child, here_in = os.pipe()
        here_out, from_child = os.pipe()
        options = (
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-extensions", "--disable-background-networking"),
            *("--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={profile}"),
        )
        # The protocol speaks on 3 and 4.
        shell = f'exec "$@" 3<&{to_child} 4>&{from_child}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", BINARY, *options, "about:blank"],
            pass_fds=(to_child, from_child),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_child)
        os.close(from_child)
        self._in, self._out = os.fdopen(here_in, "wb"), os.fdopen(here_out, "rb")
        self._buffer, self._number, self._session = b"", 0, None
        self.errors, self.requests = [], []
        (target,) = (t for t in self("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self(f"{domain}.enable")

    def __call__(self, method, **parameters):
        """Send a command of the protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._in.write(json.dumps(message).encode() + b"\0")
        self._in.flush()
        while True:
            found = self._receive()
            if found.get("id") == self._number:
                assert "error" not in found, found
                return found["result"]
            self._note(found)

    def _receive(self):
        while b"\0" not in self._buffer:
            more = os.read(self._out.fileno(), 1 << 20)
            assert more, "the browser is gone"
            self._buffer += more
        line, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(line)

    def _note(self, event):
        about, what = event.get("params", {}), event.get("method")
        if what == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(about["exceptionDetails"]))
        elif what == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
            self.errors.append(json.dumps(about["args"]))
        elif what == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.errors.append(about["entry"]["text"])
        elif what == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])

    def show(self, *, width=1400, height=900, dark=False) -> None:
        """Set the size of the window and the colours of the system."""
        self(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, path: Path) -> None:
        """Open a file and wait until its explorer is there."""
        self("Page.navigate", url="about:blank")
        self.errors.clear()
        self.requests.clear()
        self("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.querySelector('#explorer[data-ready]')")

    def wait(self, condition, seconds=20.0):
        """Wait until an expression is true, and return it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := self.eval(condition):
                return found
            time.sleep(0.05)
        raise AssertionError(f"{condition} never came true; errors: {self.errors}")

    def eval(self, expression):
        """Evaluate JavaScript and return its value, as plain data."""
        found = self("Runtime.evaluate", expression=f"(() => ({expression}))()", awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        result = found["result"]
        return result.get("value", "objectId" in result)

    def type(self, text: str) -> None:
        """Type text where the focus is."""
        self("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        text, code = _KEYS[key]
        facts = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self("Input.dispatchKeyEvent", type="keyDown", text=text, **facts)
        self("Input.dispatchKeyEvent", type="keyUp", **facts)

    def click(self, selector: str) -> None:
        """Click in the middle of an element."""
        there = f"document.querySelector({json.dumps(selector)})"
        self.eval(f"{there}.scrollIntoView({{block: 'center'}})")
        box = json.loads(self.eval(f"JSON.stringify({there}.getBoundingClientRect())"))
        where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        for kind in ("mousePressed", "mouseReleased"):
            self("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of the page."""
        data = self("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def print(self, path: Path) -> None:
        """Write the page as it prints."""
        path.write_bytes(base64.b64decode(self("Page.printToPDF", printBackground=True)["data"]))

    def close(self) -> None:
        """End the browser."""
        self._session = None
        self._in.write(json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        self._in.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._out.close()
