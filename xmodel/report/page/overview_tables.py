"""Tables of the overview: the two sides, the rules of pairing, how well neighbouring sites are rebuilt."""

from collections.abc import Mapping
from typing import Any

from xmodel.pairing.results import Run
from xmodel.report.page.records import Cell, Column, Table
from xmodel.report.page.texts import show_plain
from xmodel.report.runs import RULE_NAMES, is_signed


def list_sides(run: Run, found: Mapping[str, Any]) -> Table:
    """What was compared, a row per property.

    Args:
        run: the run.
        found: as `describe_run` describes it.
    """
    sides = {side: _list_facts(run, found, side) for side in "ab"}
    rows: list[tuple[Cell, ...]] = [(name, sides["a"][name], sides["b"][name]) for name in sides["a"]]
    rows = [row for row in rows if any(row[1:])]
    return Table("What was compared", (Column(""), Column("A"), Column("B")), tuple(rows))


def _list_facts(run: Run, found: Mapping[str, Any], side: str) -> dict[str, str]:
    own, features, manifest = found["sides"][side], found["features"][side], run.manifest["sides"][side]
    model, tokens = manifest["model"], manifest.get("tokens")
    left_out = {
        "first positions": manifest.get("excluded_first", 0),
        "massive activations": manifest.get("excluded_massive", 0),
    }
    return {
        "model": show_plain(model["name"]),
        "revision": show_plain(str(model.get("revision") or "")),
        "dictionary": show_plain(own["dictionary"]),
        "architecture": show_plain(own["architecture"]) + (", signed features" if own["signed"] else ""),
        "site": show_plain(own["site"]),
        "features": f"{features['total']:,}",
        "fire (discovery half)": f"{features['alive']:,}",
        "passed the filters": f"{features['kept']:,}",
        "tokens": "" if tokens is None else f"{tokens:,}",
        "tokens left out": ", ".join(f"{number:,} {why}" for why, number in left_out.items() if number),
        "FVU": "" if own["fvu"] is None else f"{own['fvu']:.3f}",
        "certificates": ", ".join(f"{number:,} {status}" for status, number in own["certificates"].items()),
    }


def list_rules(found: Mapping[str, Any]) -> Table:
    """The pairs by rule, with their mean r.

    Args:
        found: as `describe_run` describes it.
    """
    mean = "mean |r|" if is_signed(found["sides"]) else "mean r"
    columns = (
        Column("rule"),
        Column("pairs", "count"),
        Column(mean, "r"),
        Column("held out", "r"),
        Column("shuffled", "r"),
    )
    rows = tuple(
        (
            RULE_NAMES.get(rule, rule),
            own["count"],
            own["mean_r"],
            own["mean_r_heldout"],
            own["mean_r_heldout_shuffled"],
        )
        for rule, own in found["pairs"].items()
    )
    return Table("Pairs by rule", columns, rows)


def list_neighbours(run: Run) -> list[Table]:
    """How well each dictionary rebuilds the sites around its own; none where none was measured.

    Args:
        run: the run.
    """
    rows: list[tuple[Cell, ...]] = []
    told = []
    for side in "ab":
        own = run.manifest["sides"][side]
        calibration = own.get("calibration", {})
        if calibration.get("fvu") is None or not calibration.get("neighbours"):
            continue
        measured = {own["site"]: calibration["fvu"], **calibration["neighbours"]}
        ordered = sorted(measured, key=lambda site: (measured[site], site != own["site"]))
        nearest = next(site for site in ordered if site != own["site"])
        verb = "is rebuilt best" if ordered[0] == own["site"] else "is not rebuilt best"
        told.append(
            f"{side.upper()}'s own site {verb} (FVU {calibration['fvu']:.3f}; next best: "
            f"{show_plain(nearest)}, {measured[nearest]:.3f})"
        )
        rows += [
            (side.upper(), show_plain(site), "its own" if site == own["site"] else "", measured[site])
            for site in ordered
        ]
    if not rows:
        return []
    columns = (Column("side"), Column("site"), Column(""), Column("FVU", "value"))
    return [Table("Does each SAE belong to its site?", columns, tuple(rows), caption=". ".join(told) + ".")]
