"""The pass: a corpus goes through both models once, and word features come out as checksummed shards.

What is done stays done: a shard counts when its receipt is written, and a run that is started again
verifies the finished shards, recomputes damaged ones, and goes on after the last.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xmodel.alignment.calibration import Calibration, calibrate, fit_components
from xmodel.alignment.extract import Clock, Side
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.shards import (
    AlignedShard,
    Shard,
    align_shard,
    compute_shard,
    count_facts,
    cut_shards,
    tabulate_shard,
    write_features,
)
from xmodel.alignment.tables import TABLES, Splitter, count_words, merge_tables, write_table
from xmodel.errors import InputError
from xmodel.records import Attrition, Document
from xmodel.run import Receipt, RunFolder

Report = Callable[[str, int, int | None], None]
"""Called with a stage, how much of it is done, and the total where it is known."""
Begin = Callable[[tuple[Side, Side], tuple[Calibration, Calibration]], str]
"""Called with both sides as they will run; tells the fingerprint of what shards depend on."""


@dataclass(frozen=True, eq=False)
class PassResult:
    """What the pass leaves for the manifest."""

    sides: tuple[Side, Side]
    """As they ran, principal components fitted."""
    receipts: list[Receipt]
    files: dict[str, str]
    """SHA-256 of the finished tables by name."""
    calibrations: tuple[Calibration, Calibration]
    attrition: list[Attrition]
    splitter: Splitter
    """How the words were split into halves."""
    seconds: dict[str, float]
    """Per stage, those of the shards that earlier attempts finished included."""


def run_pass(
    documents: Iterator[Document],
    sides: tuple[Side, Side],
    folder: RunFolder,
    settings: PassSettings,
    *,
    seed: int = 0,
    accept_misfit: bool = False,
    begin: Begin = lambda sides, calibrations: "",
    report: Report = lambda stage, done, total: None,
) -> PassResult:
    """Write the word features of a corpus, and all tables but the pairs.

    Args:
        documents: the corpus, from its beginning.
        sides: the two models; `Side.ceiling` is set here, from the first batch.
        folder: the run; finished shards in it are verified and kept.
        settings: see `PassSettings`.
        seed: of the split into halves.
        accept_misfit: go on where a dictionary does not fit its site.
        begin: called with both sides as they will run and what was measured on the first batch, once all
            checks have passed and before anything of a shard is read or written. It tells the fingerprint of
            all that shards depend on besides their documents: finished shards of another one do not count.
        report: told how many words are done.

    Raises:
        InputError: for a corpus without words that both models align, a dictionary that does not fit its
            site, activations that are not finite, a corpus that changed since the run was begun, or a
            full disk.
    """
    clock = Clock()
    shards = cut_shards(documents, settings)
    first = next(shards, None)
    if first is None or not first.words:
        raise InputError(
            "the corpus has no word in it: check that it is the right file, that --text-column names the "
            "text, and that the word rule fits the language."
        )
    report("check", 0, None)
    sides, calibrations = _calibrate(first, sides, folder, settings, accept_misfit, clock)
    fingerprint = begin(sides, calibrations)
    receipts: list[Receipt] = []
    done = words = 0
    report("words", 0, settings.words_limit)
    for shard in itertools.chain([first], shards):
        receipt = _find_finished(folder, shard, fingerprint)
        if receipt is not None:
            report("resumed", done + shard.words, settings.words_limit)
        else:
            receipt = _compute(shard, words, sides, folder, settings, fingerprint)
        receipts.append(receipt)
        done += shard.words
        words += receipt.facts["words"]
        report("words", done, settings.words_limit)
    if folder.has_receipt(len(receipts)):
        raise InputError(
            f"the corpus has changed since {folder.path} was begun: it now ends after {len(receipts)} "
            "shards, and there were more. Give the same corpus, or start over with --fresh."
        )
    if not words:
        raise InputError(
            f"none of the {done:,} words of the corpus is left with a token in both models: documents whose "
            f"ids and text do not fit: {sum(r.facts['failed_documents'] for r in receipts)}; see the word "
            "rule, --straddle, and the windows' length."
        )
    with clock.measure("tables"):
        files, splitter = _finish_tables(folder, receipts, seed)
    seconds = _sum_seconds(clock, receipts)
    return PassResult(
        sides,
        receipts,
        files,
        calibrations,
        _make_ledger(receipts, settings.unit),
        splitter,
        seconds,
    )


def _calibrate(
    first: Shard,
    sides: tuple[Side, Side],
    folder: RunFolder,
    settings: PassSettings,
    accept_misfit: bool,
    clock: Clock,
) -> tuple[tuple[Side, Side], tuple[Calibration, Calibration]]:
    with clock.measure("check"):
        own = align_shard(first, sides, settings)
        _check_some_fit(own)
        found = []
        judged = []
        for number, side in enumerate(sides):
            ids, members = own.aligned.spans[number].ids, own.members[number]
            facts = own.plan, number, ids, members, settings, first.names
            ready = []
            for one in side.dictionaries:
                fitted = fit_components(one, *facts, folder) if one.unfitted else one
                calibration = calibrate(fitted, *facts, accept_misfit)
                ceiling = float("inf") if calibration.ceiling is None else calibration.ceiling
                ready.append((replace(fitted, ceiling=ceiling), calibration))
            judged.append(replace(ready[0][0], others=tuple(one for one, _ in ready[1:])))
            found.append(replace(ready[0][1], others=tuple(calibration for _, calibration in ready[1:])))
    return (judged[0], judged[1]), (found[0], found[1])


def _check_some_fit(own: AlignedShard) -> None:
    if own.aligned.failed < len(own.shard.documents):
        return
    reasons = [c.reason for number in range(2) for c in own.aligned.certificates(number) if c.reason]
    raise InputError(
        f"ids and text fit in none of the first {own.aligned.failed:,} documents ({reasons[0]}): the "
        "tokenizer.json in the model's folder is probably damaged or another model's."
    )


def _find_finished(folder: RunFolder, shard: Shard, fingerprint: str) -> Receipt | None:
    """The receipt of a shard that is whole; None if it must be computed.

    Raises:
        InputError: if the corpus up to this shard is not what it was.
    """
    receipt = folder.receipt(shard.number)
    if receipt is None:
        return None
    if receipt.facts["corpus_sha256"] != shard.digest:
        raise InputError(
            f"the corpus has changed since {folder.path} was begun: its first "
            f"{shard.first_document + len(shard.documents):,} documents are not those of shard "
            f"{shard.number}. "
            "Give the same corpus, or start over with --fresh."
        )
    # Only now: another first text also gives another ceiling, which the fingerprint covers.
    if receipt.fingerprint != fingerprint or folder.find_damage(receipt.files):
        return None
    return receipt


def _compute(
    shard: Shard,
    first_word: int,
    sides: tuple[Side, Side],
    folder: RunFolder,
    settings: PassSettings,
    fingerprint: str,
) -> Receipt:
    clock = Clock()
    with clock.measure("align"):
        own = align_shard(shard, sides, settings)
    words = compute_shard(own, sides, settings, clock)
    with clock.measure("write"):
        kept = np.flatnonzero(words[0].present & words[1].present)
        files = {}
        for side, found in zip(sides, words, strict=True):
            for one, features in zip(side.dictionaries, (found.features, *found.others), strict=True):
                name = f"features_{one.letter}/shard-{shard.number:05d}.safetensors"
                files[name] = folder.write_bytes(name, write_features(features, kept, first_word))
        for table, columns in tabulate_shard(own, kept, first_word, words).items():
            name = _part_name(table, shard.number)
            files[name] = write_table(folder, name, table, columns)
        facts = count_facts(own, kept, words)
    seconds = {stage: round(taken, 6) for stage, taken in clock.seconds.items()}
    receipt = Receipt(shard.number, fingerprint, files, facts, seconds)
    folder.write_receipt(receipt)
    return receipt


def _sum_seconds(clock: Clock, receipts: Sequence[Receipt]) -> dict[str, float]:
    """Seconds per stage: what this process took besides the shards, and every shard's own."""
    total = dict(clock.seconds)
    for receipt in receipts:
        for stage, taken in receipt.seconds.items():
            total[stage] = total.get(stage, 0.0) + taken
    return total


