"""The scripts and styles of the page: which there are, in what order they run, and their copies."""

import shutil
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"
# What all others use while they load.
_FIRST = ("core.js", "route.js")
_LAST, _IN_HEAD = "start.js", "theme.js"


def copy_assets(folder: Path) -> int:
    """Copy scripts, styles, vendored libraries and plotly.js, all into one folder.

    Args:
        folder: the page's ``assets``; made if it is not there.

    Returns:
        Bytes written.
    """
    from plotly.offline import get_plotlyjs

    folder.mkdir(parents=True, exist_ok=True)
    places = [place for place in sorted(ASSETS.rglob("*")) if place.is_file()]
    for place in places:
        shutil.copyfile(place, folder / place.name)
    library = folder / "plotly.min.js"
    library.write_text(get_plotlyjs(), "utf-8")
    return library.stat().st_size + sum(place.stat().st_size for place in places)


def list_scripts() -> list[str]:
    """The page's own scripts in the order in which they run, without the one in the page's head."""
    others = {place.name for place in ASSETS.glob("*.js")} - {*_FIRST, _LAST, _IN_HEAD}
    return [*_FIRST, *sorted(others), _LAST]


def list_styles() -> list[str]:
    """The page's own styles; ``page.css``, which has the colours, comes first."""
    others = {place.name for place in ASSETS.glob("*.css")} - {"page.css"}
    return ["page.css", *sorted(others)]
