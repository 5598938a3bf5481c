"""The reports that the tests open: made once per session, by whichever worker comes first."""

import fcntl
import os
from pathlib import Path

from tests.hostile_runs import SAES, make_hostile_run, write_hostile_labels
from xmodel.alignment.settings import PassSettings
from xmodel.pairing.comparing import align_models
from xmodel.pairing.settings import PairSettings
from xmodel.report.page.report import write_report
from xmodel.report.page.settings import ReportSettings
from xmodel.similarity.grids import SweepSettings
from xmodel.similarity.kept_splits import keep_split
from xmodel.similarity.scoring import score_run
from xmodel.similarity.settings import ScoreSettings
from xmodel.similarity.split_sweep import split_feature
from xmodel.similarity.sweep import sweep_models
from xmodel.steering.settings import SteerSettings
from xmodel.steering.steering import steer_run

WIDTHS = ("builtin:gemma-demo-l3-1k", "builtin:gemma-demo-l3")
ODD = 'a run\'s "#1" 100 % <b>ü</b> 漢&x=1'
"""A folder name with everything that means something in an address."""
FEW = SteerSettings(
    pairs=8,
    doses=(0.1, 0.25),
    depths=(0.5,),
    words=40,
    passage_words=20,
    random=40,
    live=20,
    permutations=99,
    reinit=1,
    curve_pairs=3,
    curve_doses=(0.1, 0.25, 0.5),
)


def make_once(tmp_path_factory, name, make):
    """Make something in a folder that all workers of a session share.

    Args:
        tmp_path_factory: pytest's.
        name: of the folder.
        make: called with the folder by the first that comes; the others wait. Returns a path in it.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = shared / f"once-{name}"
    folder.mkdir(exist_ok=True)
    done = folder / "done.txt"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            done.write_text(str(make(folder)), "utf-8")
    return Path(done.read_text("utf-8"))


def ignore(message):
    """Warnings of the stages are the business of other tests."""


def make_full_run(path):
    """A run of the bundled pair that is scored and steered."""
    chosen = PassSettings(words_limit=6000, shard_words=3000)
    pairing = PairSettings(workers=1)
    run = align_models(*SAES, "builtin:demo-corpus", path, settings=chosen, pairing=pairing, warn=ignore)
    metrics = ("svcca:5", "cka_debiased")
    score_run(run, ScoreSettings(metrics=metrics, permutations=99, bootstrap=0), warn=ignore)
    steer_run(run, FEW, warn=ignore)
    return run


def make_sweep(path):
    """A small grid of the bundled SAEs, and how one feature splits in the wider one."""
    sweep = sweep_models(
        [SAES[0]],
        [*WIDTHS, "builtin:gemma-demo-l5"],
        "builtin:demo-corpus",
        path,
        sweep=SweepSettings(metrics=("cka", "svcca:5"), permutations=99),
        settings=PassSettings(words_limit=3000, shard_words=1500),
        pairing=PairSettings(workers=1),
        warn=ignore,
    )
    firings = sweep.run.features("b").getnnz(axis=0)
    keep_split(sweep, split_feature(sweep, "b", int(firings.argsort()[-100]), draws=19))
    return sweep


def write_full_report(folder):
    """The page of a run that has everything."""
    sweep = make_sweep(folder / "sweep")
    run = make_full_run(folder / "run")
    return write_report(run, ReportSettings(sweep=sweep.path), warn=ignore).path


def write_hostile_report(folder):
    """The page of a run on hostile texts, with labels that are no better."""
    run = make_hostile_run(folder / ODD, folder / "corpus <i>" / "texts", copies=3)
    labels = write_hostile_labels(folder / "labels.csv")
    return write_report(run, ReportSettings(maps=False, labels_a=labels, passages=60), warn=ignore).path
