"""The page in a real browser: Debian's chromium without a screen, driven by playwright. Skips, saying so, without one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.comparison import write_comparison
from reports.page import write_page, write_runs_index
from reports.run_folder import load_run
from reports.tearsheets import planned_sheets, write_tearsheet
from tests.reports.run_builder import build_run

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic", "--no-first-run",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
EVIL = "<script>alert(1)</script>"
STRATEGIES = ("searched", "sma_cross", EVIL, "buy_and_hold")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium (apt-get install chromium)")

CONTRAST = """() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = node => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const node of document.querySelectorAll("body *:not(script):not(style):not(noscript)")) {
    if (node.closest(".chart") || !node.checkVisibility?.()) continue;
    if (![...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim())) continue;
    const style = getComputedStyle(node), inPicture = node.closest("svg");
    const ink = parse(inPicture ? style.fill : style.color);
    const box = inPicture && node.previousElementSibling;
    const paper = box && box.tagName === "rect" ? parse(getComputedStyle(box).fill) : behind(inPicture || node);
    const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) poor.push([node.tagName, node.textContent.slice(0, 40), style.color]);
  }
  return poor;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield started
        started.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_run(
        tmp_path_factory.mktemp("reports"), bars=24 * 40, windows=2, strategies=STRATEGIES, symbols=("BTCUSDT", EVIL)
    )
    return write_page(load_run(folder))


class Visit:
    """One page, with everything it said to the console and asked of the network."""

    def __init__(self, browser: Any, file: Path, width: int = 1280, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri(), wait_until="load")

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def draw_all(self) -> None:
        for box in self.page.query_selector_all("details"):
            box.evaluate("node => { node.open = true; }")
        for box in self.page.query_selector_all("[data-chart]"):
            box.scroll_into_view_if_needed()
            self.page.wait_for_function("node => node.dataset.drawn === '1'", arg=box)


@pytest.mark.slow
def test_every_chart_draws_without_an_error_or_a_request(browser: Any, page_file: Path) -> None:
    with Visit(browser, page_file) as visit:
        visit.draw_all()
        assert len(visit.page.query_selector_all("[data-chart] .main-svg")) >= 10
        assert visit.said == []
        assert [url for url in visit.asked if not url.startswith(("file:", "data:", "blob:"))] == []
        assert (
            visit.page.evaluate("document.querySelectorAll('script').length") == 5
        )  # the page's own, and the library once run
        assert EVIL in visit.page.inner_text("#strategies")


def test_the_table_of_strategies_shows_every_column_at_1280(browser: Any, page_file: Path) -> None:
    with Visit(browser, page_file) as visit:
        widths = "document.querySelector('#strategies .scroll').SIDE"
        needed, there = (visit.page.evaluate(widths.replace("SIDE", s)) for s in ("scrollWidth", "clientWidth"))
        assert visit.page.locator("#strategies th", has_text="Funding").is_visible()
        assert needed <= there


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_width_needs_no_sideways_scroll_and_text_has_contrast(browser: Any, page_file: Path, scheme: str) -> None:
    with Visit(browser, page_file, 390, scheme) as visit:
        visit.draw_all()
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert visit.page.evaluate(CONTRAST) == []
        assert visit.said == []


@pytest.mark.slow
def test_contrast_check_sees_poor_text(browser: Any, page_file: Path) -> None:
    with Visit(browser, page_file) as visit:
        visit.page.add_style_tag(content="figcaption{color:#aaa!important}")
        assert any(tag == "FIGCAPTION" for tag, *_ in visit.page.evaluate(CONTRAST))


def column(visit: Visit, number: int) -> list[float]:
    cells = visit.page.query_selector_all(f"#strategies tbody tr td:nth-of-type({number})")
    return [float(cell.get_attribute("data-value")) for cell in cells]


def test_strategies_sort_by_keyboard(browser: Any, page_file: Path) -> None:
    with Visit(browser, page_file) as visit:
        head = visit.page.locator("#strategies th", has_text="Return").first
        head.locator("button").focus()
        visit.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        assert column(visit, 1) == sorted(column(visit, 1), reverse=True)
        visit.page.keyboard.press("Space")
        assert head.get_attribute("aria-sort") == "ascending"
        assert column(visit, 1) == sorted(column(visit, 1))


