import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections import deque

import pytest

from parity.example import certified_example as certified
from parity.example import content, engine_runs, provenance, web_page
from parity.example.perceptron import BUG


@pytest.fixture(scope="session")
def kept():
    return certified.load()


@pytest.fixture(scope="session")
def refnet_run():
    return engine_runs.train("refnet", "float64")


@pytest.fixture(scope="session")
def bug_run():
    return engine_runs.train("refnet", "float64", BUG)


@pytest.fixture(scope="session")
def gathered(kept, refnet_run, bug_run):
    """What `content.gather` gives where torch is not installed."""
    return content.Content(
        kept,
        "float64",
        {"refnet": refnet_run},
        {"torch": "torch is not installed"},
        bug_run,
        provenance.findings(kept),
        provenance.words(kept),
        content.rule_of_signs(kept),
    )


# A headless Chromium, offline, spoken to through a pipe by its DevTools protocol

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
PATIENCE = 300.0
"""Seconds that a browser may take to answer."""


def executable():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    reason = "expected a browser for the tests of the page (Debian: apt-get install chromium), found none"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class Browser:
    """One tab. `events` are what the browser said unasked."""

    def __init__(self, program, folder):
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        # The browser reads descriptor 3 and writes 4. A shell renumbers what it inherits.
        command = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._ids, self._rest, self._session = itertools.count(1), b"", None
        self.events = deque(maxlen=10_000)
        (target,) = (t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)

    def close(self):
        os.close(self._out)
        os.close(self._in)
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def call(self, method, **params):
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _read(self):
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], PATIENCE)
            assert ready, f"expected an answer of the browser within {PATIENCE:g} s, got none"
            chunk = os.read(self._in, 1 << 20)
            assert chunk, "expected an answer of the browser, which has ended"
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def js(self, expression):
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def open(self, url):
        # By way of an empty page: a new fragment alone would not load anything.
        for place in ("about:blank", url):
            self._visit(place)

    def _visit(self, url):
        self.events.clear()
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + PATIENCE
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            assert time.monotonic() < deadline, f"expected {url} to load within {PATIENCE:g} s"
            self.js("1")

    def size(self, width, height, dark=False, medium=""):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=medium, features=[scheme])

    def key(self, name, code, text=""):
        """Press a key, as a keyboard does."""
        common = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    tab = Browser(executable(), tmp_path_factory.mktemp("browser"))
    tab.size(1280, 900)
    yield tab
    tab.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    built = tmp_path_factory.mktemp("page") / "page.html"
    built.write_text(web_page.build(), encoding="utf-8")
    return built.as_uri()


class Page:
    """What a reader does on the page, and what the reader sees."""

    def __init__(self, browser, url):
        self.browser, self.url = browser, url

    def open(self, fragment=""):
        self.browser.open(self.url + fragment)
        return self.whole()

    def whole(self):
        """Wait for the figures of a whole training, which come a little later."""
        deadline = time.monotonic() + PATIENCE
        while self.js("[...document.querySelectorAll('#figures td')].some((e) => e.textContent === '\u2026')"):
            assert time.monotonic() < deadline, f"expected every figure within {PATIENCE:g} s"
            time.sleep(0.01)
        return self

    def go(self, **settings):
        """A new fragment in the open page, as from a link of a teacher's."""
        fragment = "&".join(f"{name}={value}" for name, value in settings.items()) + "&"
        heard = "new Promise((done) => addEventListener('hashchange', () => done(), { once: true }))"
        self.js(f"(() => {{ const heard = {heard}; location.hash = {json.dumps(fragment)}; return heard; }})()")

    def js(self, expression):
        return self.browser.js(expression)

    def on(self, selector, expression):
        """The value of an expression of the first element `e` of a selector."""
        return self.js(f"((e) => {expression})(document.querySelector({json.dumps(selector)}))")

    def text(self, selector):
        return self.on(selector, "e.textContent")

    def texts(self, selector):
        return self.js(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)")

    def click(self, selector):
        self.on(selector, "e.scrollIntoView({ block: 'center' })")
        x, y = self.on(selector, "((b) => [b.x + b.width / 2, b.y + b.height / 2])(e.getBoundingClientRect())")
        where = {"x": x, "y": y, "button": "left", "clickCount": 1}
        self.browser.call("Input.dispatchMouseEvent", type="mousePressed", **where)
        self.browser.call("Input.dispatchMouseEvent", type="mouseReleased", **where)

    def type(self, selector, text):
        """Replace what a field holds, by keyboard."""
        self.on(selector, "{ e.focus(); e.select(); }")
        self.browser.key("Backspace", 8)
        if text:
            self.browser.call("Input.insertText", text=text)

    def enter(self, figure):
        self.type("#yours", figure)
        self.browser.key("Enter", 13, "\r")

    def slide(self, k):
        """To the place of that number among the page's positions, as by keyboard."""
        self.js(f"PicturePanel.slideTo({k})")

    def drag(self, n):
        """The slider's handle, to where that number of updates stands on the axis."""
        self.on(
            "#at", f"{{ e.value = Math.round(1000 * Curve.place({n}, 10000)); e.dispatchEvent(new Event('input')); }}"
        )

    def switch(self, name, value):
        self.click(f"input[name={name}][value={value}]")

    def step(self, key):
        self.on("#step", f"{{ e.value = {json.dumps(key)}; e.dispatchEvent(new Event('change')); }}")

    def figures(self):
        cells = "[...document.querySelectorAll('[data-figure]')].map((e) => [e.dataset.figure, e.textContent])"
        return self.whole().js(f"Object.fromEntries({cells})")

    def fragment(self):
        # The page waits a little before it changes its address.
        return self.js("new Promise((done) => setTimeout(() => done(location.hash.slice(1)), 200))")


@pytest.fixture
def opened(browser, file):
    browser.size(1280, 900)
    return Page(browser, file).open()


@pytest.fixture(scope="session")
def page_of():
    """Makes what a reader does on a page, from a browser and the page's address."""
    return Page
