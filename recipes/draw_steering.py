"""Draws the pictures of docs/steering.md, from a steered run: what transfer is, and what came out.

    xmodel demo --out RUN && xmodel steer RUN
    python recipes/draw_steering.py RUN docs/pictures

The pictures are SVG files of 720 pixels' width whose text stays text. What steering.json and the matrices of
the run do not have (an example of a few words, layers that do nothing) is measured again: some minutes.
"""

import argparse
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path

import matplotlib
import steering_charts
import steering_idea
import steering_material
from matplotlib.figure import Figure
from PIL import Image
from steering_material import Material
from steering_style import STYLE

PICTURES: dict[str, Callable[[Material], Figure]] = {
    "idea": steering_idea.draw_idea,
    "copy": steering_charts.draw_copy,
    "pairs": steering_charts.draw_pairs,
    "nulls": steering_charts.draw_nulls,
    "doses": steering_charts.draw_doses,
}
FONT = "'DejaVu Sans', sans-serif"
"""As matplotlib writes it with every text."""


def draw_all(material: Material, out: Path) -> list[Path]:
    """Write every picture as steering-NAME.svg; the same material gives the same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(STYLE):
        for name, draw in PICTURES.items():
            drawn = StringIO()
            draw(material).savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
            place = out / f"steering-{name}.svg"
            place.write_text(_shorten(drawn.getvalue()), "utf-8")
            written.append(place)
    return written


def _shorten(svg: str) -> str:
    """The same picture in fewer bytes: places to a hundredth of a point, and images with palettes."""
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    # What stands between tags is text, and its numbers are results.
    svg = re.sub(r">[^<]+<|\d+\.\d{3,}", lambda found: _round(found[0]), svg)
    svg = svg.replace(f"font-family: {FONT}; ", "")
    svg = svg.replace("</style>", f" text {{font-family: {FONT}}}</style>")
    svg = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", svg)
    svg = re.sub(r'(data:image/png;base64,)([^"]+)"', lambda found: f'{found[1]}{_pack(found[2])}"', svg)
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip()) + "\n"


def _round(found: str) -> str:
    return found if found.startswith(">") else f"{float(found):.2f}"


def _pack(image: str) -> str:
    packed = BytesIO()
    opened = Image.open(BytesIO(b64decode(image))).convert("RGBA")
    paper = Image.new("RGBA", opened.size, "white")
    paper.alpha_composite(opened)
    few = paper.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(packed, "png", optimize=True)
    return b64encode(packed.getvalue()).decode()


def main() -> None:
    """Measure and draw, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="a run that `xmodel steer` has pushed in")
    parser.add_argument("out", type=Path, help="folder for the pictures, for instance docs/pictures")
    arguments = parser.parse_args()
    for place in draw_all(steering_material.gather_material(arguments.run), arguments.out):
        print(f"{place}: {place.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
