"""What a run folder says about itself, what it believes of what it finds there, and what it spares."""

import json
import sys
from copy import deepcopy
from dataclasses import replace
from io import BytesIO, TextIOWrapper

import pytest

from tests.run_contents import read_run
from tests.run_helpers import SITE, copied, finished, interrupt, list_shards, one_thread, pair, texts  # noqa: F401
from tests.tiny_pair import align_pair, read_texts
from xmodel.alignment import features, shards
from xmodel.alignment.align import align_ids
from xmodel.alignment.settings import PassSettings
from xmodel.errors import InputError
from xmodel.pairing.manifest import compute_fingerprint
from xmodel.pairing.results import open_run
from xmodel.run import FORMAT, RunFolder

# Shards whose manifest is lost, or that are of another run.


def test_shards_without_a_manifest_are_not_trusted(pair, texts, copied, tmp_path):
    (copied / "manifest.json").unlink()
    own = {"settings": PassSettings(shard_words=400, pool="sum")}
    align_pair(pair, texts, copied, **own)
    align_pair(pair, texts, tmp_path / "unbroken", **own)
    assert read_run(copied) == read_run(tmp_path / "unbroken")


def test_a_receipt_of_another_run_is_not_believed(pair, texts, finished, tmp_path):
    out = interrupt(pair, texts, tmp_path / "run")
    folder = RunFolder(out)
    receipt = folder.receipt(1)
    assert receipt.fingerprint == RunFolder(finished).receipt(1).fingerprint
    folder.write_receipt(replace(receipt, fingerprint="0" * 64))
    kept, redone = (out / "features_a" / f"shard-0000{number}.safetensors" for number in (0, 1))
    times = kept.stat().st_mtime_ns, redone.stat().st_mtime_ns
    align_pair(pair, texts, out)
    assert kept.stat().st_mtime_ns == times[0] and redone.stat().st_mtime_ns > times[1]
    assert read_run(out) == read_run(finished)


@pytest.mark.parametrize(
    ("path", "differs"),
    [
        ("arguments.settings.pool", True),
        ("arguments.settings.shard_words", True),
        ("arguments.options.dtype", True),
        ("arguments.seed", False),
        ("sides.a.model.sha256", True),
        ("sides.b.dictionary.digest", True),
        ("sides.b.tokenizer_sha256", True),
        ("sides.a.site", True),
        ("sides.a.prefix", True),
        ("sides.b.window_tokens", True),
        ("sides.b.calibration.ceiling", True),
        ("sides.b.calibration.fvu", False),
        ("packages.torch", True),
        ("files", False),
    ],
)
def test_the_fingerprint_is_of_all_that_shards_depend_on(finished, path, differs):
    manifest = json.loads((finished / "manifest.json").read_text())
    expected = RunFolder(finished).receipt(0).fingerprint
    assert compute_fingerprint(manifest) == expected
    changed = deepcopy(manifest)
    *parents, last = path.split(".")
    place = changed
    for name in parents:
        place = place[name]
    assert last in place
    place[last] = 12345
    assert (compute_fingerprint(changed) != expected) == differs


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    "name", ["report/thesis.tex", "parts/wheel.stl", "parts/shard-00000.json", "words.parquet"]
)
def test_what_has_a_runs_names_and_is_none_is_spared(pair, texts, tmp_path, name, fresh):
    place = tmp_path / "run" / name
    place.parent.mkdir(parents=True)
    place.write_text('{"number": 0, "files": {}, "facts": {}}')
    with pytest.raises(InputError, match=r"is not empty and holds no run \(it has (report|parts|words)"):
        align_pair(pair, texts, tmp_path / "run", fresh=fresh)
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [place]


def test_another_programs_manifest_is_spared(pair, texts, tmp_path):
    place = tmp_path / "run" / "manifest.json"
    (tmp_path / "run" / "report").mkdir(parents=True)
    place.write_text('{"manifest_version": 3}')
    for fresh, message in ((False, "is not the manifest of an xmodel run"), (True, "holds no run")):
        with pytest.raises(InputError, match=message):
            align_pair(pair, texts, tmp_path / "run", fresh=fresh)
    assert place.exists() and (tmp_path / "run" / "report").exists()


# What the manifest says.


