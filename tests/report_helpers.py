"""What the tests of the report share: a run full of hostile words, a page as text, and slow references."""

import io

import numpy as np
from rich.console import Console

from tests.tiny_runs import (
    FEATURES,
    build_run,
    make_texts,
)
from xmodel.datasets.word_kinds import fold_word
from xmodel.report.contexts import AROUND

HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "[bold]no[/]",
    ":smile:",
    "abc\u202edef\u2066g\u200f",
    "a\x00b\x08c\x7f",
    "👩\u200d🚀\ufe0f",
    "\U000e0041x",
    "漢字かな",
    "cafe\u0301",
    "नमस्ते",
    "עברית",
    "x\u2028y",
    "w" * 300,
    "漢" * 200,
]


def make_hostile_texts():
    texts = make_texts(documents=22, sentences=8)
    return [
        f"{HOSTILE[n % len(HOSTILE)]} {text} {HOSTILE[(n + 5) % len(HOSTILE)]}"
        for n, text in enumerate(texts)
    ]


def plant_hostile(spelled):
    """Features that fire most on exactly the hostile words."""
    rng = np.random.default_rng(1)
    strange = np.array([not word.isascii() or not word.isalpha() or len(word) > 20 for word in spelled])
    values = {}
    for side, width in zip("ab", FEATURES, strict=True):
        own = np.zeros((len(spelled), width), np.float32)
        acting = np.array([not word.isprintable() for word in spelled])
        own[:, 0] = strange * (2 + acting + rng.random(len(spelled)))
        own[:, 1] = (rng.random(len(spelled)) < 0.3) * (1 + rng.random(len(spelled)))
        values[side] = own.astype(np.float32)
    return values


def build_hostile(folder):
    texts = make_hostile_texts()
    names = [f"\x1b[2J\u202e{number}" for number in range(len(texts))]
    made = build_run(folder, texts, values=plant_hostile, names=names)
    manifest = made.run.manifest
    for side in manifest["sides"].values():
        side["model"]["name"] = "\x1b[5m[red]maker\u202e/model"
        side["dictionary"]["name"] = "\x9bsae" * 30
        side["calibration"]["misfit"] = "\x1b[31mit fits another site"
    made.run.folder.write_json("manifest.json", manifest)
    return made


def draw(picture, width, color=False):
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        color_system="truecolor" if color else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(picture, crop=False)
    return console.file.getvalue()


def list_slowly(made, side, feature):
    """Word ids of a feature's firings, strongest first, then earlier."""
    values = made.values[side][:, feature]
    return sorted(np.flatnonzero(values).tolist(), key=lambda row: (-abs(float(values[row])), row))


def list_distinct_slowly(made, side, feature, count):
    found = {}
    for row in list_slowly(made, side, feature):
        found.setdefault(fold_word(made.word(row)), made.word(row))
    return list(found.values())[:count]


def check_place(made, one):
    document, start, end = made.words[one["word_id"]]
    text = made.texts[document]
    data = text.encode()
    assert (one["document"], one["start"], one["end"]) == (document, start, end)
    assert data[start:end].decode() == one["word"]
    joined = one["before"] + one["word"] + one["after"]
    assert joined in text
    begin = start - len(one["before"].encode())
    assert data[begin : begin + len(joined.encode())].decode() == joined
    for kept, rest in ((one["before"], begin), (one["after"], len(data) - begin - len(joined.encode()))):
        assert rest == 0 or AROUND - 4 < len(kept.encode()) <= AROUND