def _part_name(table: str, number: int) -> str:
    return f"parts/{table}-{number:05d}.parquet"


def _finish_tables(
    folder: RunFolder, receipts: Sequence[Receipt], seed: int
) -> tuple[dict[str, str], Splitter]:
    documents = sum(receipt.facts["documents"] for receipt in receipts)
    words = sum(receipt.facts["words"] for receipt in receipts)
    parts = {table: [_part_name(table, receipt.number) for receipt in receipts] for table in TABLES}
    bounds = count_words(folder, parts["words"], documents)
    splitter = Splitter(documents, words, seed, np.diff(bounds))
    makers: dict[str, Any] = {
        "documents": lambda table: splitter.name_documents(table, bounds),
        "words": splitter.name_words,
    }
    files = {
        f"{table}.parquet": merge_tables(folder, table, parts[table], makers.get(table)) for table in TABLES
    }
    return files, splitter


def _make_ledger(receipts: Sequence[Receipt], unit: str) -> list[Attrition]:
    """What became of documents and words on the way to the rows of the shards."""

    def total(fact: str) -> int:
        return sum(receipt.facts[fact] for receipt in receipts)

    documents = total("documents")
    return [
        Attrition(
            "documents: ids and text fit in both models", documents, documents - total("failed_documents")
        ),
        Attrition("words: in documents that fit", total("rule_words"), total("fitting_words")),
        *(
            [Attrition("words: after joining or dropping", total("fitting_words"), total("units"))]
            if unit == "word"
            else []
        ),
        Attrition(f"{unit}s: no longer than a model's window", total("units"), total("in_windows")),
        Attrition(
            f"{unit}s: with a token in both models that is no first position and not massive",
            total("in_windows"),
            total("words"),
        ),
    ]
