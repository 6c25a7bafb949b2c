"""The live page in a real browser, with a server whose intervals end when a test says so."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from api_servers import ApiServer, api_server, wait_until
from chromium import chromium
from playwright.sync_api import Browser, Page, expect
from running import running
from snapshots import Row, container, pod, process, snapshot

from kepler_ebpf.exporters.assets import TYPES
from kepler_ebpf.exporters.places import MAX_STREAMS_OF_ONE_ADDRESS
from kepler_ebpf.model.energy import MeterStats
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.workloads import State

HOSTILE = "<img src=x onerror=alert(1)>"
MAX_BYTES = 150_000
UNKNOWN = "\N{EN DASH}"
Show = Callable[..., Page]

FAST_FORWARD = """
class FakeSource {
  constructor(url) { window.source = this; this.readyState = 1; }
  addEventListener() {}
  close() {}
}
window.EventSource = FakeSource;
"""
"""Puts the intervals of a stream into the hands of a test."""

PASS_HOURS = """
async ([shown, from, to]) => {
  for (let number = from; number < to; number++) {
    const next = structuredClone(shown);
    next.at_s += number;
    next.own.joules.package += number;
    next.levels.process.rows.forEach((row, index) => {
      // Half of the workloads are new in each interval.
      if (index % 2) row.key = `${1000 + number * 10 + index}-1`;
      row.watts.package = (number * 7 + index) % 50;
    });
    window.source.onmessage({ data: JSON.stringify(next) });
    if (number % 50 === 0) await new Promise((done) => setTimeout(done));
  }
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start one Chromium for the tests of this file."""
    with chromium() as started:
        yield started


@pytest.fixture
def served() -> Iterator[ApiServer]:
    """Serve one interval."""
    with api_server() as server:
        yield server


@pytest.fixture
def show(browser: Browser) -> Iterator[Show]:
    """Return what opens the page. It may load nothing from elsewhere, and report no fault."""
    faults: list[str] = []
    requested: list[str] = []
    origins: set[str] = set()
    with ExitStack() as stack:

        def open_page(
            port: int, path: str = "/", *, can_fail: bool = False, **options: Any
        ) -> Page:
            context = browser.new_context(**options)
            stack.callback(context.close)
            page = context.new_page()
            origin = f"http://127.0.0.1:{port}/"
            origins.add(origin)
            page.on("pageerror", lambda error: faults.append(str(error)))
            if not can_fail:
                page.on("console", lambda message: faults.append(message.text))
            page.on("request", lambda request: requested.append(request.url))
            page.goto(f"{origin}{path.lstrip('/')}")
            return page

        yield open_page
    assert faults == []
    assert [url for url in requested if not url.startswith(tuple(origins))] == []


def many(number: int = 40, **changes: Any) -> Snapshot:
    """Return a snapshot of so many processes: the first uses most."""
    rows = [
        Row(process(100 + each, f"worker-{each:02}"), ran_uj=((number - each) * 1e4, 1e3))
        for each in range(number)
    ]
    return replace(snapshot(rows), **changes)


def names(page: Page) -> list[str]:
    """Return the names that are listed."""
    return page.locator("#rows a").all_inner_texts()


def focused(page: Page) -> str:
    """Return the text of what has the focus."""
    return str(page.evaluate("document.activeElement.textContent"))


def test_the_first_view_has_the_figures(served: ApiServer, show: Show) -> None:
    """Node, zones, parts, our own cost and what is lost are there, with the rows."""
    page = show(served.port)
    expect(page.locator("#watts")).to_have_text("6.00")
    expect(page.locator("#active")).to_have_text("2.40")
    expect(page.locator("#idle")).to_have_text("3.60")
    expect(page.locator("#zones button")).to_have_count(2)
    expect(page.locator("#unattributed")).to_have_text("0.300")
    expect(page.locator("#lost")).to_have_text("7 s")
    expect(page.locator("#lost-more")).to_contain_text("47 events, 12 faults of the meter")
    expect(page.locator("#own-more")).to_contain_text("17.0 J")
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(page.locator("#rows tr").first).to_contain_text("0.500 W")
    expect(page.locator("#state")).to_have_text("live")
    expect(page.locator("#estimate")).to_be_hidden()
    served.publish()
    served.publish()
    expect(page.locator("#node-chart path.area")).to_have_count(2)
    expect(page.locator("#node-chart path.active")).to_have_attribute("d", re.compile("^M"))


def test_an_estimate_is_called_so(served: ApiServer, show: Show) -> None:
    """Modelled watts are labelled at the top, and at the large figures."""
    shown = many()
    meter = MeterStats("estimate", is_estimate=True)
    served.publish(replace(shown, stats=replace(shown.stats, meter=meter)))
    page = show(served.port)
    expect(page.locator("#estimate")).to_be_visible()
    expect(page.locator("#estimate")).to_contain_text("ESTIMATE, not measured")
    expect(page.locator(".power .tag")).to_be_visible()
    page.locator("#rows a").first.click()
    expect(page.locator("#detail .tag")).to_be_visible()
    expect(page.locator("#estimate")).to_be_visible()


@pytest.mark.parametrize(
    ("tab", "name"),
    [
        ("Processes", "worker"),
        ("Containers", "web"),
        ("Pods", "shop-0"),
        ("VMs", "builder"),
        ("Units", "cron.service"),
    ],
)
def test_each_kind_has_a_view(tab: str, name: str, served: ApiServer, show: Show) -> None:
    """A tab shows the workloads of its kind, and each has details with its share."""
    page = show(served.port)
    page.get_by_role("tab", name=tab).click()
    expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
    expect(page.locator("#rows a")).to_have_text([name])
    page.locator("#rows a").click()
    expect(page.locator("#detail-title")).to_contain_text(name)
    expect(page.locator("#detail-watts")).to_have_text("0.500")
    expect(page.locator("#detail-share")).to_have_text("8.3 %")


def test_rows_follow_the_intervals(served: ApiServer, show: Show) -> None:
    """New figures replace the old ones in place, and rows that ran no more go."""
    page = show(served.port)
    expect(page.locator("#rows a")).to_have_text(["worker"])
    served.publish(many(3, at_s=3000.0, end_s=90.0))
    expect(page.locator("#rows a")).to_have_text(["worker-00", "worker-01", "worker-02"])
    served.publish(many(1, at_s=3001.0, end_s=91.0))
    expect(page.locator("#rows a")).to_have_text(["worker-00"])


def test_what_is_not_listed_is_in_the_sum(served: ApiServer, show: Show) -> None:
    """The rows end with the others, with what has no owner, and with the meter's watts."""
    served.publish(many())
    page = show(served.port)
    expect(page.locator("#rows tr")).to_have_count(20)
    expect(page.locator("#rest tr").first).to_contain_text("20 other rows")
    expect(page.locator("#rest tr").last).to_contain_text("6.00 W")
    page.locator("#more").click()
    expect(page.locator("#rows tr")).to_have_count(40)
    expect(page.locator("#more")).to_be_hidden()


def test_search_finds_what_is_not_listed(served: ApiServer, show: Show) -> None:
    """The server searches among all that ran; Esc ends the search."""
    served.publish(many())
    page = show(served.port)
    expect(page.locator("#rows tr")).to_have_count(20)
    page.keyboard.press("/")
    page.keyboard.type("worker-39")
    expect(page.locator("#rows a")).to_have_text(["worker-39"])
    page.reload()
    expect(page.locator("#rows a")).to_have_text(["worker-39"])
    page.locator("#search").press("Escape")
    expect(page.locator("#rows tr")).to_have_count(20)


def test_the_order_can_be_chosen(served: ApiServer, show: Show) -> None:
    """A heading or a key sorts, and assistive programs learn of it."""
    rows = [
        Row(process(1, "beta"), ran_uj=(3e5, 0), energy_uj=(1e6, 0)),
        Row(process(2, "alpha"), ran_uj=(1e5, 0), energy_uj=(9e6, 0)),
    ]
    served.publish(snapshot(rows))
    page = show(served.port)
    expect(page.locator("#rows a")).to_have_text(["beta", "alpha"])
    page.get_by_role("button", name="Energy").click()
    expect(page.locator("#rows a")).to_have_text(["alpha", "beta"])
    expect(page.locator("th[data-sort=joules]")).to_have_attribute("aria-sort", "descending")
    page.locator("body").press("s")
    expect(page.locator("th[data-sort=cpu]")).to_have_attribute("aria-sort", "descending")
    page.locator("body").press("s")
    expect(page.locator("th[data-sort=name]")).to_have_attribute("aria-sort", "ascending")
    expect(page.locator("th[data-sort=joules]")).not_to_have_attribute("aria-sort", re.compile("."))


def test_the_zone_can_be_chosen(served: ApiServer, show: Show) -> None:
    """One zone is shown at a time; its button or a key takes the next."""
    page = show(served.port)
    page.locator("#zones button", has_text="dram").click()
    expect(page.locator("#watts")).to_have_text("1.00")
    expect(page.locator("#rows tr").first).to_contain_text("0.100 W")
    page.locator("body").press("z")
    expect(page.locator("#watts")).to_have_text("6.00")


def test_a_workload_has_its_minutes(served: ApiServer, show: Show) -> None:
    """Details show the history that the server kept before anybody looked."""
    base = snapshot([Row(process(7, "steady"), energy_uj=(0.0, 0.0))], at_s=3000.0, end_s=100.0)
    view = base.workloads["process"]
    for number in range(1, 6):
        energy = view.energy_uj + 1e6 * number
        more = {**base.workloads, "process": replace(view, energy_uj=energy)}
        at: dict[str, Any] = {"at_s": 3000.0 + number, "end_s": 100.0 + number}
        served.publish(replace(replace(base, **at), workloads=more))
    page = show(served.port, "#/process/7-1")
    expect(page.locator("#detail-title")).to_contain_text("steady")
    expect(page.locator("#labels")).to_contain_text("/usr/bin/steady")
    chart = page.locator("#detail-chart svg")
    expect(chart).to_have_attribute("aria-valuemax", "4")
    chart.focus()
    page.keyboard.press("ArrowLeft")
    expect(chart).to_have_attribute("aria-valuetext", re.compile("active 1.00 W"))
    expect(page.locator("#detail-chart .tip")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#list")).to_be_visible()
    wait_until(lambda: focused(page) == "steady")


def test_a_workload_that_is_gone_is_said_to_be(served: ApiServer, show: Show) -> None:
    """While it is looked at, a process ends, and later is listed no longer."""
    served.publish(many(2, at_s=3000.0, end_s=90.0))
    page = show(served.port)
    page.locator("#rows a").first.click()
    expect(page.locator("#detail-title")).to_contain_text("worker-00 100")
    ended = [Row(process(100, "worker-00"), state=State.TERMINATED)]
    served.publish(snapshot(ended, at_s=3001.0, end_s=91.0))
    expect(page.locator("#detail-title")).to_contain_text("(ended)")
    served.publish(snapshot([], at_s=3002.0, end_s=92.0))
    expect(page.locator("#detail-note")).to_contain_text("listed no longer")


def test_a_process_leads_to_its_container_and_pod(served: ApiServer, show: Show) -> None:
    """Ids in the details are links to the workload that they name."""
    inside = process(5, "inside", type="container", container_id=container().container_id)
    served.publish(snapshot([Row(inside)]))
    page = show(served.port, "#/process/5-1")
    page.get_by_role("link", name=container().container_id).click()
    expect(page.locator("#detail-title")).to_contain_text("web")
    page.get_by_role("link", name=pod().pod_id).click()
    expect(page.locator("#detail-title")).to_contain_text("shop-0")


def test_the_keyboard_reaches_everything(served: ApiServer, show: Show) -> None:
    """Rows, details, kinds, help and pause need no pointer."""
    served.publish(many(3))
    page = show(served.port)
    expect(page.locator("#rows tr")).to_have_count(3)
    page.locator("body").press("j")
    page.keyboard.press("j")
    assert focused(page) == "worker-01"
    page.keyboard.press("k")
    assert focused(page) == "worker-00"
    page.keyboard.press("Enter")
    expect(page.locator("#detail-title")).to_contain_text("worker-00")
    page.keyboard.press("Escape")
    page.keyboard.press("3")
    expect(page.locator("#rows a")).to_have_text(["shop-0"])
    page.get_by_role("tab", name="Pods").press("ArrowLeft")
    expect(page.get_by_role("tab", name="Containers")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_pause_holds_the_page(served: ApiServer, show: Show) -> None:
    """What is shown stays, and no stream is open; then it goes on."""
    page = show(served.port)
    expect(page.locator("#state")).to_have_text("live")
    page.locator("body").press("p")
    expect(page.locator("#state")).to_contain_text("paused at")
    wait_until(lambda: not served.publisher.has_subscribers)
    served.publish(many(3, at_s=3000.0, end_s=90.0))
    assert names(page) == ["worker"]
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#rows tr")).to_have_count(3)


def test_names_of_strangers_are_text(served: ApiServer, show: Show) -> None:
    """Whatever a process calls itself is shown as it is, and does nothing."""
    rows = [Row(process(1, HOSTILE, exe=HOSTILE)), Row(process(2, "a\u202eb\x00\udcff"))]
    served.publish(snapshot(rows, containers=[Row(container("../x?#&", HOSTILE))]))
    page = show(served.port)
    expect(page.locator("#rows a").first).to_have_text(HOSTILE)
    assert page.locator("img").count() == 0
    page.locator("#rows a").first.click()
    expect(page.locator("#labels")).to_contain_text(HOSTILE)
    page.locator("body").press("2")
    expect(page.locator("#rows a")).to_have_count(1)
    page.locator("#rows a").click()
    expect(page.locator("#labels")).to_contain_text("../x?#&")
    assert page.locator("img").count() == 0


def test_a_restart_of_the_server_is_survived(served: ApiServer, show: Show) -> None:
    """The page says that its figures are old, connects again, and says that totals are new."""
    page = show(served.port, can_fail=True)
    expect(page.locator("#state")).to_have_text("live")
    served.server.close()
    expect(page.locator("#state")).to_contain_text("stale: no figures for")
    expect(page.locator("body")).to_have_class("old")
    again = ApiServer(f"127.0.0.1:{served.port}")
    try:
        again.publish(many(3))
        expect(page.locator("#notice")).to_contain_text("has started again")
        expect(page.locator("#state")).to_have_text("live")
        expect(page.locator("#rows tr")).to_have_count(3)
        expect(page.locator("body")).not_to_have_class("old")
    finally:
        again.server.close()


def test_before_the_first_interval_the_page_waits(show: Show) -> None:
    """A page that is opened too early says so, and has the figures when there are some."""
    early = ApiServer()
    try:
        page = show(early.port, can_fail=True)
        expect(page.locator("#state")).to_have_text("waiting for the first interval")
        early.publish()
        expect(page.locator("#watts")).to_have_text("6.00")
    finally:
        early.server.close()


def test_without_a_place_for_a_stream_the_page_polls(served: ApiServer, show: Show) -> None:
    """Where an address has all of its streams, another page is no worse."""
    with ExitStack() as stack:
        for _ in range(MAX_STREAMS_OF_ONE_ADDRESS):
            stack.enter_context(closing(served.stream()))
        page = show(served.port, can_fail=True)
        expect(page.locator("#state")).to_have_text("polling")
        served.publish(many(3, at_s=3000.0, end_s=90.0))
        expect(page.locator("#rows tr")).to_have_count(3)


def test_what_is_small_is_not_0(served: ApiServer, show: Show) -> None:
    """Who used little is told from who used nothing, and rounding adds no digit."""
    used_uj = {"full": 499_999.0, "small": 100.0, "unused": 0.0}
    rows = [
        Row(process(pid, name), ran_uj=(uj, 0)) for pid, (name, uj) in enumerate(used_uj.items())
    ]
    served.publish(snapshot(rows))
    page = show(served.port)
    for name, power, share in [
        ("full", "1.00 W", "17 %"),
        ("small", "<0.001 W", "<0.1 %"),
        ("unused", "0.000 W", "0.0 %"),
    ]:
        row = page.locator("#rows tr", has=page.get_by_role("link", name=name))
        expect(row.locator("td.number").nth(0)).to_have_text(power)
        expect(row.locator("td.number").nth(1)).to_have_text(share)


def test_the_first_link_skips_to_the_workloads(served: ApiServer, show: Show) -> None:
    """Who needs no pointer gets past the node, and the view and its address stay."""
    page = show(served.port, "#/container?q=web")
    expect(page.locator("#rows a")).to_have_text(["web"])
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#panel")).to_be_focused()
    assert page.url.endswith("#/container?q=web")
    page.locator("#rows a").click()
    expect(page.locator("#detail-title")).to_be_focused()
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()


def test_a_list_without_rows_says_so(served: ApiServer, show: Show) -> None:
    """A search that finds nothing, and a kind of which nothing ran."""
    served.publish(snapshot(containers=[]))
    page = show(served.port, "#/container")
    expect(page.locator("#rest tr").first).to_contain_text("none ran in the last interval")
    page.goto(f"http://127.0.0.1:{served.port}/#/process?q=nobody")
    expect(page.locator("#rest tr").first).to_contain_text("none matches; 1 other row")


@pytest.mark.parametrize("width", [320, 390, 768, 1600])
def test_every_width_fits(width: int, served: ApiServer, show: Show) -> None:
    """Nothing is wider than the screen, in the list and in the details."""
    served.publish(snapshot([Row(process(1, "x" * 15, exe="/very/long/" + "path" * 60))]))
    page = show(served.port, viewport={"width": width, "height": 800})
    wide = "document.documentElement.scrollWidth - window.innerWidth"
    expect(page.locator("#rows a")).to_have_text(["x" * 15])
    assert page.evaluate(wide) <= 0
    page.locator("#rows a").click()
    expect(page.locator("#labels")).to_contain_text("pathpath")
    assert page.evaluate(wide) <= 0


CONTRAST = """
() => {
  const channels = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (color) => channels(color).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, index) => sum + c * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    const isClear = color === "rgba(0, 0, 0, 0)" && element.parentElement;
    return isClear ? behind(element.parentElement) : color;
  };
  return [...document.querySelectorAll("body *")]
    .filter((each) => each.checkVisibility())
    .filter((each) => [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .map((each) => {
      const style = getComputedStyle(each);
      const color = each.closest("svg") ? style.fill : style.color;
      const [one, two] = [light(color), light(behind(each))];
      return [(Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05), each.textContent];
    })
    .filter(([contrast]) => contrast < 4.5);
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(scheme: str, served: ApiServer, show: Show) -> None:
    """All text has a contrast of 4.5 to what is behind it, by day and by night."""
    shown = many(3, at_s=3000.0, end_s=90.0)
    meter = MeterStats("estimate", is_estimate=True)
    served.publish(replace(shown, stats=replace(shown.stats, meter=meter)))
    page = show(served.port, color_scheme=scheme)
    expect(page.locator("#rows tr")).to_have_count(3)
    assert page.evaluate(CONTRAST) == []
    page.locator("#rows a").first.click()
    expect(page.locator("#detail-watts")).not_to_have_text(UNKNOWN)
    assert page.evaluate(CONTRAST) == []


def test_everything_has_a_name(served: ApiServer, show: Show) -> None:
    """Buttons, fields, charts and tables have names for who does not see them."""
    page = show(served.port)
    expect(page.locator("#rows a")).to_have_text(["worker"])
    tree = page.locator("body").aria_snapshot()
    assert 'slider "Power of the node over the last minutes"' in tree
    assert 'searchbox "Search by name, pid or executable"' in tree
    caption = "Processes by power, in zone package: 1 of 1 that ran in the last interval"
    assert f'table "{caption}"' in tree
    assert 'cell "worker 100"' in tree
    assert 'tab "Processes 1"' in tree
    assert re.search(r"- (button|link|tab|slider|searchbox)(:| \[|$)", tree, re.MULTILINE) is None


def test_without_scripts_there_are_links(served: ApiServer, show: Show) -> None:
    """A browser without JavaScript, like curl, gets to the figures."""
    page = show(served.port, java_script_enabled=False)
    assert b"<noscript><p" in served.fetch("/")[2]
    hrefs = [link.get_attribute("href") for link in page.locator("footer a").all()]
    assert hrefs == ["metrics", "api/v1/snapshot", "api/v1/history", "healthz", "readyz"]


def test_a_day_takes_no_more_memory_than_an_hour(served: ApiServer, show: Show) -> None:
    """Thousands of intervals with workloads that come and go leave heap and page as they are."""
    served.publish(many(20))
    shown = served.json("snapshot?level=process&top=20")
    page = show(served.port, "#/blank")
    page.context.add_init_script(FAST_FORWARD)
    page.reload()
    session = page.context.new_cdp_session(page)

    def used() -> tuple[int, int]:
        for _ in range(2):
            session.send("HeapProfiler.collectGarbage")
        heap = session.send("Runtime.getHeapUsage")["usedSize"]
        return int(heap), int(session.send("Memory.getDOMCounters")["nodes"])

    page.evaluate(PASS_HOURS, [shown, 1, 700])
    heap_bytes, nodes = used()
    page.evaluate(PASS_HOURS, [shown, 700, 1400])
    later_bytes, later_nodes = used()
    assert later_nodes <= 1.1 * nodes
    assert later_bytes <= heap_bytes + 1_000_000


def test_the_page_is_small() -> None:
    """All files together are within the limit, and what is there is what is served."""
    folder = Path(__file__).parents[2] / "kepler_ebpf" / "exporters" / "live"
    files = {each.name for each in folder.iterdir() if each.suffix not in {".md", ".png"}}
    assert files == set(TYPES)
    assert sum((folder / name).stat().st_size for name in files) <= MAX_BYTES


def test_a_real_run_is_shown_live(tmp_path: Path, show: Show) -> None:
    """A running kepler-ebpf: rows, new figures in each interval, details, and its restart."""
    with running(tmp_path, "--meter", "fake", "--units") as run:
        port = int(run.address.rpartition(":")[2])
        page = show(port, can_fail=True)
        expect(page.locator("#estimate")).to_contain_text("meter “fake”")
        expect(page.locator("#rows a").first).to_be_visible()
        first = page.locator("#interval-more").inner_text()
        expect(page.locator("#interval-more")).not_to_have_text(first)
        page.locator("#rows a").first.click()
        expect(page.locator("#detail-watts")).not_to_have_text(UNKNOWN)
        page.keyboard.press("Escape")
        run.end()
        expect(page.locator("#state")).to_contain_text("stale")
    place = ("--web.listen-address", f"127.0.0.1:{port}")
    with running(tmp_path, "--meter", "fake", place=place):
        expect(page.locator("#notice")).to_contain_text("has started again")
        expect(page.locator("#state")).to_have_text("live")
