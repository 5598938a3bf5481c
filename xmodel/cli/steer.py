"""``xmodel steer``: whether paired features do the same, and steering vectors carried from A to B."""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xmodel.cli.options import Json, RuleOption
from xmodel.cli.program import app, report_line
from xmodel.cli.progress import show_progress
from xmodel.cli.runs import show_found
from xmodel.errors import InputError

if TYPE_CHECKING:
    from xmodel.pairing.results import Run
    from xmodel.steering.settings import SteerSettings

_SIZE = re.compile(r"(\d+(?:\.\d+)?) *([kmgt]i?b?|b)?", re.IGNORECASE)
_POWERS = "bkmgt"
_NOT_ABLATED = ("--doses", "--random", "--contrast", "--contrast-set", "--curve-pairs", "--port")
_NOT_PORTED = ("--features", "--contrast", "--contrast-set", "--live", "--reinit", "--reinit-how")


class ReinitOption(StrEnum):
    """How layers become random."""

    INITIAL = "initial"
    SHUFFLED = "shuffled"


@app.command("steer")
def steer(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    pairs: Annotated[
        int | None, typer.Option("--pairs", metavar="N", help="The N pairs of greatest r. Default: 100.")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--features",
            metavar="A:B,...",
            help="These pairs of features instead, for instance 12:5,40:7; may be repeated.",
        ),
    ] = None,
    rule: Annotated[
        RuleOption | None, typer.Option("--rule", help="Which pairs are taken. Default: mutual.")
    ] = None,
    doses: Annotated[
        str | None,
        typer.Option(
            "--doses",
            metavar="X,...",
            help="Lengths of the push, as shares of the residual stream's. Default: 0.1,0.25.",
        ),
    ] = None,
    depths: Annotated[
        str | None,
        typer.Option(
            "--depths",
            metavar="X,...",
            help="Where effects are read, as shares of the way from the site to the last block. Default: "
            "0.25,0.5,0.75.",
        ),
    ] = None,
    words: Annotated[
        int | None, typer.Option("--words", metavar="N", help="Held-out words compared. Default: 200.")
    ] = None,
    random: Annotated[
        int | None,
        typer.Option("--random", metavar="N", help="Random directions, as chance. Default: 1000."),
    ] = None,
    live: Annotated[
        int | None,
        typer.Option("--live", metavar="N", help="Other features that fire as often. Default: 400."),
    ] = None,
    permutations: Annotated[
        int | None,
        typer.Option(
            "--permutations", metavar="N", help="Permutations of words, and of partners. Default: 999."
        ),
    ] = None,
    reinit: Annotated[
        int | None,
        typer.Option("--reinit", metavar="N", help="Draws of random layers after the site. Default: 3."),
    ] = None,
    reinit_how: Annotated[
        ReinitOption | None,
        typer.Option(
            "--reinit-how", help="As before training, or trained weights in random order. Default: initial."
        ),
    ] = None,
    contrast: Annotated[
        Path | None,
        typer.Option(
            "--contrast",
            metavar="FILE",
            help="Also carry vectors of contrast prompts: YAML, `name: {positive: [...], negative: [...]}`, "
            "or JSONL.",
        ),
    ] = None,
    contrast_set: Annotated[
        list[str] | None,
        typer.Option(
            "--contrast-set",
            metavar="NAME",
            help="Only this set of the file, or a bundled one (past-present, plural-singular, ...); may be "
            "repeated.",
        ),
    ] = None,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Switch features off where they fire, instead of pushing.")
    ] = False,
    curve_pairs: Annotated[
        int | None,
        typer.Option(
            "--curve-pairs",
            metavar="N",
            help="Pairs that are pushed at five doses, for the exchange rate. Default: 10.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", metavar="SIZE", help="Memory for activations: 512MB, 2GiB, ... Default: 1GiB."
        ),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option("--alpha", metavar="A", help="Level of the decisions. Default: 0.05.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Of all random numbers. Default: 0.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1, ... Default: cpu.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="float32, bfloat16 or float16, of the models. Default: float32."),
    ] = None,
    port: Annotated[
        Path | None,
        typer.Option(
            "--port",
            metavar="VECTOR",
            help="Carry a steering vector of A over to B: .safetensors, or a .gguf control vector.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where B's vector goes, with --port; by its ending."),
    ] = None,
    json: Json = False,
) -> None:
    """See whether paired features do the same: push A along one, B along its partner, and compare.

    Compares what both pushes change further down, beside what chance gives: other pairs, random directions,
    features that merely fire alike, and random layers after the site. Writes steering.json and
    transfer.parquet into the run. An interrupted command goes on when it is given again.

    With --port a steering vector made for A is carried over to B instead.

    \b
    Examples:
      xmodel steer run
      xmodel steer run --features 12:5,40:7 --doses 0.05,0.1,0.25,0.5
      xmodel steer run --ablate --pairs 50
      xmodel steer run --port happy.gguf --out happy-b.gguf
    """
    from transformers.utils.logging import disable_progress_bar

    from xmodel.pairing.results import open_run
    from xmodel.steering.settings import SteerSettings

    asked = {
        "--pairs": pairs,
        "--features": features,
        "--doses": doses,
        "--random": random,
        "--live": live,
        "--reinit": reinit,
        "--reinit-how": reinit_how,
        "--contrast": contrast,
        "--contrast-set": contrast_set,
        "--curve-pairs": curve_pairs,
        "--port": port,
    }
    _check_together(asked, ablate=ablate, out=out)
    chosen: dict[str, Any] = {
        "pairs": pairs,
        "features": parse_features(features) if features else None,
        "rule": rule.value if rule else None,
        "mode": "ablate" if ablate else None,
        "doses": parse_numbers("--doses", doses) if doses is not None else None,
        "depths": parse_numbers("--depths", depths) if depths is not None else None,
        "words": words,
        "random": random,
        "live": live,
        "permutations": permutations,
        "reinit": reinit,
        "reinit_how": reinit_how.value if reinit_how else None,
        "curve_pairs": curve_pairs,
        "contrasts": tuple(dict.fromkeys(contrast_set)) if contrast_set else None,
        "contrast_file": str(contrast) if contrast else None,
        "budget": parse_size(budget) if budget is not None else None,
        "alpha": alpha,
        "seed": seed,
        "device": device,
        "dtype": dtype,
    }
    settings = SteerSettings(**{name: value for name, value in chosen.items() if value is not None})
    opened = open_run(run)
    disable_progress_bar()
    try:
        if port is not None and out is not None:
            _port(opened, port, out, settings, json)
        else:
            _steer(opened, settings, json)
    except KeyboardInterrupt:
        report_line(f"interrupted. The same command goes on with whatever is finished in {run}.")
        raise


