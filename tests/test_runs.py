"""Runs as a library makes them: what goes on, what is refused, baselines, tokens as units, the two halves."""

import itertools
import json
import shutil
import sys
from copy import deepcopy
from dataclasses import replace
from io import BytesIO, TextIOWrapper

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file, save_file

from tests.run_contents import read_run
from tests.tiny_pair import TinyPair, align_pair, read_texts, write_corpus, write_neox, write_pair
from xmodel.alignment import features, shards
from xmodel.alignment.align import align_ids
from xmodel.alignment.loading import load_tokenizer
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.tables import Splitter, split_documents
from xmodel.errors import InputError
from xmodel.pairing import comparing
from xmodel.pairing.comparing import align_models
from xmodel.pairing.results import open_run
from xmodel.pairing.settings import PairSettings
from xmodel.run import FORMAT, RunFolder

SITE = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """For tensors as small as these, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("pair"), SITE)


@pytest.fixture(scope="module")
def texts():
    return read_texts()[:24]


@pytest.fixture(scope="module")
def finished(pair, texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    align_pair(pair, texts, out)
    return out


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


class Stop(BaseException):
    """Not an Exception, as KeyboardInterrupt is none."""


def interrupt(pair, corpus, out, after=3, **options):
    """Run until some shards are done."""
    calls = itertools.count(1)

    def report(stage, done, total):
        if stage == "words" and done and next(calls) == after:
            raise Stop

    with pytest.raises(Stop):
        align_pair(pair, corpus, out, report=report, **options)
    return out


def list_shards(out):
    return sorted(path.name for path in (out / "parts").glob("shard-*"))


# The library.


def test_a_list_of_texts_gives_tables(pair, texts, finished):
    run = open_run(finished)
    assert run.documents["text"].to_pylist() == texts
    words = run.words.to_pandas()
    assert run.summary["words"] == len(words) > 1000
    for side in "ab":
        features = run.features(side)
        assert features.shape == (len(words), 24)
        assert (features.getnnz(axis=0) > 0).sum() == run.summary["features"][side]["alive"]
    pairs = run.pairs.to_pandas()
    assert {"feature_a", "feature_b", "r", "r_heldout", "n_ab", "jaccard", "mutual", "optimal"} <= {
        *pairs.columns
    }
    assert pairs.r.between(-1, 1).all() and (pairs.r.diff().dropna() <= 0).all()
    half = (words.split == "discovery").to_numpy()
    best = pairs.iloc[0]
    dense = [run.features(side)[half].toarray().astype(float)[:, best[f"feature_{side}"]] for side in "ab"]
    assert np.corrcoef(*dense)[0, 1] == pytest.approx(best.r, abs=1e-12)


def test_a_generator_of_texts_is_a_corpus_too(pair, texts, finished, tmp_path):
    align_pair(pair, (text for text in texts), tmp_path / "run")
    assert read_run(tmp_path / "run") == read_run(finished)


def test_another_seed_gives_other_halves_and_the_same_features(pair, texts, finished, tmp_path):
    align_pair(pair, texts, tmp_path / "run", seed=1)
    own, other = read_run(tmp_path / "run"), read_run(finished)
    assert own["words.parquet"] != other["words.parquet"]
    assert own["features_a/shard-00001.safetensors"] == other["features_a/shard-00001.safetensors"]


def test_a_finished_run_is_not_computed_again(pair, texts, copied):
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*.safetensors")}
    seen = []
    align_pair(pair, texts, copied, report=lambda stage, done, total: seen.append(stage))
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*.safetensors")} == before
    assert set(seen) == {"pair"}


def test_other_rules_of_pairing_need_no_other_run(pair, texts, finished, copied):
    run = align_pair(pair, texts, copied, pairing=PairSettings(min_firings=40, top_k=2))
    assert max(run.pairs["rank_a"].drop_null().to_pylist()) == 2
    align_pair(pair, texts, copied)
    assert read_run(copied) == read_run(finished)


# The same, and not the same.


def test_an_interrupted_run_goes_on(pair, texts, finished, tmp_path):
    out = interrupt(pair, texts, tmp_path / "run")
    assert list_shards(out) == ["shard-00000.json", "shard-00001.json", "shard-00002.json"]
    assert not json.loads((out / "manifest.json").read_text())["complete"]
    with pytest.raises(InputError, match="was interrupted"):
        open_run(out)
    align_pair(pair, texts, out)
    assert read_run(out) == read_run(finished)


def test_fresh_starts_over_and_spares_what_is_not_its_own(pair, texts, finished, tmp_path):
    out = interrupt(pair, read_texts()[24:], tmp_path / "run", after=2)
    (out / "notes.txt").write_text("kept")
    with pytest.raises(InputError, match="--fresh"):
        align_pair(pair, texts, out)
    align_pair(pair, texts, out, fresh=True)
    assert (out / "notes.txt").read_text() == "kept"
    (out / "notes.txt").unlink()
    assert read_run(out) == read_run(finished)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, r"seed was 0 and is now 1"),
        (
            {"settings": PassSettings(shard_words=200, pool="mean")},
            r"settings\.pool was '\w+' and is now 'mean'",
        ),
        ({"settings": PassSettings(shard_words=300)}, r"settings\.shard_words was 200 and is now 300"),
        ({"model_a": "elsewhere"}, r"a\.model was '.*' and is now 'elsewhere'"),
        ({"document": "file"}, r"document was 'paragraphs' and is now 'file'"),
    ],
    ids=str,
)
@pytest.mark.parametrize("complete", [True, False])
def test_other_arguments_are_named(pair, texts, copied, changes, message, complete):
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps({**manifest, "complete": complete}))
    before = read_run(copied)
    with pytest.raises(InputError, match=message + r".*another folder, or start over with --fresh"):
        align_pair(pair, texts, copied, **changes)
    assert read_run(copied) == before


@pytest.mark.parametrize(("place", "used"), [(0, True), (2, True), (20, False)])
def test_a_changed_corpus_is_noticed_where_it_was_used(pair, texts, tmp_path, place, used):
    """Shards that are not done yet may still change: the result is that of the corpus as it is at last."""
    corpus, out = write_corpus(tmp_path / "corpus.jsonl", texts), tmp_path / "run"
    interrupt(pair, corpus, out)
    receipt = json.loads((out / "parts" / "shard-00002.json").read_text())
    assert used == (place < receipt["facts"]["first_document"] + receipt["facts"]["documents"])
    write_corpus(corpus, [*texts[:place], texts[place] + "!", *texts[place + 1 :]])
    if used:
        with pytest.raises(InputError, match=r"the corpus has changed since .*Give the same corpus"):
            align_pair(pair, corpus, out)
        write_corpus(corpus, texts)
    align_pair(pair, corpus, out)
    align_pair(pair, corpus, tmp_path / "unbroken")
    assert read_run(out) == read_run(tmp_path / "unbroken")


def test_a_corpus_that_became_shorter_is_noticed(pair, texts, tmp_path):
    out = interrupt(pair, texts, tmp_path / "run")
    first = json.loads((out / "parts" / "shard-00001.json").read_text())["facts"]
    with pytest.raises(InputError, match="now ends after 2 shards"):
        align_pair(pair, texts[: first["first_document"] + first["documents"]], out)


def test_another_corpus_of_the_same_name_is_not_shown_the_old_results(pair, texts, copied):
    with pytest.raises(InputError, match="the corpus has changed since the run"):
        align_pair(pair, [*texts[:-1], "Something else."], copied)
    with pytest.raises(InputError, match="the corpus has changed since the run"):
        align_pair(pair, texts[:-1], copied)


@pytest.fixture
def own_folders(pair, tmp_path):
    """Copies of the models' and the SAEs' folders, to be changed."""
    folders = {name: tmp_path / name for name in ("model_a", "model_b", "sae_a", "sae_b")}
    return {name: shutil.copytree(getattr(pair, name), folder) for name, folder in folders.items()}


@pytest.mark.parametrize("file", ["model_a", "sae_b"])
def test_changed_weights_between_two_attempts(own_folders, texts, tmp_path, file):
    folders, own, out = own_folders, TinyPair(**own_folders), tmp_path / "run"
    interrupt(own, texts, out)
    weights = folders[file] / ("model.safetensors" if file == "model_a" else "sae_weights.safetensors")
    state, original = load_file(weights), weights.read_bytes()
    key = min(name for name, value in state.items() if value.dtype == torch.float32)
    state[key].view(-1)[0] += 1e-3
    save_file(state, weights, {"format": "pt"})
    name = r"a\.model\.sha256" if file == "model_a" else r"b\.dictionary\.digest"
    with pytest.raises(InputError, match=f"was begun with {name}"):
        align_pair(own, texts, out)
    weights.write_bytes(original)
    align_pair(own, texts, out)
    assert open_run(out).manifest["complete"]


def flip_entry(name):
    def change(content):
        content[name] = not content[name]

    return change


def cut_merges(content):
    content["model"]["merges"] = content["model"]["merges"][:-500]


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        ("sae_a/cfg.json", flip_entry("apply_b_dec_to_input"), r"a\.dictionary\.digest .*configuration"),
        ("model_a/tokenizer.json", cut_merges, r"a\.tokenizer_sha256 .*tokenizer files"),
        ("model_a/config.json", flip_entry("use_parallel_residual"), r"a\.model\.sha256 .*config\.json"),
    ],
    ids=["SAE", "tokenizer", "model"],
)
@pytest.mark.parametrize("after", [1, 3])
def test_changed_descriptions_between_two_attempts(
    own_folders, texts, tmp_path, monkeypatch, place, change, message, after
):
    """The weights are the same, and what is computed from them is not."""
    own, out = TinyPair(**own_folders), tmp_path / "run"
    interrupt(own, texts, out, after=after)
    file = tmp_path / place
    original = file.read_bytes()
    content = json.loads(original)
    change(content)
    file.write_text(json.dumps(content))
    before = read_run(out)
    with monkeypatch.context() as patch:
        patch.setattr(comparing, "run_pass", None)  # Told before its consequences are, such as a high FVU.
        with pytest.raises(InputError, match=f"was begun with {message}.*--fresh, or restore"):
            align_pair(own, texts, out)
    assert read_run(out) == before
    file.write_bytes(original)
    align_pair(own, texts, out)
    assert open_run(out).manifest["complete"]


def test_components_of_another_fit_are_told_when_they_are_fitted(pair, texts, tmp_path):
    source, out = f"pca:{SITE}:8", tmp_path / "run"
    models = {"model_a": str(pair.model_a), "model_b": str(pair.model_b)}
    stop_before_a_shard(pair, source, texts, out, models)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["sides"]["a"]["dictionary"]["digest"] = "0" * 64
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"was begun with a\.dictionary\.digest"):
        stop_before_a_shard(pair, source, texts, out, models)


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
    assert comparing._compute_fingerprint(manifest) == expected
    changed = deepcopy(manifest)
    *parents, last = path.split(".")
    place = changed
    for name in parents:
        place = place[name]
    assert last in place
    place[last] = 12345
    assert (comparing._compute_fingerprint(changed) != expected) == differs


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


# Dictionaries that are no SAEs, and a model with itself.


@pytest.mark.parametrize(
    "source",
    [
        "neurons:blocks.1.mlp.hook_post",
        f"residual:{SITE}",
        f"pca:{SITE}:8",
        "residual:blocks.0.hook_resid_pre",
    ],
)
def test_baselines_run_from_end_to_end(pair, texts, tmp_path, source):
    models = {"model_a": str(pair.model_a), "model_b": str(pair.model_b)}
    run = align_models(source, source, texts, tmp_path / "run", **models)
    expected = {"neurons": 32, "residual": 16, "pca": 8}[source.partition(":")[0]]
    assert run.summary["features"]["a"] == {"total": expected, "alive": expected, "kept": expected}
    magnitudes = np.abs(run.pairs["r"].to_numpy())
    assert (np.diff(magnitudes) <= 0).all() and (run.pairs["r"].to_numpy() < 0).any()
    side = run.manifest["sides"]["a"]
    assert side["dictionary"]["signed"] and side["calibration"]["fvu"] is None
    again = align_models(source, source, texts, tmp_path / "again", **models)
    assert read_run(again.path) == read_run(run.path)


def stop_before_a_shard(pair, source, texts, out, models):
    def report(stage, done, total):
        if stage == "words":
            raise Stop

    with pytest.raises(Stop):
        align_models(
            source,
            str(pair.sae_b),
            texts,
            out,
            **models,
            settings=PassSettings(shard_words=200),
            report=report,
        )


@pytest.mark.parametrize("damage", ["none", "truncated", "flipped", "missing"])
def test_components_are_those_of_the_first_attempt(pair, texts, tmp_path, damage, monkeypatch):
    source, out = f"pca:{SITE}:8", tmp_path / "run"
    models = {"model_a": str(pair.model_a), "model_b": str(pair.model_b)}
    stop_before_a_shard(pair, source, texts, out, models)
    stored = out / "components_a.npz"
    data = stored.read_bytes()
    with np.load(stored) as arrays:
        assert arrays["components"].shape == (8, 16)
    if damage == "truncated":
        stored.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        stored.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
    elif damage == "missing":
        stored.unlink()
    else:
        from xmodel.alignment import calibration

        monkeypatch.setattr(calibration, "fit_pca", None)  # It is not called again.
    settings = PassSettings(shard_words=200)
    align_models(source, str(pair.sae_b), texts, out, **models, settings=settings)
    monkeypatch.undo()
    align_models(source, str(pair.sae_b), texts, tmp_path / "unbroken", **models, settings=settings)
    assert read_run(out) == read_run(tmp_path / "unbroken")


def test_components_without_a_manifest_are_not_trusted(pair, texts, tmp_path):
    """They may be another model's: a process was killed before it wrote down whose they are."""
    models = {"model_a": str(pair.model_a), "model_b": str(pair.model_b)}
    align_models(f"pca:{SITE}:8", str(pair.sae_b), texts, tmp_path / "unbroken", **models)
    align_models("pca:blocks.0.hook_resid_post:8", str(pair.sae_b), texts, tmp_path / "other", **models)
    out = tmp_path / "run"
    out.mkdir()
    shutil.copy(tmp_path / "other" / "components_a.npz", out)
    align_models(f"pca:{SITE}:8", str(pair.sae_b), texts, out, **models)
    assert read_run(out) == read_run(tmp_path / "unbroken")


