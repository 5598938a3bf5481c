"""`align`, `pair` and `features` with what cannot be used: exit code 2, one paragraph, nothing on stdout."""

import json
import pickle
import re
import shutil
import sys
from io import BytesIO, TextIOWrapper

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny_pair import (
    align_pair,
    read_rows,
    read_texts,
    write_corpus,
    write_fitting_sae,
    write_neox,
    write_pair,
)
from xmodel.cli import main

SITE = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("pair"), SITE)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus.jsonl", read_texts()[:4])


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command in this process; gives its exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["xmodel", *(str(one) for one in arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def align(run, pair, corpus, tmp_path):
    """`xmodel align` on the pair, options changed or (None) left out."""

    def align(*flags, **changes):
        options = {
            "sae_a": pair.sae_a, "sae_b": pair.sae_b, "model_a": pair.model_a, "model_b": pair.model_b,
            "corpus": corpus, "out": tmp_path / "run", **changes,
        }  # fmt: skip
        named = [
            f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None
        ]
        return run("align", *named, *flags)

    return align


def get_refusal(ended):
    """The one paragraph of a command that was refused."""
    code, printed, told = ended
    assert code == 2, told
    assert printed == ""
    assert "Traceback" not in told
    *progress, message = told.splitlines()
    assert all(re.fullmatch(r"xmodel: (loading|checking|words|pairing).*", line) for line in progress), told
    assert message.startswith("xmodel: ")
    return message.removeprefix("xmodel: ")


def change_sae(source, folder, **metadata):
    """A copy of an SAE whose metadata says something else."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "cfg.json").read_text())
    config["metadata"].update(metadata)
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def test_what_is_right_is_not_refused(align, tmp_path):
    code, printed, told = align("--json", min_firings=2)
    assert code == 0, told
    assert json.loads(printed)["words"] > 100
    assert (tmp_path / "run" / "pairs.parquet").exists()


def test_an_sae_of_another_width(align, pair, tmp_path):
    rows = np.random.default_rng(0).normal(size=(100, 12))
    narrow = write_fitting_sae(tmp_path / "narrow", rows, SITE)
    message = get_refusal(align(sae_a=narrow))
    assert "reads 12 dimensions" in message and "has 16" in message
    assert "another model or site (it was trained on somebody/tiny)" in message


def test_an_sae_that_names_another_model_than_the_user(align):
    message = get_refusal(align(model_a="somebody/else"))
    assert "--model-a is somebody/else" in message and "was trained on somebody/tiny" in message
    assert "--accept-misfit" in message


def test_an_sae_of_another_block_is_found_out(align, pair, tmp_path):
    """It was fitted at block 1 and says block 2: the message names where it fits."""
    moved = change_sae(pair.sae_b, tmp_path / "moved", hook_name="blocks.2.hook_resid_post")
    message = get_refusal(align(sae_b=moved))
    assert f"{moved} does not belong to blocks.2.hook_resid_post" in message
    assert re.search(r"fits blocks\.1\.hook_resid_post best \(FVU 0\.\d+\)", message)
    assert not (tmp_path / "run" / "manifest.json").exists()
    code, _, told = align("--accept-misfit", sae_b=moved, min_firings=2)
    assert code == 0, told
    assert "xmodel: b: " in told and "does not belong to blocks.2.hook_resid_post" in told
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert "blocks.1.hook_resid_post" in manifest["sides"]["b"]["calibration"]["misfit"]
    assert manifest["sides"]["a"]["calibration"]["misfit"] is None


def test_an_sae_of_other_weights_fits_nowhere(align, tmp_path):
    """The same architecture from another seed: no site of the model that is given fits."""
    other = write_neox(tmp_path / "other", seed=9)
    sae = write_fitting_sae(tmp_path / "sae", 9 * read_rows(other, SITE)[:, ::-1] + 4, SITE)
    message = get_refusal(align(sae_a=sae))
    assert f"does not belong to {SITE}" in message
    assert "unexplained (FVU)" in message


def test_a_layer_out_of_range(align, pair, tmp_path):
    deep = change_sae(pair.sae_a, tmp_path / "deep", hook_name="blocks.7.hook_resid_post")
    assert "has 3 blocks, 0 to 2" in get_refusal(align(sae_a=deep))


def test_an_unknown_site(align, pair, tmp_path):
    nowhere = change_sae(pair.sae_a, tmp_path / "nowhere", hook_name="blocks.1.hook_resid_posd")
    assert "Did you mean blocks.1.hook_resid_post?" in get_refusal(align(sae_a=nowhere))
    assert "is not a site" in get_refusal(align(sae_a="neurons:nowhere"))


def test_a_site_that_the_user_and_the_sae_call_differently(align):
    message = get_refusal(align(site_a="blocks.0.hook_resid_post"))
    assert "--site-a is blocks.0.hook_resid_post" in message and f"was trained at {SITE}" in message


def test_an_sae_that_does_not_say_its_site_or_model(align, pair, tmp_path):
    silent = change_sae(pair.sae_a, tmp_path / "silent", hook_name=None, model_name=None)
    assert "name the site with --site-a" in get_refusal(align(sae_a=silent))
    assert "name it with --model-a" in get_refusal(align(sae_a=silent, model_a=None))


@pytest.mark.parametrize("source", ["residual", "neurons"])
def test_no_site_between_parallel_attention_and_mlp(align, source):
    message = get_refusal(align(sae_a=f"{source}:blocks.1.hook_resid_mid"))
    assert "has no blocks.1.hook_resid_mid" in message and "parallel residual" in message


@pytest.mark.parametrize(
    "source", ["pca:blocks.1.hook_resid_post", "pca:blocks.1.hook_resid_post:0", "neurons:"]
)
def test_a_malformed_baseline(align, source):
    assert re.search(r"expected pca:SITE:K|Expected one of blocks\.", get_refusal(align(sae_a=source)))


def test_more_components_than_dimensions(align):
    message = get_refusal(align(sae_a="pca:blocks.1.hook_resid_post:99"))
    assert "asks for 99 components" in message and "at most 16" in message


def test_an_unknown_release_comes_with_the_nearest(align):
    message = get_refusal(align(sae_a="pythia-70m-deduped-res-smm/blocks.3.hook_resid_post"))
    assert "pythia-70m-deduped-res-sm" in message and "nearest releases" in message


def test_no_network(align, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = get_refusal(align(model_a="somebody/tiny"))
    assert "'somebody/tiny'" in message and "no connection" in message
    for part in ("config.json", "safetensors", "tokenizer.json", "HF_HOME"):
        assert part in message
    release = "gpt2-small-res-jb/blocks.7.hook_resid_pre"
    message = get_refusal(align(sae_a=release))
    assert release in message and "Without a connection, download" in message and "HF_HOME" in message


def test_missing_files(align, tmp_path):
    assert "does not exist" in get_refusal(align(corpus=tmp_path / "no.txt"))
    assert "there is no model" in get_refusal(align(model_a=tmp_path / "no"))
    assert "there is no SAE" in get_refusal(align(sae_a=tmp_path / "no"))
    assert not (tmp_path / "run" / "manifest.json").exists()


@pytest.mark.parametrize("content", ["", " \n\n\t\n"], ids=["empty", "blank"])
@pytest.mark.parametrize("name", ["corpus.txt", "corpus.jsonl"])
def test_an_empty_corpus(align, tmp_path, content, name):
    (tmp_path / name).write_text(content)
    assert "no document with a word" in get_refusal(align(corpus=tmp_path / name))


def test_a_row_without_the_column(align, tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"text": "one"}\n{"body": "two"}\n')
    message = get_refusal(align(corpus=tmp_path / "corpus.jsonl"))
    assert "'text'" in message and "body" in message


@pytest.mark.parametrize(
    "changes", [{"context": 3, "skip_first": 3}, {"words": "sentences", "context": 2}], ids=str
)
def test_no_word_that_both_models_can_use(align, changes):
    """Every token is at a first position; every word is longer than a window."""
    message = get_refusal(align(**changes))
    assert "no word with a token" in message and "--context" in message


def test_documents_of_one_word_each_at_a_first_position(align, tmp_path):
    """A's dictionary was trained without BOS, so that the first position is the word's own."""
    text = write_corpus(tmp_path / "corpus.jsonl", ["the"] * 40)
    assert "no word with a token" in get_refusal(align(corpus=text))


@pytest.mark.parametrize("paragraph", [0, 3])
def test_activations_that_are_not_finite(align, pair, corpus, tmp_path, paragraph):
    """A token that stands in one document only has an embedding that is not a number."""
    from xmodel.alignment.loading import load_tokenizer

    broken = shutil.copytree(pair.model_a, tmp_path / "broken")
    texts = read_texts()[:4]
    ids = [set(load_tokenizer(str(broken)).encode([text])[0].tolist()) for text in texts]
    token = min(ids[paragraph] - set().union(*(ids[:paragraph] + ids[paragraph + 1 :])))
    weights = load_file(broken / "model.safetensors")
    weights["gpt_neox.embed_in.weight"][token] = float("nan")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    message = get_refusal(align(model_a=broken, shard_words=50))
    assert f"not finite at {SITE}" in message and f"corpus.jsonl:{paragraph + 1}'" in message
    assert not list((tmp_path / "run").rglob("*.partial"))


@pytest.mark.parametrize("suffix", [".pkl", ".bin", ".pt", ".pth", ".ckpt"])
def test_a_pickle_is_no_sae(align, tmp_path, suffix):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trapped"), "w"))

    (tmp_path / f"sae{suffix}").write_bytes(pickle.dumps(Trap()))
    message = get_refusal(align(sae_a=tmp_path / f"sae{suffix}"))
    assert "pickle" in message
    get_refusal(align("--allow-pt", sae_a=tmp_path / f"sae{suffix}"))
    assert not (tmp_path / "trapped").exists()


def test_a_pt_file_is_read_with_leave_only(align, pair, tmp_path):
    state = load_file(pair.sae_a / "sae_weights.safetensors")
    torch.save({**state, "cfg": {"hook_name": SITE, "prepend_bos": False}}, tmp_path / "sae.pt")
    assert "--allow-pt" in get_refusal(align(sae_a=tmp_path / "sae.pt"))
    assert align("--allow-pt", sae_a=tmp_path / "sae.pt", min_firings=2)[0] == 0


@pytest.mark.parametrize("where", ["model", "sae", "config", "tokenizer"])
def test_damaged_files(align, pair, tmp_path, where):
    model, sae = tmp_path / "model", tmp_path / "sae"
    shutil.copytree(pair.model_a, model)
    shutil.copytree(pair.sae_a, sae)
    place = {
        "model": model / "model.safetensors",
        "sae": sae / "sae_weights.safetensors",
        "config": sae / "cfg.json",
        "tokenizer": model / "tokenizer.json",
    }[where]
    place.write_bytes(place.read_bytes()[: place.stat().st_size // 2])
    message = get_refusal(align(model_a=model, sae_a=sae))
    assert str(place.parent) in message


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"unit": "token"}, "--unit token needs equal tokenizers"),
        ({"words": "nonsense"}, "nonsense"),
        ({"words": "regex:("}, "regex"),
        ({"device": "nonsense"}, "'nonsense' is not a device: expected cpu"),
        ({"device": "xpu"}, "expected cpu"),
        ({"dtype": "int8"}, "'int8' is not a dtype"),
        ({"skip_words": "nonsense"}, "nonsense"),
        ({"massive": 0.5}, "massive"),
        ({"context": 100_000}, "reads at most 64 tokens"),
        ({"corpus": "builtin:nothing"}, "builtin:demo-texts"),
        ({"corpus": "-"}, "standard input"),
        ({"price": 1}, "price"),
    ],
    ids=str,
)
def test_options_that_cannot_be(align, changes, part, monkeypatch):
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO()))
    assert part in get_refusal(align(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"pool": "median"}, {"top_k": 0}, {"unit": "sentence"}, {"straddle": "glue"}, {"min_firings": 0},
        {"context": 1}, {"words_limit": 0}, {"shard_words": 0}, {"floor": 2}, {"document": "page"},
        {"corpus": None}, {"out": None}, {"sae_a": None}, {"no_such_option": 1},
    ],
    ids=str,
)  # fmt: skip
def test_options_that_the_parser_knows_are_wrong(align, changes):
    code, printed, told = align(**changes)
    assert code == 2
    assert printed == ""
    assert told.startswith("Usage: xmodel align") and "Traceback" not in told
    assert next(iter(changes)).replace("_", "-") in told


@pytest.fixture(scope="module")
def interrupted(pair, corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("interrupted") / "run"

    def stop(stage, done, total):
        if stage == "words":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        align_pair(pair, corpus, out, 100, report=stop)
    return out


@pytest.mark.parametrize(
    "command", [("pair",), ("features", "--a", 1), ("features", "--word", "the")], ids=str
)
def test_what_is_no_finished_run(run, interrupted, tmp_path, command):
    name, *rest = command
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "nowhere"):
        assert f"{place} holds no run" in get_refusal(run(name, place, *rest))
    assert not (tmp_path / "nowhere").exists()
    assert list((tmp_path / "empty").iterdir()) == []
    assert f"{interrupted} was interrupted" in get_refusal(run(name, interrupted, *rest))
    (tmp_path / "empty" / "manifest.json").write_text('{"name": "a web page"}')
    assert "is not the manifest of an xmodel run" in get_refusal(run(name, tmp_path / "empty", *rest))


def test_a_place_that_is_no_folder_for_a_run(align, tmp_path):
    (tmp_path / "file").write_text("kept")
    assert "is a file" in get_refusal(align(out=tmp_path / "file"))
    assert "cannot be written" in get_refusal(align(out=tmp_path / "file" / "below"))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("kept")
    for flags in ((), ("--fresh",)):
        message = get_refusal(align(*flags, out=tmp_path / "thesis"))
        assert "not empty and holds no run (it has chapter.tex)" in message
    assert (tmp_path / "file").read_text() == (tmp_path / "thesis" / "chapter.tex").read_text() == "kept"
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]