def test_seconds_are_those_of_all_attempts(pair, texts, tmp_path):
    out = interrupt(pair, texts, tmp_path / "run")
    folder = RunFolder(out)
    first = folder.receipt(0)
    assert {"align", "write"} < set(first.seconds) and all(taken > 0 for taken in first.seconds.values())
    folder.write_receipt(replace(first, seconds={**first.seconds, "align": 1000.0}))
    told = align_pair(pair, texts, out).manifest["seconds"]
    receipts = [folder.receipt(number) for number in range(len(list_shards(out)))]
    assert receipts[0].seconds["align"] == 1000
    for stage in first.seconds:
        expected = sum(receipt.seconds[stage] for receipt in receipts)
        assert told[stage] == pytest.approx(expected, abs=0.001)
    assert told["check"] > 0 and told["tables"] > 0


def test_a_variance_of_zero_beside_the_site_is_written_as_null(pair, texts, tmp_path, monkeypatch):
    original = features.calibrate

    def calibrate(*args):
        found = original(*args)
        return replace(found, neighbours={**found.neighbours, "blocks.0.hook_attn_out": float("inf")})

    monkeypatch.setattr(features, "calibrate", calibrate)
    out = interrupt(pair, texts, tmp_path / "run", after=1)
    begun = json.loads((out / "manifest.json").read_text())["sides"]["a"]["calibration"]
    assert begun["neighbours"]["blocks.0.hook_attn_out"] is None and begun["fvu"] < 0.9
    run = align_pair(pair, texts, out)
    assert run.manifest["sides"]["a"]["calibration"] == begun


def test_versions_of_all_that_computes_are_told(finished):
    packages = open_run(finished).manifest["packages"]
    assert {"torch", "transformers", "sae-lens", "transformer-lens", "spacy", "numpy"} < set(packages)


def test_other_package_versions_between_two_attempts(pair, texts, tmp_path):
    out = interrupt(pair, texts, tmp_path / "run")
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["packages"]["torch"] = "1.0"
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"was begun with torch '1\.0', which is now"):
        align_pair(pair, texts, out)


def test_a_manifest_of_a_newer_format(pair, texts, copied, finished):
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps({**manifest, "format": FORMAT + 1}))
    for use in (open_run, lambda out: align_pair(pair, texts, out)):
        with pytest.raises(
            InputError, match=f"has format {FORMAT + 1}, and this version of xmodel reads {FORMAT}"
        ):
            use(copied)
    align_pair(pair, texts, copied, fresh=True)
    assert read_run(copied) == read_run(finished)


def test_standard_input_goes_on_with_the_same_text_only(pair, texts, tmp_path, monkeypatch):
    def give(text):
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(text.encode())))

    long, out = "\n\n".join(read_texts()), tmp_path / "run"
    give(long)
    interrupt(pair, "-", out)
    give(long.replace("Ishmael", "Jonah"))
    with pytest.raises(InputError, match="the corpus has changed"):
        align_pair(pair, "-", out)
    give(long)
    align_pair(pair, "-", out)
    give(long)
    align_pair(pair, "-", tmp_path / "unbroken")
    assert read_run(out) == read_run(tmp_path / "unbroken")
    give("Something else altogether.")
    with pytest.raises(InputError, match="the corpus has changed"):
        align_pair(pair, "-", out)


def break_ids(texts, broken):
    """Tokenize with a model's tokenizer, but give some texts the ids of others."""

    def align(chunk, tokenizers, words, straddle):
        rows = [
            [one.encode(["Wrong." if text in broken else text])[0] for text in chunk] for one in tokenizers
        ]
        return align_ids(chunk, tokenizers, rows, words=words, straddle=straddle)

    return align


def test_documents_whose_ids_do_not_fit_are_left_out_and_counted(
    pair, texts, finished, tmp_path, monkeypatch
):
    monkeypatch.setattr(shards, "align_texts", break_ids(texts, texts[5:9]))
    run = align_pair(pair, texts, tmp_path / "run")
    assert run.manifest["corpus"]["failed_documents"] == 4
    assert run.manifest["sides"]["a"]["certificates"]["failed"] == 4
    line = run.summary["attrition"][0]
    assert (line["in"], line["out"]) == (len(texts), len(texts) - 4)
    words, whole = run.words.to_pandas(), open_run(finished).words.to_pandas()
    kept = whole[~whole.document.isin(range(5, 9))]
    assert not words.document.isin(range(5, 9)).any()
    columns = ["document", "start", "end", "text"]
    assert words[columns].to_numpy().tolist() == kept[columns].to_numpy().tolist()


def test_a_corpus_whose_documents_all_fail(pair, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "align_texts", break_ids(texts, texts))
    with pytest.raises(InputError, match=r"ids and text fit in none of the first \d+ documents \(.+\)"):
        align_pair(pair, texts, tmp_path / "run")
    assert not (tmp_path / "run" / "manifest.json").exists()