def _steer(run: "Run", settings: "SteerSettings", json: bool) -> None:
    from xmodel.report.steer import describe_steering, render_steering
    from xmodel.steering.steering import steer_run

    with show_progress() as report:
        steering = steer_run(run, settings, report=report, warn=report_line)
    show_found(describe_steering(steering), render_steering, json)


def _port(run: "Run", source: Path, out: Path, settings: "SteerSettings", json: bool) -> None:
    from xmodel.report.port import describe_port, render_port
    from xmodel.steering.porting import port_vector

    with show_progress() as report:
        ported = port_vector(run, source, out, settings, report=report, warn=report_line)
    show_found(describe_port(run, ported), render_port, json)


def _check_together(asked: Mapping[str, object], *, ablate: bool, out: Path | None) -> None:
    """Refuse options of which one would be ignored.

    Raises:
        InputError: naming both.
    """
    given = {name for name, value in asked.items() if value is not None}
    if ablate and (clash := [name for name in _NOT_ABLATED if name in given]):
        raise InputError(
            f"--ablate and {clash[0]} were given together: a feature that is switched off is not pushed, so "
            f"there are no doses and no directions but the features' own. Leave out {' and '.join(clash)}, "
            "or --ablate."
        )
    if "--port" in given and (clash := [name for name in _NOT_PORTED if name in given]):
        raise InputError(
            f"--port and {clash[0]} were given together: a vector that is carried over needs none of "
            f"{', '.join(_NOT_PORTED)}. Leave out {' and '.join(clash)}, or --port."
        )
    if "--port" in given and out is None:
        raise InputError("--port VECTOR needs --out FILE: where is B's vector to be written?")
    if "--port" not in given and out is not None:
        raise InputError(
            "--out FILE is for a vector that is carried over with --port VECTOR: what steering finds is "
            "written into the run. Leave out --out, or name the vector."
        )
    if "--features" in given and "--pairs" in given:
        raise InputError(
            "--features and --pairs were given together: the pairs are either those that you name, or the "
            "best of the run. Leave out one of the two."
        )


def parse_features(texts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of features from ``12:5,40:7``.

    Raises:
        InputError: for anything else.
    """
    found = []
    for pair in ",".join(texts).split(","):
        match = re.fullmatch(r" *(\d+) *: *(\d+) *", pair, re.ASCII)
        if match is None:
            raise InputError(
                f"--features has {pair!r}: give pairs as A:B, the number of a feature of A and of one of B, "
                "joined by commas, for instance 12:5,40:7. `xmodel features RUN --word WORD` finds numbers."
            )
        found.append((int(match[1]), int(match[2])))
    return tuple(found)


def parse_numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers from ``0.1,0.25``.

    Args:
        option: what it was given to, for the message.
        text: what was given.

    Raises:
        InputError: for what is no number. Whether a number makes sense is for `SteerSettings` to say.
    """
    try:
        return tuple(float(one) for one in text.split(","))
    except ValueError:
        raise InputError(
            f"{option} is {text!r}: give numbers joined by commas, for instance 0.25 or 0.1,0.25."
        ) from None


def parse_size(text: str) -> int:
    """Bytes from ``512MB``, ``1.5GiB``, ``800000000``.

    Raises:
        InputError: for anything else.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"--budget is {text!r}: give a number with a unit, for instance 512MB, 1.5GB or 2GiB."
        )
    unit = (match[2] or "b").lower()
    base = 1024 if "i" in unit else 1000
    return int(float(match[1]) * base ** _POWERS.index(unit[0]))
