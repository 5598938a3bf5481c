"""Takes the pictures of the page of `xmodel report` for the README and docs/report.md, in Chromium.

    xmodel demo --out RUN && xmodel score RUN && xmodel steer RUN && xmodel report RUN
    python recipes/draw_report.py RUN docs/pictures

The pictures are PNG files of 1280 pixels' width, of what a reader sees first.
"""

import argparse
import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser.chromium import find_browser, start_browser  # noqa: E402
from tests.browser.driving import draw_figures, settle  # noqa: E402

WIDTH = 1280
STEP = 15
"""Levels of red, green and blue that are told apart: a divisor of 255, so that white stays white."""


@dataclass(frozen=True)
class Shot:
    """A picture of a part."""

    name: str
    """Of the file, behind ``report-``."""
    address: str
    """Of the part, without its ``#``."""
    height: int
    """Pixels."""
    theme: str = "light"
    ready: str | None = None
    """What must be there before the picture is taken."""


def list_shots(pair: str) -> tuple[Shot, ...]:
    """The pictures; `pair` is the address of the one that is shown, ``a=1&b=2``."""
    contexts = "#detail .context"
    return (
        Shot("pairs", f"pairs&{pair}", 1400, ready=contexts),
        Shot("pairs-dark", f"pairs&{pair}", 1000, theme="dark", ready=contexts),
        Shot("overview", "overview", 1180),
        Shot("maps", "maps&word=whale", 1120, ready="#map-list a"),
        Shot("steering", "steering", 1250),
    )


def take_shots(page: Path, shots: tuple[Shot, ...], out: Path) -> list[Path]:
    """Write every picture as report-NAME.png."""
    program = find_browser()
    if program is None:
        sys.exit("no browser: install Chromium, or set XMODEL_CHROMIUM")
    out.mkdir(parents=True, exist_ok=True)
    written = []
    with start_browser(program) as browser:
        for shot in shots:
            size = {"width": WIDTH, "height": shot.height}
            context = browser.new_context(viewport=size, color_scheme=shot.theme, reduced_motion="reduce")
            tab = context.new_page()
            tab.goto(f"{page.resolve().as_uri()}#{shot.address}")
            settle(tab, shot.address.split("&")[0])
            draw_figures(tab)
            if shot.ready:
                tab.locator(shot.ready).first.wait_for()
            # Plotly goes on for a moment after its elements are there.
            tab.wait_for_timeout(800)
            place = out / f"report-{shot.name}.png"
            picture = Image.open(BytesIO(tab.screenshot())).convert("RGB")
            picture.point(lambda level: STEP * round(level / STEP)).save(place, optimize=True)
            written.append(place)
            context.close()
    return written


def main() -> None:
    """Take the pictures of a run's page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="with its page")
    parser.add_argument("out", type=Path)
    parser.add_argument("--pair", default="a=836&b=221", help="the pair that is shown")
    options = parser.parse_args()
    for place in take_shots(options.run / "report" / "index.html", list_shots(options.pair), options.out):
        print(f"{place}: {place.stat().st_size / 1000:,.0f} kB")


if __name__ == "__main__":
    main()
