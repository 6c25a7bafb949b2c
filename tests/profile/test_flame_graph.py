"""The page of the flame graph, opened from disk in a real browser."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chromium import PATIENCE_MS, chromium
from playwright.sync_api import Browser, Page, expect
from profiles import Row, large_profile, profile_of

from kepler_ebpf.profile.formats.registry import render
from kepler_ebpf.profile.model import Frame, Origin, Process, Profile

CC1, PYTHON = Process(11, 2, "cc1"), Process(12, 3, "python3")
MAIN, PARSE = Frame("main", "/usr/bin/cc1"), Frame("parse<int, char>", "/usr/bin/cc1")
FAULT = Frame("asm_exc_page_fault", "[kernel]", Origin.KERNEL)
EVAL = Frame("py::fib:/srv/fib.py", "", Origin.JIT)
UNSAMPLED = Frame("[unsampled]", "", Origin.NONE)
ROWS = [
    Row(CC1, (MAIN, PARSE), (5e6, 1e5), cpu_ns=1e9, samples=60),
    Row(CC1, (MAIN, PARSE, FAULT), (1e6, 2e6), cpu_ns=4e9, samples=20),
    Row(PYTHON, (EVAL,), (3e6, 3e5), cpu_ns=2e9, samples=30),
    Row(PYTHON, (UNSAMPLED,), (1e6, 1e5), cpu_ns=1e9, samples=0),
]
MARKUP = "</script><script>document.title='owned'</script><!--<b>&amp;"

Show = Callable[[Profile], Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start one Chromium for the tests of this file."""
    with chromium() as started:
        yield started


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Show]:
    """Return what opens a profile's page, which may load nothing and report no fault."""
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(PATIENCE_MS)

    def opened(profile: Profile) -> Page:
        path = tmp_path / "flame.html"
        path.write_bytes(render("html", profile, "package"))
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.goto(path.as_uri())
        return page

    yield opened
    context.close()
    assert [each for each in wrong if not each.endswith("/flame.html")] == []


def click_frame(page: Page, across: float, depth: int) -> None:
    """Click the graph at a part of its width, in the row of a depth; 0 is the whole."""
    canvas = page.locator("#canvas")
    box = canvas.bounding_box()
    assert box
    height = box["height"] - 18 * depth - 9  # the flames stand up: the whole is the lowest row
    canvas.click(position={"x": across * box["width"], "y": height})


def test_the_head_says_what_it_is(show: Show) -> None:
    """Joules with a unit, of what, by which meter, over how long, and what is missing."""
    page = show(profile_of(ROWS, notes=("2 % of the stacks are broken.",), counts={"lost": 7}))
    head = page.locator("header").inner_text()
    for words in ("make -j2", "10.00 J", "package energy", "10.00 W mean", "meter rapl"):
        assert words in head
    assert "2 % of the stacks are broken." in head
    assert "lost 7" in head
    assert "ESTIMATE" not in head


def test_an_estimate_is_bold(show: Show) -> None:
    """Nobody takes a model for a measurement."""
    page = show(profile_of(ROWS, is_estimate=True, meter="estimate"))
    expect(page.locator("header b")).to_have_text("ESTIMATE")
    assert "nothing was measured" in page.locator("header").inner_text()


def test_click_zooms_and_the_path_leads_back(show: Show) -> None:
    """A click shows a frame alone, with its callers; each of them leads back."""
    page = show(profile_of(ROWS))
    click_frame(page, 0.3, depth=3)
    path = page.locator("#path")
    buttons = path.get_by_role("button")
    expect(buttons).to_have_text(["all", "cc1", "main", "parse<int, char>"])
    expect(path).to_contain_text("6.000 J, 60.00 %")
    buttons.nth(1).click()
    expect(buttons).to_have_text(["all", "cc1"])
    page.get_by_role("button", name="Show all").click()
    expect(path).to_be_empty()


def test_search_adds_up(show: Show) -> None:
    """The joules of what matches: a frame below another that matches does not count twice."""
    page = show(profile_of(ROWS))
    page.keyboard.press("/")
    page.keyboard.type("CC1")
    expect(page.locator("#found")).to_have_text("6.000 J, 60.00 % in 3 matches")
    page.locator("#search").fill("parse<")
    expect(page.locator("#functions")).to_have_text(
        re.compile(r"parse<int, char>cc15\.000\sJ\s+50\.00\s%6\.000\sJ\s+60\.00\s%")
    )
    page.keyboard.press("Escape")
    expect(page.locator("#found")).to_be_empty()


