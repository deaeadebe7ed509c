"""A browser without a window, told what to do over the DevTools protocol: what a person would see, press and hear of a page.

No driver stands between the two: a browser that can be debugged is all that is needed, and a websocket.
"""

import base64
import json
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import websocket
from conftest import missing

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip
PATIENCE_SECONDS = 20.0
KEYS = {"Tab": ("Tab", 9, ""), "Enter": ("Enter", 13, "\r"), "ArrowLeft": ("ArrowLeft", 37, ""), "Space": ("Space", 32, " ")}

BARRIERS = """
axe.run({ resultTypes: ["violations"] }).then(({ violations }) =>
  violations.flatMap(({ id, help, nodes }) => nodes.map(({ target }) => `${id}: ${help}: ${target}`)))
"""


class Browser:
    """One tab."""

    def __init__(self, address: str) -> None:
        self._wire = websocket.create_connection(address, timeout=PATIENCE_SECONDS, suppress_origin=True)
        self._number = 0
        self.faults: list[str] = []
        self.asked: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers. What it tells meanwhile of errors on the page is kept in `faults`."""
        self._number += 1
        self._wire.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while (said := json.loads(self._wire.recv())).get("id") != self._number:
            self._note(said)
        assert "error" not in said, said
        result: dict[str, Any] = said["result"]
        return result

    def _note(self, said: dict[str, Any]) -> None:
        match said.get("method"):
            case "Runtime.exceptionThrown":
                self.faults.append(said["params"]["exceptionDetails"].get("exception", {}).get("description", str(said)))
            case "Log.entryAdded" if said["params"]["entry"]["level"] == "error":
                self.faults.append(f"{said['params']['entry']['text']} {said['params']['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.asked.append(said["params"]["request"]["url"])

    def open(self, url: str) -> None:
        self.asked, self.faults = [], []
        self.call("Page.navigate", url=url)

    def run(self, program: str) -> Any:
        """The value of a JavaScript expression."""
        said = self.call("Runtime.evaluate", expression=program, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def until(self, program: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until it is true."""
        give_up = time.monotonic() + seconds
        while not self.run(f"Boolean({program})"):
            assert time.monotonic() < give_up, f"never true: {program}\nfaults: {self.faults}\n{self.text()[:3000]}"
            time.sleep(0.05)

    def until_asked(self, url: str) -> None:
        """Wait until the page has asked for what ends so; a stream counts when it begins."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not any(each.endswith(url) for each in self.asked):
            assert time.monotonic() < give_up, f"{url} is none of {self.asked}"
            self.run("0")  # what it has asked for comes before the answer
            time.sleep(0.05)

    def text(self) -> str:
        """What can be read on the page."""
        return str(self.run("document.body?.innerText ?? ''"))

    def inmost_text(self, selector: str) -> list[str]:
        """The texts in an element, those included that it keeps from other programs on the page."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        element = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        waiting, texts = [self.call("DOM.describeNode", nodeId=element, depth=-1, pierce=True)["node"]], []
        while waiting:
            node = waiting.pop()
            waiting += [*node.get("children", ()), *node.get("shadowRoots", ())]
            texts += [node["nodeValue"].strip()] if node["nodeName"] == "#text" else []
        return texts

    def press(self, key: str, *, times: int = 1) -> None:
        name, code, text = KEYS[key]
        for _ in range(times):
            told = {"key": text if key == "Space" else name, "code": name, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **told)
            self.call("Input.dispatchKeyEvent", type="keyUp", **told)

    def resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, **features: str) -> None:
        """What the person has told the system, as prefers_color_scheme="dark"."""
        told = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=told)

    def heard(self) -> list[tuple[str, str]]:
        """What a screen reader is told: the role and the name of everything that is not ignored."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]

    def barriers(self) -> list[str]:
        """What axe finds that keeps people from using the page: by its rules for WCAG, and by its advice."""
        self.call("Runtime.evaluate", expression=(files("axe_core_python") / "axe.min.js").read_text())
        found: list[str] = self.run(BARRIERS)
        return found

    def picture(self, path: Path) -> None:
        """The visible part of the page."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser whose profile is new."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        missing("there is no Chromium; `apt-get install chromium` brings it, and the tests of the page need it")
    with (profile.parent / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"], stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield Browser(_address(profile, process))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(profile: Path, process: "subprocess.Popen[bytes]") -> str:
    """Where the first tab is debugged, as the browser writes it down when it is ready."""
    file, give_up = profile / "DevToolsActivePort", time.monotonic() + PATIENCE_SECONDS
    while not (file.exists() and file.read_text().count("\n")):
        assert process.poll() is None, "the browser ended; see browser.log beside its profile"
        assert time.monotonic() < give_up, "the browser is not ready"
        time.sleep(0.02)
    port = file.read_text().splitlines()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE_SECONDS) as answer:
        (tab, *_) = [each for each in json.load(answer) if each["type"] == "page"]
    return str(tab["webSocketDebuggerUrl"])
