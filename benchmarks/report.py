"""How fast and how large is the page of `xmodel report`, next to what one would make without it?

    python benchmarks/report.py [RUN] [--quick]

RUN is a finished run; by default one is made up: 2 x 20,000 features on 200,000 words, 20,000 pairs and more
(tests/report_runs.py). Its page has 20 contexts per pair and no maps, whose time is UMAP's own.

In Chromium, from disk, without a window; five openings, each in a fresh profile:

- opening: from the start of navigation to rows in the table of pairs, and to the contexts of the first pair;
- a search: from a keystroke to the painted rows, for every keystroke of twenty words;
- a step: from an arrow key to the painted selection, and to the contexts of that pair;
- memory: JavaScript's heap after all that.

For comparison: the same table as one HTML page by pandas, searched with the browser's own find; and one file
with all data in it, as dashboards of single features are often made. Of these only what they can do is timed.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machine import describe_machine, read_peak
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser.chromium import find_browser, start_browser  # noqa: E402
from tests.report_runs import make_large_run  # noqa: E402
from xmodel.pairing.results import open_run  # noqa: E402
from xmodel.report.page.report import write_report  # noqa: E402
from xmodel.report.page.settings import ReportSettings  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WORDS = 20
OPENINGS = 5
WAIT = """selector => new Promise(done => {
  const look = () => document.querySelector(selector) ? done(performance.now()) : requestAnimationFrame(look);
  look();
})"""
"""Resolves with milliseconds since the start of navigation."""
PAINTED = "const painted = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));"
TYPE = f"""async word => {{
  {PAINTED}
  const field = document.getElementById('search');
  const count = document.getElementById('pair-count');
  const times = [];
  for (let end = 1; end <= word.length; end += 1) {{
    await painted();
    count.textContent = '';
    const begin = performance.now();
    field.value = word.slice(0, end);
    field.dispatchEvent(new Event('input', {{ bubbles: true }}));
    do await painted(); while (count.textContent === '');
    times.push(performance.now() - begin);
  }}
  return [times, count.textContent];
}}"""
STEP = f"""async () => {{
  {PAINTED}
  const table = document.getElementById('pairs-table');
  const place = table.querySelector('.tabulator-tableholder');
  const chosen = () => table.querySelector('[aria-selected=true]')?.id;
  const title = () => document.querySelector('#detail h3')?.textContent;
  const [row, shown] = [chosen(), title()];
  await painted();
  const begin = performance.now();
  place.dispatchEvent(new KeyboardEvent('keydown', {{ key: 'ArrowDown', bubbles: true }}));
  do await painted(); while (chosen() === row);
  const marked = performance.now() - begin;
  do await painted(); while (title() === shown || !document.querySelector('#detail .context'));
  return [marked, performance.now() - begin];
}}"""
FIND = """words => words.map(word => {
  getSelection().removeAllRanges();
  const begin = performance.now();
  window.find(word);
  return performance.now() - begin;
})"""


def measure_openings(browser: "Browser", page: Path, selectors: Sequence[str]) -> list[list[float]]:
    """[selector][opening] seconds from the start of navigation until an element is there."""
    times: list[list[float]] = [[] for _ in selectors]
    for _ in range(OPENINGS):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        tab = context.new_page()
        tab.goto(page.as_uri() + "#pairs", wait_until="commit")
        for own, selector in zip(times, selectors, strict=True):
            own.append(tab.evaluate(WAIT, selector) / 1000)
        context.close()
    return times


def use_page(tab: "Page", words: Sequence[str], steps: int) -> dict[str, list[float]]:
    """Seconds of every keystroke of some words, and of some steps through the table."""
    found: dict[str, list[float]] = {"search": [], "step": [], "detail": []}
    for word in words:
        found["search"] += [one / 1000 for one in tab.evaluate(TYPE, word)[0]]
    tab.evaluate(TYPE, " ")
    for _ in range(steps):
        marked, shown = tab.evaluate(STEP)
        found["step"].append(marked / 1000)
        found["detail"].append(shown / 1000)
    return found


def measure_heap(tab: "Page") -> float:
    """Megabytes of JavaScript's heap, after its collector has run."""
    session = tab.context.new_cdp_session(tab)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return metrics["JSHeapUsedSize"] / 1e6


def write_plain_table(page: Path, place: Path) -> int:
    """The same table of pairs, with the top words of both features, as pandas writes it; returns its rows."""
    import pandas as pd

    pairs = read_chunk(page, "pairs/table")
    words = {side: read_chunk(page, f"features/words_{side}") for side in "ab"}

    def list_words(side: str) -> list[str]:
        own = words[side]
        return [", ".join(own["words"][one] for one in own["top"][feature]) for feature in pairs[side]]

    columns = {name: pairs[name] for name in ("a", "b", "r", "r_heldout", "margin", "n_a", "n_b", "n_ab")}
    frame = pd.DataFrame({**columns, "words of a": list_words("a"), "words of b": list_words("b")})
    place.write_text(f"<!doctype html><meta charset=utf-8>{frame.to_html()}<p id=end></p>", "utf-8")
    return len(frame)