def test_a_model_with_itself(pair, texts, tmp_path):
    both = {"model_a": str(pair.model_a), "model_b": str(pair.model_a)}
    run = align_models(str(pair.sae_a), str(pair.sae_a), texts, tmp_path / "run", **both)
    pairs = run.pairs.to_pandas()
    for rule in ("best_of_a", "best_of_b", "mutual", "one_to_one", "optimal"):
        own = pairs[pairs[rule]]
        assert len(own) == run.summary["features"]["a"]["kept"] > 10
        assert (own.feature_a == own.feature_b).all()
        assert np.allclose(own.r, 1, atol=1e-12) and np.allclose(own.r_heldout.dropna(), 1, atol=1e-12)
        assert (own.n_a == own.n_ab).all() and (own.jaccard == 1).all()
    again = run.summary["reproduced"]
    assert again["same_best_partner"] == again["frequent_in_both_halves"] > 0


# Tokens as units.


@pytest.fixture(scope="module")
def twins(pair, tmp_path_factory):
    """Two models of one tokenizer."""
    return str(pair.model_a), str(write_neox(tmp_path_factory.mktemp("twin") / "b", seed=5))


@pytest.fixture(scope="module")
def plain(pair):
    """Texts all of whose words are single tokens."""
    tokenizer = load_tokenizer(str(pair.model_a))
    words = sorted(
        {word for text in read_texts() for word in text.split() if word.isascii() and word.isalpha()}
    )
    single = [word for word in words if len(tokenizer.encode([" " + word])[0]) == 1]
    assert len(single) > 200
    rng = np.random.default_rng(0)
    return [" " + " ".join(rng.choice(single, 60)) for _ in range(24)]


