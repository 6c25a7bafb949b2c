"""The page of a report, opened from disk in a real browser."""

from collections.abc import Iterator

import pytest
from chromium import PATIENCE_MS, chromium
from click.testing import CliRunner
from playwright.sync_api import Browser, Page, expect
from recordings import batches_of, write

from kepler_ebpf.cli import main

MARKUP = (b"<b>bold</b>", b"</script><i>", b"&lt;x", b"'\"><p>", b"{{data}}", b"${title}", b"plain")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start one Chromium for the tests of this file."""
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser, tmp_path) -> Iterator[Page]:
    """Open the page of a recording; it may load nothing and report no fault."""
    recorded = batches_of(3, 40)
    for measured in recorded:
        names = [MARKUP[at % len(MARKUP)] for at in range(len(measured.records))]
        measured.records["process_comm"] = measured.records["comm"] = names
    write(tmp_path / "r.arrows", recorded)
    shown = tmp_path / "report.html"
    asked = ["report", str(tmp_path / "r.arrows"), "--by", "comm", "-o", str(shown)]
    assert CliRunner().invoke(main, asked).exit_code == 0
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    opened = context.new_page()
    opened.on("console", lambda message: wrong.append(message.text))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda request: wrong.append(request.url))
    opened.goto(shown.as_uri())
    yield opened
    context.close()
    assert wrong == [shown.as_uri()]


def test_names_are_text(page):
    """Whatever a name has in it is shown as it is, in the table and beside the chart."""
    wanted = {each.decode()[:15] for each in MARKUP}
    assert wanted <= set(page.locator("tbody td:last-child").all_inner_texts())
    assert wanted <= set(page.locator("li span").all_inner_texts())
    expect(page).to_have_title("Energy by comm")


def test_the_table_adds_up(page):
    """The rows and the rest are the last line, to what their digits show."""
    rows = page.locator("tbody tr, tfoot tr").locator("td:first-child").all_inner_texts()
    *parts, whole = map(float, rows)
    assert sum(parts) == pytest.approx(whole, abs=0.0006 * len(rows))
    shares = map(float, page.locator("tfoot tr:last-child td:nth-child(3)").all_inner_texts())
    assert list(shares) == [100.0]


def test_figures_of_a_step(page):
    """Pointing at the chart shows when that was, and watts that add up to the height."""
    means = page.locator("li i").all_inner_texts()
    hint = page.locator("#when").inner_text()
    box = page.locator("svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("#when")).to_contain_text(" to ")
    assert page.locator("li i").all_inner_texts() != means
    page.mouse.move(1, 1)
    expect(page.locator("#when")).to_have_text(hint)
    assert page.locator("li i").all_inner_texts() == means


def test_filter_and_order(page):
    """Rows are filtered by name, and ordered by a click on a column."""
    page.locator("#filter").fill("BOLD")
    expect(page.locator("tbody tr:visible")).to_have_count(1)
    page.locator("#filter").fill("")
    page.locator("th").last.click()
    names = page.locator("tbody td:last-child").all_inner_texts()
    assert names == page.evaluate("names => names.sort((a, b) => a.localeCompare(b))", names)
    page.locator("th").first.click()
    joules = list(map(float, page.locator("tbody td:first-child").all_inner_texts()))
    assert joules == sorted(joules, reverse=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(page, scheme):
    """Text and background differ clearly in both schemes."""
    page.emulate_media(color_scheme=scheme)
    colors = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    text, ground = (sum(map(int, color[4:-1].split(","))) for color in colors)
    assert (text < ground) == (scheme == "light")
    assert abs(text - ground) > 400


def test_the_keyboard_orders_the_rows(page):
    """Each heading is a button, and the one that orders is known to assistive programs."""
    page.get_by_role("button", name="comms").press("Enter")
    names = page.locator("tbody td:last-child").all_inner_texts()
    assert len(names) == len(MARKUP)
    expect(page.get_by_role("columnheader", name="comms")).to_have_attribute(
        "aria-sort", "ascending"
    )
    expect(page.locator("th[aria-sort]")).to_have_count(1)


def test_a_narrow_screen_has_the_names(page):
    """On a telephone a name has room, and nothing but the picture is wider than the screen."""
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.locator("tbody td:last-child").first.bounding_box()["width"] > 100