def write_single_file(page: Path, place: Path) -> None:
    """All data of the page in one HTML file, parsed when it opens."""
    scripts = sorted((page.parent / "data").rglob("*.js"))
    with place.open("w", encoding="utf-8") as file:
        file.write("<!doctype html><meta charset=utf-8><script>const all = {};")
        file.write("const xmodel = { take: (name, payload) => { all[name] = payload; } };</script>\n")
        for script in scripts:
            file.write(f"<script>{script.read_text('ascii')}</script>\n")
        file.write("<p id=end></p>")


def read_chunk(page: Path, name: str) -> Any:
    """The payload of a chunk."""
    text = (page.parent / "data" / f"{name}.js").read_text("ascii")
    return json.loads(text[text.index(",") + 1 : text.rindex(")")])


def choose_words(page: Path) -> list[str]:
    """Twenty words that are typed: top words, spread over the features."""
    words = [word for word in read_chunk(page, "features/words_a")["words"] if word.isalpha()]
    return [word.lower()[:8] for word in words[:: max(1, len(words) // WORDS)]][:WORDS]


def show_times(name: str, times: Sequence[float]) -> tuple[str, str, str]:
    """A row of the table: what, median, maximum."""
    return name, f"{1000 * statistics.median(times):,.0f} ms", f"{1000 * max(times):,.0f} ms"


def write_page(console: Console, run: Path) -> tuple[Path, float]:
    """Write the page and say what it took; returns it and the folder's megabytes."""
    begin = time.perf_counter()
    written = write_report(open_run(run), ReportSettings(maps=False))
    seconds, size = time.perf_counter() - begin, written.bytes / 1e6
    assets = sum(place.stat().st_size for place in (written.path.parent / "assets").rglob("*")) / 1e6
    console.print(
        f"{written.pairs:,} pairs, 20 contexts each: written in {seconds:.1f} s, peak memory "
        f"{read_peak() / 1e9:.2f} GB; {size:,.1f} MB, {assets:.1f} of them scripts; "
        f"{1000 * (size - assets) / written.pairs:.2f} MB of data per 1,000 pairs"
    )
    return written.path, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    options = parser.parse_args()
    program = find_browser()
    if program is None:
        sys.exit("no browser: install Chromium, or set XMODEL_CHROMIUM")
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        run = options.run
        if run is None:
            scale = 10 if options.quick else 1
            run = Path(scratch) / "run"
            make_large_run(run, features=20_000 // scale, words=200_000 // scale, documents=400 // scale)
        page, size = write_page(console, run)
        plain, single = Path(scratch) / "table.html", Path(scratch) / "single.html"
        rows = write_plain_table(page, plain)
        write_single_file(page, single)
        with start_browser(program) as browser:
            console.print(describe_machine(f"Chromium {browser.version}"))
            report_times(console, browser, page, choose_words(page), size)
            report_others(console, browser, plain, single, rows, choose_words(page))


def report_times(console: Console, browser: "Browser", page: Path, words: Sequence[str], size: float) -> None:
    """Print what the page takes in the browser."""
    table = Table("the page", "median", "maximum")
    rows, contexts = measure_openings(browser, page, ("#pairs-table .tabulator-row", "#detail .context"))
    table.add_row(*show_times("opens: rows in the table", rows))
    table.add_row(*show_times("opens: contexts of the first pair", contexts))
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(page.as_uri() + "#pairs")
    tab.evaluate(WAIT, "#detail .context")
    used = use_page(tab, words, steps=30)
    table.add_row(*show_times(f"a keystroke of a search ({len(used['search'])})", used["search"]))
    table.add_row(*show_times("an arrow key: selection", used["step"]))
    table.add_row(*show_times("an arrow key: contexts", used["detail"]))
    table.add_row("JavaScript's heap", f"{measure_heap(tab):,.0f} MB", "")
    table.add_row("folder", f"{size:,.1f} MB", "")
    console.print(table)
    tab.close()


def report_others(
    console: Console, browser: "Browser", plain: Path, single: Path, rows: int, words: Sequence[str]
) -> None:
    """Print what other ways of showing the same take."""
    table = Table("other ways", "median", "maximum")
    opened = measure_openings(browser, plain, ("#end",))[0]
    table.add_row(*show_times(f"table by pandas, {rows:,} rows: opens", opened))
    tab = browser.new_page()
    tab.goto(plain.as_uri())
    table.add_row(
        *show_times("table by pandas: find in page", [t / 1000 for t in tab.evaluate(FIND, list(words))])
    )
    table.add_row("table by pandas: size, without any context", f"{plain.stat().st_size / 1e6:,.1f} MB", "")
    tab.close()
    opened = measure_openings(browser, single, ("#end",))[0]
    table.add_row(*show_times("one file with all data: opens", opened))
    table.add_row("one file with all data: size", f"{single.stat().st_size / 1e6:,.1f} MB", "")
    console.print(table)


if __name__ == "__main__":
    main()
