"""What the chunks of the pair explorer must hold, worked out slowly from dense matrices."""

import json
from pathlib import Path

import numpy as np

from xmodel.datasets.word_kinds import fold_word
from xmodel.pairing.pair_table import RULES
from xmodel.report.page.chunks import ChunkWriter
from xmodel.report.page.explorer import gather_explorer, write_explorer
from xmodel.report.page.texts import show_plain
from xmodel.report.partners import list_partners

AROUND = 12


def write_data(made, folder, *, contexts=20, most=10**9, **columns):
    """Write the explorer of a run."""
    with gather_explorer(made.run, Path(folder) / "scratch", contexts=contexts, most=most) as data:
        facts = write_explorer(data, ChunkWriter(Path(folder)), most=most, **columns)
    assert not (Path(folder) / "scratch").exists()
    return facts


def read_data(folder):
    """All chunks by name."""
    place = Path(folder) / "data"
    found = {}
    for file in sorted(place.rglob("*.js")):
        name = file.relative_to(place).with_suffix("").as_posix()
        content = file.read_text("ascii")
        found[name] = json.loads(content.removeprefix(f'xmodel.take("{name}", ').removesuffix(");\n"))
    return found


def same(found, expected):
    """Equal, a number to what three significant digits, or four after the point, leave of it."""
    if isinstance(expected, dict):
        assert set(found) == set(expected)
        for key, value in expected.items():
            same(found[key], value)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), (found, expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif isinstance(expected, float):
        assert found is not None
        assert abs(found - expected) <= max(0.00501 * abs(expected), 0.000051), (found, expected)
    else:
        assert found == expected, (found, expected)


def find_halves(made):
    return np.array(made.run.words["split"].to_pylist()) == "discovery"


def list_strongest(values):
    return sorted(np.flatnonzero(values).tolist(), key=lambda row: (-abs(float(values[row])), row))


def list_top(made, values):
    found = {}
    for row in list_strongest(values):
        found.setdefault(fold_word(made.word(row)), show_plain(made.word(row)))
    return list(found.values())[:8]


def find_window(made, row):
    own = [word for word in range(len(made.words)) if made.words[word][0] == made.words[row][0]]
    return max(own[0], row - AROUND), min(own[-1], row + AROUND) + 1


def choose_peaks(made, values, most):
    chosen, hidden = [], set()
    for row in list_strongest(values):
        if row not in hidden and len(chosen) < most:
            chosen.append(row)
            hidden.update(range(*find_window(made, row)))
    return chosen


def list_activations(values, window):
    return [[row - window[0], float(values[row])] for row in range(*window) if values[row]]


def describe_feature(made, side, feature, contexts):
    """One entry of a chunk ``features/a-0000``."""
    values = made.values[side][:, feature]
    rows = np.flatnonzero(values)
    if not len(rows):
        return None
    halves = find_halves(made)
    partners = [
        {
            "f": row["feature"],
            **{name: row[name] for name in ("r", "r_heldout", "n_ab", "margin", "mutual")},
            "rank_own": row[f"rank_{side}"],
            "rank_other": row["rank_b" if side == "a" else "rank_a"],
        }
        for row in list_partners(made.run.pairs, side, feature)[:6]
    ]
    windows = [(row, find_window(made, row)) for row in choose_peaks(made, values, contexts // 2)]
    return {
        "f": feature,
        "firings": [int(halves[rows].sum()), int((~halves[rows]).sum())],
        "mean": float(values[rows].astype(np.float64).mean()),
        "maximum": float(values[list_strongest(values)[0]]),
        "top": list_top(made, values),
        "partners": partners,
        "contexts": [
            {"word": row, "start": window[0], "stop": window[1], "own": list_activations(values, window)}
            for row, window in windows
        ],
    }


def list_shown(made):
    return [row for row in made.run.pairs.to_pylist() if any(row[rule] for rule in RULES)]


def describe_pair(made, row, contexts):
    """One entry of a chunk ``pairs/0000``, without its scatter."""
    a, b = made.values["a"][:, row["feature_a"]], made.values["b"][:, row["feature_b"]]
    cross = []
    for own, other in ((a, b), (b, a)):
        windows = [find_window(made, peak) for peak in choose_peaks(made, own, contexts // 2)]
        cross.append([list_activations(other, window) for window in windows])
    return {"b_on_a": cross[0], "a_on_b": cross[1]}


def rank_word(made, side, folded):
    """All features that fire on a word, strongest first, and their shares."""
    rows = [row for row in range(len(made.words)) if fold_word(made.word(row)) == folded]
    dense = made.values[side].astype(np.float64)
    shares = {}
    for feature in range(dense.shape[1]):
        if dense[rows, feature].any():
            shares[feature] = abs(dense[rows, feature].mean()) / np.abs(dense[:, feature]).max()
    return sorted(shares, key=lambda feature: (-shares[feature], feature)), shares