def test_where_every_word_is_one_token_units_make_no_difference(twins, plain, tmp_path):
    runs = {}
    for unit in ("word", "token"):
        settings = PassSettings(unit=unit, shard_words=300, context=32)
        sources = f"residual:{SITE}", "neurons:blocks.1.mlp.hook_post"
        runs[unit] = align_models(
            *sources, plain, tmp_path / unit, model_a=twins[0], model_b=twins[1], settings=settings
        )
    word, token = read_run(tmp_path / "word"), read_run(tmp_path / "token")
    assert len(runs["word"].words) == 24 * 60 - runs["word"].manifest["sides"]["a"]["excluded_first"]
    assert len(list_shards(tmp_path / "word")) > 2
    for name in word:
        if name.endswith((".safetensors", ".parquet")):
            assert word[name] == token[name], name


def test_where_words_are_several_tokens_units_do(twins, texts, tmp_path):
    """A case that must differ; each unit of a token is a part of its word."""
    settings = PassSettings(unit="token", skip_positions=0, massive=0)
    run = align_models(
        f"residual:{SITE}", f"residual:{SITE}", texts, tmp_path / "run", model_a=twins[0], model_b=twins[1],
        settings=settings,
    )  # fmt: skip
    table, documents = run.words.to_pandas(), run.documents["text"].to_pylist()
    for number, text in enumerate(documents):
        own = table[table.document == number]
        data = text.encode()
        assert [
            data[s:e].decode("utf-8", "replace") for s, e in zip(own.start, own.end, strict=True)
        ] == own.text.tolist()
        joined = own.groupby("group").agg({"start": "min", "end": "max"})
        assert (joined.start.to_numpy()[1:] >= joined.end.to_numpy()[:-1]).all()
    words = align_models(
        f"residual:{SITE}", f"residual:{SITE}", texts, tmp_path / "words", model_a=twins[0], model_b=twins[1],
        settings=PassSettings(skip_positions=0, massive=0),
    )  # fmt: skip
    assert len(table) > len(words.words) > 0
    assert table.groupby(["document", "group"]).ngroups == len(words.words)


