"""What a person sees of a real study in MLflow's pages, through the links that the pipeline's run carries.

A study runs by the command line, MLflow's server stands over its database, and Chromium opens the pages.
The browser is driven over its own debugging protocol, so no driver has to fit its version. With
LANEWISE_IMAGES=docs/images the pictures of docs/guides/mlflow.md are taken anew.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from lanewise.tracking import quiet_environment, read_trial, server_command

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TRIALS, EPOCHS, COMPARED = 24, 4, 20
VARYING = ("depth", "dropout", "log10_lr", "log10_weight_decay", "lr", "weight_decay", "width")
WAIT_S = 90.0  # the machine may be busy; an idle one needs two seconds for a page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)"),
]

STUDY = f"""\
data: {{source: "sklearn:digits"}}
train: {{epochs: {EPOCHS}, patience: 0}}
lr_range: {{enabled: false}}
search: {{strategy: random, trials: {TRIALS}, pruner: none}}
evaluate: {{folds: 2, repeats: 1, finalists: 1, baselines: false, bootstrap: 100}}
"""


class Browser:
    """A headless Chromium with one page.

    Args:
        folder: For its profile; new and empty.
        width, height: Of the page, in pixels.
    """

    FLAGS = (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--hide-scrollbars", "--remote-debugging-port=0",
    )  # fmt: skip

    def __init__(self, folder: Path, width: int, height: int) -> None:
        assert CHROMIUM is not None
        self._process = subprocess.Popen(
            [CHROMIUM, *self.FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._socket = connect(self._page(folder / "DevToolsActivePort"), max_size=None)
            self._numbers = itertools.count(1)
            self.call("Page.enable")
            self.size(width, height)
            # MLflow's assistant opens at the first visit and takes a quarter of the page.
            self.call(
                "Page.addScriptToEvaluateOnNewDocument",
                source="localStorage['mlflow.assistant.panelOpen_v1'] = 'false';"
                "localStorage['mlflow.assistant.fab.autoOpenedOnFirstLoad_v1'] = 'true';",
            )
        except BaseException:
            self.close()
            raise

    def _page(self, port_file: Path) -> str:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            assert self._process.poll() is None, "Chromium ended at once"
            try:
                port = int(port_file.read_text().splitlines()[0])
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=5) as answer:
                    pages = [page for page in json.load(answer) if page["type"] == "page"]
                return str(pages[0]["webSocketDebuggerUrl"])
            except (OSError, IndexError, ValueError):
                time.sleep(0.1)
        raise AssertionError("Chromium did not open its debugging port")

    def call(self, method: str, **params: Any) -> Any:
        """One command of the DevTools protocol, and its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=WAIT_S))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def js(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, (expression, answer)
        return answer["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until an expression is true in the page, and return its value."""
        deadline = time.monotonic() + WAIT_S
        while not (value := self.js(expression)):
            assert time.monotonic() < deadline, f"never true: {expression}\n{self.text()[:3000]}"
            time.sleep(0.2)
        return value

    def open(self, address: str) -> None:
        """A fresh document: MLflow keeps its state when only the part behind # changes."""
        self.call("Page.navigate", url="about:blank")
        self.until("location.href === 'about:blank'")
        self.call("Page.navigate", url=address)
        self.until("!!document.body && document.readyState === 'complete'")

    def size(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def text(self) -> str:
        return str(self.js("document.body.innerText"))

    def click(self, element: str) -> None:
        """A real click on the middle of an element, given as an expression, once it stands still."""
        middle = (
            f"(() => {{ const box = ({element})?.getBoundingClientRect();"
            " return box && box.width ? {x: box.x + box.width / 2, y: box.y + box.height / 2} : null; })()"
        )
        where = self.until(middle)
        while (moved := self.until(middle)) != where:  # lists slide in
            where = moved
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)

    def choose(self, label: str, name: str) -> None:
        """Add a name to the box behind a label, by typing and the enter key."""
        box = f"[...document.querySelectorAll('div')].find(e => e.innerText === {label!r}).nextElementSibling"
        self.click(f"{box}.querySelector('input')?.closest('[class*=select-selector]')")
        self.until(f"document.activeElement === {box}.querySelector('input')")
        self.call("Input.insertText", text=name)
        active = "[...document.querySelectorAll('[class*=select-item-option-active]')].map(e => e.innerText)"
        self.until(f"{active}.includes({name!r})")
        self.key("Enter", 13)
        self.until(
            f"[...{box}.querySelectorAll('[class*=selection-item-content]')].some(e => e.innerText === {name!r})"
        )
        self.key("Escape", 27)
        self.until(f"!{active}.includes({name!r})")

    def key(self, name: str, code: int) -> None:
        """Press a key and let it go."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def picture(self, name: str) -> None:
        """A screenshot for the documentation, where one is asked for."""
        if folder := os.environ.get("LANEWISE_IMAGES"):
            # The plots' tool bars, which show under the mouse only; a headless browser has none.
            self.js("document.head.append(Object.assign(document.createElement('style'),"
                    " {textContent: '.modebar {display: none}'}))")  # fmt: skip
            data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
            (ROOT / folder / name).write_bytes(data)

    def close(self) -> None:
        """End the browser and its helpers: the process group that was started for it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@dataclass(frozen=True)
class Pages:
    """MLflow's server over a study that has run.

    Args:
        address: Of the server.
        links: From the description of the pipeline's run: its label -> what stands behind #.
        pipeline: The parent's run id.
        experiment: Its experiment's id.
        objectives: Run name of each trial -> its objective.
    """

    address: str
    links: dict[str, str]
    pipeline: str
    experiment: str
    objectives: dict[str, float]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    folder = tmp_path_factory.mktemp("ui")
    (folder / "digits.yaml").write_text(STUDY)
    environment = quiet_environment() | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment = {k: v for k, v in environment.items() if not k.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", "digits.yaml"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    uri = f"sqlite:///{folder}/mlruns/mlflow.db"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            server_command(uri, port),
            cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}/"
        _answers(f"{address}health", server, folder / "server.log")
        yield _seen(address, uri)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.2)


def _seen(address: str, uri: str) -> Pages:
    parent = read_trial("pipeline", uri=uri, study="digits")
    trials = [read_trial(f"trial-{number:04d}", uri=uri, study="digits") for number in range(TRIALS)]
    links = dict(re.findall(r"\[([^]]+)\]\((#/[^)]+)\)", parent["tags"]["mlflow.note.content"]))
    found = re.search(r"#/experiments/(\d+)/runs", "".join(links.values()))
    assert found is not None, links
    objectives = {trial["key"]: trial["metrics"]["objective"][-1][1] for trial in trials}
    return Pages(address, links, parent["run_id"], found[1], objectives)


@pytest.fixture
def browser() -> Iterator[Browser]:
    # Not pytest's folder: Chromium keeps sockets in its profile, whose paths must be short.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        made = Browser(Path(folder), 1600, 1120)  # high enough for the rows of all trials
        yield made
        made.close()


# Names of trials from the top of the page to its bottom: the table keeps its rows in no order.
TRIAL_ROWS = (
    "[...document.querySelectorAll('a')].filter(e => /^trial-\\d{4}$/.test(e.innerText))"
    ".sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top).map(e => e.innerText)"
)


def test_the_link_shows_every_trial_best_first_with_its_curves(pages: Pages, browser: Browser) -> None:
    browser.open(pages.address + pages.links["All trials, best first"])
    browser.until(f"{TRIAL_ROWS}.length >= {TRIALS}")
    rows = browser.js(TRIAL_ROWS)
    assert sorted(rows) == sorted(pages.objectives)
    values = [pages.objectives[name] for name in rows]
    assert values == sorted(values, reverse=True)
    assert f"{TRIALS} matching runs" in browser.text()
    # The curves of the best ten are drawn, a chart a metric.
    browser.until("document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length >= 30")
    for name in ("train/loss", "valid/accuracy", "valid/log_loss"):
        assert f"{rows[0]} ({name})" in browser.text()
    browser.size(1600, 1000)
    browser.picture("mlflow-trials.png")


def test_the_trials_stand_under_their_parent(pages: Pages, browser: Browser) -> None:
    browser.open(
        f"{pages.address}#/experiments/{pages.experiment}/runs?searchFilter="
        "&orderByKey=attributes.start_time&orderByAsc=false&compareRunsMode=TABLE"
    )
    parent = "[...document.querySelectorAll('a')].find(e => e.innerText === 'pipeline')"
    browser.until(f"!!{parent}")
    assert browser.js(TRIAL_ROWS) == []  # MLflow folds children away
    browser.click(f"{parent}.closest('[role=row]').querySelector('button')")
    browser.until(f"{TRIAL_ROWS}.length >= {TRIALS}")
    assert sorted(browser.js(TRIAL_ROWS)) == sorted(pages.objectives)
    levels = browser.js(
        "Object.fromEntries([...document.querySelectorAll('[role=row] a')].filter(e => e.innerText)"
        ".map(e => [e.innerText, e.getBoundingClientRect().left]))"
    )
    assert all(levels[name] > levels["pipeline"] for name in pages.objectives)  # indented


def test_the_description_of_the_parent_carries_the_links(pages: Pages, browser: Browser) -> None:
    browser.open(f"{pages.address}#/experiments/{pages.experiment}/runs/{pages.pipeline}")
    for label in ("All trials, best first", f"Compare the best {COMPARED}"):
        link = f"[...document.querySelectorAll('a')].find(e => e.innerText === {label!r})"
        browser.until(f"!!{link}")
        # As the browser resolves it, relative to this server; MLflow lets it open in a new tab.
        assert browser.js(f"{link}.href") == pages.address + pages.links[label]


def test_twenty_trials_are_compared_in_parallel_coordinates(pages: Pages, browser: Browser) -> None:
    browser.open(pages.address + pages.links[f"Compare the best {COMPARED}"])
    browser.until(f"document.body.innerText.includes('Comparing {COMPARED} Runs from 1 Experiment')")
    names = "[...new Set([...document.body.innerText.matchAll(/trial-\\d{4}/g)].map(m => m[0]))]"
    browser.until(f"{names}.length === {COMPARED}")
    shown = browser.js(names)
    best = sorted(pages.objectives.values(), reverse=True)[:COMPARED]
    assert [pages.objectives[name] for name in shown] == best
    # The plot as MLflow opens it: three of the parameters that differ and one metric.
    axes = "[...document.querySelectorAll('.js-plotly-plot .axis-title')].map(e => e.textContent)"
    assert browser.until(f"{axes}.length === 4 && {axes}")[:3] == ["depth", "dropout", "log10_lr"]
    for label, name in (
        ("Parameters:", "log10_weight_decay"), ("Parameters:", "width"), ("Metrics:", "objective"),
    ):  # fmt: skip
        if name not in browser.js(axes):
            browser.choose(label, name)
    wanted = ["depth", "dropout", "log10_lr", "log10_weight_decay", "width", "objective"]
    browser.until(f"{json.dumps(wanted)}.every(name => {axes}.includes(name))")
    assert set(browser.js(axes)) <= set(VARYING) | {
        "objective",
        "train/loss",
        "valid/accuracy",
        "valid/log_loss",
    }
    browser.size(1600, 720)
    browser.picture("mlflow-parallel-coordinates.png")