def test_trades_filter_sort_and_page(browser: Any, page_file: Path) -> None:
    with Visit(browser, page_file) as visit:
        status = visit.page.locator("#trade-table [role=status]")
        before = status.inner_text()
        assert before.startswith("1 to 25 of ")
        visit.page.click("[data-page='1']")
        assert status.inner_text().startswith("26 to 50 of ")
        visit.page.select_option("[data-filter='1']", label=EVIL)
        visit.page.select_option("[data-filter='3']", label="fill")
        rows = visit.page.locator("#trade-table tbody tr")
        assert status.inner_text() != before
        shown = [rows.nth(k).locator("td").all_inner_texts() for k in range(rows.count())]
        assert {(row[1], row[3]) for row in shown} == {(EVIL, "fill")}
        visit.page.click("[data-column='6']")
        fees = [float(row.split("\t")[6]) for row in rows.all_inner_texts()]
        assert fees == sorted(fees, reverse=True)
        visit.page.fill("[data-filter='0']", "1999")
        assert rows.count() == 0
        assert status.inner_text().startswith("0 to 0 of 0")


def test_choosing_a_strategy_changes_the_fills_on_the_chart(browser: Any, page_file: Path) -> None:
    with Visit(browser, page_file) as visit:
        visit.draw_all()
        visible = (
            "document.querySelector('[data-chart=candles-0]').data.filter(t => t.meta && t.visible).map(t => t.meta)"
        )
        assert set(visit.page.evaluate(visible)) == {"searched"}
        visit.page.select_option("#charted", value="sma_cross")
        assert set(visit.page.evaluate(visible)) == {"sma_cross"}


@pytest.mark.slow
def test_page_of_20_strategies_and_40_000_bars_is_small_and_draws(browser: Any, tmp_path: Path) -> None:
    names = ("searched", *[f"rival_{k}" for k in range(18)], "buy_and_hold")
    page = write_page(load_run(build_run(tmp_path, bars=40_000, strategies=names, windows=12)))
    assert page.stat().st_size < 10_000_000
    with Visit(browser, page, 390) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
        visit.page.locator("[data-chart=equity]").scroll_into_view_if_needed()
        visit.page.wait_for_function("() => document.querySelector('[data-chart=equity]').dataset.drawn === '1'")
        assert visit.said == []


def test_tearsheet_says_nothing_and_asks_for_nothing(browser: Any, tmp_path: Path) -> None:
    run = load_run(build_run(tmp_path, bars=24 * 30))
    sheet = planned_sheets(run)[0]
    write_tearsheet(
        sheet.path,
        sheet.returns,
        sheet.benchmark,
        title=sheet.title,
        benchmark_title=sheet.benchmark_title,
        parameters=sheet.parameters,
    )
    with Visit(browser, sheet.path, 390) as visit:
        assert visit.said == []
        assert visit.asked == [sheet.path.as_uri()]
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_comparison_of_runs_draws(browser: Any, tmp_path: Path) -> None:
    folders = [
        build_run(tmp_path, run_id=name, bars=24 * 30, optional=False, seed=k) for k, name in enumerate(("a", "b"))
    ]
    with Visit(browser, write_comparison(folders), 390) as visit:
        visit.draw_all()
        assert visit.said == []
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert visit.page.evaluate(CONTRAST) == []


def test_the_list_of_runs_filters_sorts_and_says_how_to_compare(browser: Any, tmp_path: Path) -> None:
    for k, name in enumerate(("aa", "bb", "cc")):
        folder = build_run(tmp_path, run_id=name, bars=24 * 5, optional=False, seed=k)
        info = json.loads((folder / "run.json").read_text())
        info["headline"] = {"searched": {"return": (0.1, 0.3, 0.2)[k], "sharpe": 1.0}}
        (folder / "run.json").write_text(json.dumps(info))
    with Visit(browser, write_runs_index(tmp_path), 390) as visit:
        page = visit.page

        def shown() -> list[str]:
            return page.locator("tbody tr:visible th").all_inner_texts()

        page.click("text=Return")
        assert shown() == ["bb", "cc", "aa"]
        page.fill("#filter", "BTCUSDT c")
        assert "cc" in shown()
        page.fill("#filter", "bb")
        assert shown() == ["bb"]
        assert page.locator("#shown").inner_text() == "1 of 3"
        page.fill("#filter", "")
        assert page.locator("#compare").is_hidden()
        for name in ("aa", "cc"):
            page.check(f"input[value={name}]")
        command = f"python -m reports compare {tmp_path.name}/runs/cc {tmp_path.name}/runs/aa"
        assert page.locator("#compare-command").inner_text() == command
        assert visit.said == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate(CONTRAST) == []