def test_widths_follow_the_chosen_value(show: Show) -> None:
    """Zones, CPU time and samples can be chosen; the head and the figures follow."""
    page = show(profile_of(ROWS))
    page.get_by_role("radio", name="dram").click()
    expect(page.locator("#total")).to_have_text("2.500 J")
    expect(page.locator("#what")).to_have_text("dram energy")
    page.get_by_role("radio", name="dram").press("ArrowRight")
    expect(page.locator("#total")).to_have_text("8.000 s")
    expect(page.get_by_role("radio", name="CPU time")).to_be_focused()


def test_tooltip_has_every_figure(show: Show) -> None:
    """Joules of each zone, part of the whole, watts, CPU time, samples and its own."""
    page = show(profile_of(ROWS))
    page.locator("#canvas").hover(position={"x": 200, "y": 9 + 18})
    tooltip = page.locator("#tooltip")
    for words in ("parse<int, char>", "/usr/bin/cc1", "6.000 J", "60.00 %", "5.000 s", "80"):
        expect(tooltip).to_contain_text(words)


def test_keys_do_what_the_mouse_does(show: Show) -> None:
    """Arrows move, Enter zooms, Escape shows all; the current frame has a label for readers."""
    page = show(profile_of(ROWS))
    page.locator("#canvas").focus()
    current = page.locator("#current")
    for key, label in (
        ("ArrowUp", "cc1"),
        ("ArrowRight", "python3"),
        ("ArrowUp", "py::fib:/srv/fib.py, JIT, 3.000 J, 30.00 %, level 2"),
        ("ArrowRight", "[unsampled]"),
        ("Home", "all"),
    ):
        page.keyboard.press(key)
        expect(current).to_have_attribute("aria-label", re.compile("^" + re.escape(label)))
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.locator("#path button")).to_have_text(["all", "cc1"])
    page.keyboard.press("Escape")
    expect(page.locator("#path")).to_be_empty()


def test_kinds_of_code_are_apart(show: Show) -> None:
    """The legend has the part of user code, kernel, JIT and of what is not known."""
    page = show(profile_of(ROWS))
    legend = page.locator("#legend")
    for words in ("user code 50.00 %", "kernel 10.00 %", "JIT 30.00 %", "or not sampled 10.00 %"):
        expect(legend).to_contain_text(words)
    colours = legend.locator("i").evaluate_all(
        "items => items.map(item => getComputedStyle(item).backgroundColor)"
    )
    assert len(set(colours)) == 4


def test_dark_is_another_page(show: Show) -> None:
    """The page follows the colours that the reader's system has."""
    page = show(profile_of(ROWS))
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(background) != light


def test_a_narrow_screen_is_wide_enough(show: Show) -> None:
    """On a telephone nothing is wider than the screen."""
    page = show(profile_of(ROWS))
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_names_are_text(show: Show) -> None:
    """Markup in a function, a file, a program, a command or a note stays text."""
    rows = [Row(Process(1, 1, MARKUP), (Frame(MARKUP, MARKUP),), (1e6, 0.0))]
    page = show(profile_of(rows, subject=MARKUP, notes=(MARKUP,), host={MARKUP: MARKUP}))
    expect(page.locator("h1")).to_have_text(MARKUP)
    expect(page.locator("#functions button")).to_have_text(MARKUP)
    page.locator("#search").fill(MARKUP)
    expect(page.locator("#found")).to_contain_text("1.000 J")
    assert "owned" not in page.title().replace(MARKUP, "")


def test_a_large_profile_opens(show: Show) -> None:
    """Tens of thousands of frames are drawn, and the page says what is not."""
    page = show(large_profile(stacks=12_000))
    expect(page.locator("#pruned")).to_contain_text(
        re.compile("Frames too narrow to be drawn: [0-9,]+;")
    )
    page.locator("#search").fill("function_1")
    expect(page.locator("#found")).to_contain_text("J,")


def test_nothing_measured_is_shown_too(show: Show) -> None:
    """A command that ended at once has an empty graph, and no fault."""
    page = show(profile_of([]))
    expect(page.locator("#total")).to_have_text("0.000 µJ")
