"""The page in a real browser: beside a run that happens, by keyboard, by ear, in the dark, and with a thousand clusters."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from apiserver import free_port
from browser_story import Browser, browser
from machine_story import app_python, machine, settle_environment
from status_story import Story

from fedplane.cli.server import refusal
from fedplane.runtime.memory import MemoryBus
from fedplane.schemas import facts
from fedplane.schemas.models import Chosen, Refused, Term
from fedplane.schemas.privacy_terms import Spent
from fedplane.status.page.main import look
from fedplane.status.page.settings import PageSettings

MARKUP = "<img src=x onerror=document.title='taken'><b>bold</b>"
MANY = 1000
DRAWN_MILLISECONDS_MAX = 500
"""How long a view of a thousand clusters may take to be drawn on a busy machine; on a quiet one it takes a tenth of that."""

UNREADABLE = """
(() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, place) => sum + c * [0.2126, 0.7152, 0.0722][place], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const given = channels(getComputedStyle(at).backgroundColor);
      if (given.length < 4 || given[3] > 0) return given;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    if (element.disabled || element.closest(":disabled")) continue;  // which people need not read
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(channels(element.closest("svg") ? style.fill : style.color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${element.tagName}.${element.className} ${element.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return found;
})()
"""
"""The texts whose contrast with what is behind them is less than WCAG 2.2 asks for, success criterion 1.4.3."""

NAMED = {"button", "link", "combobox", "searchbox", "radio", "progressbar", "image", "table", "navigation", "region", "figure"}
"""What a screen reader has to call something."""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser") / "profile") as it:
        yield it


@pytest.fixture
def tab(opened: Browser) -> Iterator[Browser]:
    opened.prefer(prefers_color_scheme="light")
    opened.resize(1280, 1200)
    yield opened
    opened.open("about:blank")  # or it would look for a page that is gone
    opened.until("location.href === 'about:blank'")


@contextmanager
def page_of(*said: facts.Fact) -> Iterator[str]:
    """The address of a page about these facts, served by a thread."""
    port, started = free_port(), threading.Event()
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        bus = MemoryBus()
        for fact in said:
            await bus.log.state(fact)
        loop, task = asyncio.get_running_loop(), asyncio.create_task(look(bus, PageSettings(page_port=port)))
        stop.append(lambda: loop.call_soon_threadsafe(task.cancel))
        started.set()
        await asyncio.wait({task})

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(20)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        stop[0]()
        thread.join(20)


def unnamed(tab: Browser) -> list[tuple[str, str]]:
    return [(role, name) for role, name in tab.heard() if role in NAMED and not name]


def go(tab: Browser, place: str, shown: str) -> None:
    tab.run(f"location.hash = '{place}'")
    tab.until(f"document.querySelector('{shown}')")


def choose(tab: Browser, select: str, value: str) -> None:
    tab.run(f"{{ const it = document.querySelector('{select}'); it.value = '{value}'; it.dispatchEvent(new Event('change')); }}")


async def test_a_person_watches_a_run_from_its_submission_to_its_model(
    tab: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle_environment(monkeypatch)
    monkeypatch.setenv("FEDPLANE_TRACE_URL", "http://127.0.0.1:16686/trace/{trace_id}")
    assert app_python()
    async with machine(tmp_path) as it:
        await listened(it.up.page_url)
        await asyncio.to_thread(tab.open, it.up.page_url)
        await asyncio.to_thread(tab.until, "document.body?.innerText.includes('There are no runs yet.')")
        run = await it.submit(config={"trouble": "raise at beta"}, server={"rounds": 3, "minAvailableClients": 3}, rounds={"quorum": 2})
        await asyncio.to_thread(_watch, tab, run, tmp_path)
        await it.end_of(run)
        await asyncio.to_thread(_look_around, tab, run, tmp_path)
        assert tab.faults == []
        assert {url.split("/")[2] for url in tab.asked if url.startswith("http")} == {it.up.page_url.split("/")[2]}, "it asks nobody else"


async def listened(address: str) -> None:
    """The status service starts with the others, and takes as long as Python does."""
    async with asyncio.timeout(30):
        while refusal(int(address.strip("/").rpartition(":")[2])) is None:
            await asyncio.sleep(0.05)


def _watch(tab: Browser, run: str, pictures: Path) -> None:
    """The run appears by itself, and is opened with the keyboard: past the skip link, the name, three pages and the colours."""
    tab.until(f"document.querySelector('tbody a')?.textContent === '{run}'")
    tab.run("document.activeElement.blur()")
    tab.press("Tab")
    assert tab.run("document.activeElement.className") == "skip"
    tab.press("Tab", times=6)
    assert tab.run("document.activeElement.textContent") == run
    assert tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus can be seen"
    tab.press("Enter")
    tab.until(f"document.activeElement.textContent === '{run}' && document.activeElement.tagName === 'H1'")
    tab.until("document.querySelector('.state .completed')")
    assert tab.run("document.getElementById('announcement').textContent") == f"{run}: Completed. 3 training rounds done."
    tab.until("document.querySelectorAll('.columns label').length === 7 && document.querySelectorAll('.timeline tbody tr').length === 3")
    tab.picture(pictures / "run.png")


def _look_around(tab: Browser, run: str, pictures: Path) -> None:
    """Round by round, by arrow keys; then the numbers behind the curves, the fleet, the events."""
    tab.run("document.querySelector('.columns :checked').focus()")
    tab.press("ArrowLeft")
    tab.until("document.querySelector('.timeline')?.innerText.includes('ValueError: the data has a column too few')")
    assert "declined" in tab.run("[...document.querySelectorAll('.timeline tr')].find((row) => row.innerText.includes('beta')).innerText")
    assert tab.run("document.activeElement.type") == "radio", "drawing anew leaves the focus where it is"
    assert "evaluation from" in " ".join(name for role, name in tab.heard() if role == "image")
    assert tab.run("document.querySelectorAll('figure').length") > 0
    assert tab.run("document.querySelector('details table tbody').rows.length") == 3
    assert tab.run("document.querySelector('.placement tbody').innerText").count("takes part") == 3
    assert tab.run("document.querySelector('.links').innerHTML").count("http://127.0.0.1:16686/trace/") == 1
    assert (unnamed(tab), tab.run(UNREADABLE), tab.barriers()) == ([], [], [])
    go(tab, "#/fleet", ".fleet tbody tr")
    tab.until("document.querySelector('.fleet tbody').innerText.includes('takes part')")
    assert "/data/alpha" in tab.text()
    assert (unnamed(tab), tab.run(UNREADABLE), tab.barriers()) == ([], [], [])
    tab.picture(pictures / "fleet.png")
    go(tab, f"#/events?run={run}", ".events tbody tr")
    assert tab.run("document.querySelector('.events tbody tr').innerText").split("\t")[1].endswith("completed")
    assert (unnamed(tab), tab.run(UNREADABLE), tab.barriers()) == ([], [], [])


def many(number: int = MANY) -> list[facts.Fact]:
    """A run on a thousand clusters, of which some have more to say than others."""
    story = Story(begin=datetime.now(UTC) - timedelta(seconds=30))
    names = [f"cluster-{each:04}" for each in range(number)]
    terms = tuple(Term(criterion=each, score=0.5, weight=1) for each in ("cpu", "memory", "data"))
    chosen = tuple(Chosen(cluster=name, score=1.5, terms=terms) for name in names)
    refused = (Refused(cluster="hospital-c", reason="data", message=MARKUP),)
    opened = story.opened(4, 1, 1).model_copy(update={"clusters": tuple(names)})
    answers = [story.contributed(5 + place / 100, 1, name) for place, name in enumerate(names[:-20])]
    declined = [story.declined(6, 1, name).model_copy(update={"message": MARKUP}) for name in names[-20:-10]]
    offers = [facts.Advertised(at=datetime.now(UTC), cluster=name, lease_seconds=60, claims={"x": MARKUP}) for name in names]
    scheduled = story.scheduled().model_copy(update={"participants": chosen, "refused": refused})
    ended = [story.closed(16, 1), story.aggregated(17, 1, 1, **{MARKUP: 0.5, "loss": -7.5e-05})]
    return [story.submitted(), scheduled, story.started(), opened, *answers, *declined, *ended, *offers]


def test_epsilon_is_shown_of_a_run_with_noise_of_each_of_its_rounds_and_as_a_curve(tab: Browser) -> None:
    story = Story()
    costs = iter(Spent(epsilon=n, delta=1e-5, rounds=n, multiplier=1.0, clip=1.0, accountant="pld") for n in (3, 5))
    said = [fact.model_copy(update={"privacy": next(costs)}) if isinstance(fact, facts.Aggregated) else fact for fact in story.whole()]
    with page_of(*said) as page:
        tab.open(f"{page}#/run/{story.run}")
        tab.until("document.querySelector('figure[data-key^=privacy]')")

        assert (
            tab.run("document.querySelector('[data-key=Privacy] dd').textContent") == "epsilon 5 at delta 0.00001, by 5 rounds with noise"
        )
        assert tab.run("document.querySelector('figure[data-key^=privacy] strong').textContent") == "5"
        assert "epsilon so far 5" in str(tab.run("document.querySelector('.round-head').textContent"))
        assert tab.faults == []


def test_a_thousand_clusters_are_drawn_at_once_and_what_they_say_stays_text(tab: Browser, tmp_path: Path) -> None:
    with page_of(*many()) as address:
        tab.open(address)
        tab.until("document.querySelector('tbody a')")
        run = tab.run("document.querySelector('tbody a').textContent")
        go(tab, f"#/run/{run}", ".placement tbody tr")
        tab.until("document.querySelector('.timeline tbody tr')")
        assert tab.run("document.querySelector('.timeline tbody').rows.length") == 50
        assert tab.run("document.querySelector('.round-head').innerText").split()[-6:] == [
            "✓980",
            "answered",
            "◷10",
            "late",
            "✕10",
            "declined",
        ]
        choose(tab, ".round select", "trouble")
        tab.until("document.querySelector('.timeline tbody').rows.length === 20")
        assert MARKUP in tab.text(), "text is text"
        assert tab.run("document.querySelector('figure .metric-name').textContent") == "loss"
        assert tab.run("[...document.querySelectorAll('figure text')].every((text) => text.getBBox().x >= 0)"), "no number loses a digit"
        go(tab, "#/run/%zz", "h1")
        assert "There is no such run here." in tab.text(), "an address that is cut is no error of the page"
        go(tab, "#/fleet", ".fleet tbody tr")
        assert "1 to 50 of 1,000" in tab.text()
        tab.run("document.querySelector('.pager button:last-child').click()")
        tab.until("document.querySelector('.fleet tbody th').textContent === 'cluster-0050'")
        go(tab, "#/events", ".events tbody tr")
        drawn = tab.run("performance.getEntriesByName('draw').map((each) => each.duration)")
        assert max(drawn) < DRAWN_MILLISECONDS_MAX
        assert tab.run("document.images.length + document.querySelectorAll('b').length") == 1, "the icon, and nothing that a cluster said"
        assert (tab.faults, "taken" in tab.run("document.title")) == ([], False)


def test_a_barrier_is_found(tab: Browser) -> None:
    tab.open("data:text/html,<html lang=en><title>x</title><main><h1>x</h1><img src=x><p style='color:%23aaa'>hard to read</p></main>")
    tab.until("document.querySelector('p')")

    assert [found.partition(":")[0] for found in tab.barriers()] == ["color-contrast", "image-alt"]


def test_it_is_read_in_the_dark_on_a_narrow_screen_and_as_a_person_chooses(tab: Browser, tmp_path: Path) -> None:
    with page_of(*Story(begin=datetime.now(UTC) - timedelta(seconds=30)).whole()) as address:
        tab.prefer(prefers_color_scheme="dark")
        tab.resize(390, 900)
        tab.open(address)
        tab.until("document.querySelector('tbody a')")
        dark = tab.run("getComputedStyle(document.body).backgroundColor")
        assert (tab.run(UNREADABLE), tab.barriers()) == ([], [])
        assert tab.run("document.documentElement.scrollWidth <= innerWidth"), "nothing has to be scrolled sideways"
        assert {"table", "row", "rowheader", "cell"} <= {role for role, _ in tab.heard()}, "cards are a table still"
        go(tab, "#/run/" + tab.run("document.querySelector('tbody a').textContent"), ".timeline tbody tr")
        assert (tab.run(UNREADABLE), tab.barriers()) == ([], [])
        assert tab.run("document.documentElement.scrollWidth <= innerWidth")
        tab.picture(tmp_path / "narrow.png")
        choose(tab, "#scheme", "light")
        assert tab.run("getComputedStyle(document.body).backgroundColor") != dark
        tab.open(address)
        tab.until("document.querySelector('tbody a')")
        assert tab.run("document.getElementById('scheme').value") == "light", "the choice is kept"
        for hidden in ("true", "false"):  # another tab is looked at for a while
            tab.run(f"Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }})")
            tab.run("document.dispatchEvent(new Event('visibilitychange'))")
        tab.until_asked("/events?since=16-16-0")
        tab.until("document.getElementById('connection').textContent === 'Live'")
        assert tab.run("document.querySelector('tbody a').textContent") == Story().run
        assert (tab.run(UNREADABLE), tab.faults) == ([], [])