# The two halves.


@given(documents=st.integers(20, 200), seed=st.integers(0, 2**32 - 1))
def test_halves_by_document_are_balanced_and_complete(documents, seed):
    words = np.repeat(np.arange(documents), 1 + np.arange(documents) % 7)
    splitter = Splitter(documents, len(words), seed)
    assert not splitter.by_blocks
    chosen = splitter.split_words(np.arange(len(words)), words)
    for number in range(documents):
        assert len(set(chosen[words == number])) == 1
    by_document = chosen[np.searchsorted(words, np.arange(documents))]
    assert abs(2 * by_document.sum() - documents) <= 1
    pairs = by_document[: documents // 2 * 2].reshape(-1, 2)
    assert (pairs.sum(axis=1) == 1).all()


@given(documents=st.integers(1, 19), words=st.integers(1, 5000), seed=st.integers(0, 2**32 - 1))
def test_halves_of_few_documents_are_blocks_of_words(documents, words, seed):
    splitter = Splitter(documents, words, seed)
    assert splitter.by_blocks
    chosen = splitter.split_words(np.arange(words), np.zeros(words, np.int64))
    assert len(np.flatnonzero(np.diff(chosen.astype(int)))) < Splitter.FEW
    assert abs(2 * int(chosen.sum()) - words) <= Splitter.FEW + 2 * splitter.block
    if words >= 400:
        assert 0.4 <= chosen.mean() <= 0.6


def test_seeds_give_other_halves():
    assert not np.array_equal(split_documents(40, 0), split_documents(40, 1))
    assert np.array_equal(split_documents(40, 7), split_documents(40, 7))


def test_a_run_of_many_documents_is_split_by_document(finished):
    run = open_run(finished)
    assert run.manifest["split"] == "documents"
    documents, words = run.documents.to_pandas(), run.words.to_pandas()
    assert set(documents.split) == {"discovery", "heldout"}
    assert abs((documents.split == "discovery").sum() - len(documents) / 2) <= 0.5
    assert (words.split.to_numpy() == documents.split.to_numpy()[words.document]).all()
    assert run.summary["discovery_words"] + run.summary["heldout_words"] == len(words)


def test_a_run_of_few_documents_is_split_by_blocks_and_says_so(pair, texts, tmp_path):
    told = []
    run = align_pair(pair, texts[:5], tmp_path / "run", warn=told.append)
    assert any("only 5 documents" in message and "blocks of words" in message for message in told)
    assert run.manifest["split"] == "blocks of words"
    words, documents = run.words.to_pandas(), run.documents.to_pandas()
    names = words.split.to_numpy()
    assert 8 <= 1 + (names[1:] != names[:-1]).sum() <= 20
    for number, name in enumerate(documents.split):
        halves = set(words.split[words.document == number])
        assert {name} == halves or (name == "mixed" and len(halves) == 2)
    again = []
    align_pair(pair, texts, tmp_path / "many", warn=again.append)
    assert not any("documents" in message for message in again)


def test_the_shards_hold_what_the_cli_page_promises(finished):
    words = 0
    for path in sorted((finished / "features_a").iterdir()):
        own = load_arrays(path)
        assert {name: array.dtype.name for name, array in own.items()} == {
            "indptr": "int64", "indices": "int32", "values": "float32", "first_word": "int64"
        }  # fmt: skip
        assert own["first_word"].tolist() == [words]
        words += len(own["indptr"]) - 1
    assert words == len(open_run(finished).words)
