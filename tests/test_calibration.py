"""The check that a dictionary belongs to its site: what counts, what does not, and of which tokens."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.tiny_pair import TEXT, read_rows, save, write_fitting_sae, write_neox
from xmodel.alignment import calibration
from xmodel.alignment.calibration import calibrate, find_ordinary, measure_fvu
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.setup import LoadOptions, SideRequest, prepare_sides
from xmodel.alignment.shards import align_shard, cut_shards
from xmodel.errors import InputError
from xmodel.models.saes import compute_fvu
from xmodel.records import Document

SITE = "blocks.1.hook_resid_post"
STILL = "blocks.1.hook_mlp_out"


@pytest.fixture(scope="module")
def side(tmp_path_factory):
    """A model with an SAE that fits, and beside its site one where nothing ever changes."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("model")
    model = AutoModelForCausalLM.from_pretrained(write_neox(folder), local_files_only=True)
    last = model.gpt_neox.layers[1].mlp.dense_4h_to_h
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(0.05)
    save(model, folder, exact=False)
    sae = write_fitting_sae(folder / "sae", read_rows(folder, SITE), SITE)
    request = SideRequest(str(sae), str(folder))
    return prepare_sides(request, request, PassSettings(), LoadOptions(accept_misfit=True))[0]


def judge(side, text=None, accept=False, **changes):
    settings = PassSettings(**changes)
    document = Document("text", TEXT.read_text("utf-8") if text is None else text)
    shard = next(cut_shards([document], settings))
    own = align_shard(shard, (side, side), settings)
    facts = own.plan, 0, own.aligned.spans[0].ids, own.members[0], settings, shard.names
    return calibrate(side, *facts, accept)


def change_rows(monkeypatch, change):
    """Let `change` see and replace what is read at each site."""
    original = calibration.read_batches

    def read(*args):
        for batch, found in original(*args):
            yield batch, {site: change(site, rows) for site, rows in found.items()}

    monkeypatch.setattr(calibration, "read_batches", read)


def test_a_site_that_never_changes_says_nothing(side):
    found = judge(side)
    assert found.checked and found.note is None and found.misfit is None
    assert found.fvu is not None and 0 < found.fvu < 0.9
    assert STILL in calibration.list_neighbours(side)
    assert STILL not in found.neighbours and len(found.neighbours) > 3
    json.dumps(found.as_json(), allow_nan=False)


def test_an_sae_that_reconstructs_a_constant_does_not_belong_to_it(side, monkeypatch):
    """All zeros in, all zeros out: FVU 0, but of no variance."""
    change_rows(monkeypatch, lambda site, rows: rows * 0 if site == STILL else rows)
    dictionary = side.dictionary
    monkeypatch.setattr(type(dictionary), "reconstruct", lambda own, x: (x, (x + x.mean(0)) / 2))
    found = judge(side)
    assert found.fvu == pytest.approx(0.25, abs=1e-5)
    assert list(found.neighbours.values()) == pytest.approx([0.25] * len(found.neighbours), abs=1e-5)
    assert STILL not in found.neighbours and len(found.neighbours) > 3


def test_what_overflows_does_not_hide_the_site_that_fits(side, monkeypatch):
    moved = replace(side, site="blocks.2.hook_resid_post")
    for bad in (float("nan"), float("inf")):
        with monkeypatch.context() as patch:
            change_rows(patch, lambda site, rows, bad=bad: rows if site in (moved.site, SITE) else rows * bad)
            with pytest.raises(InputError, match=rf"fits {SITE} best \(FVU 0\.\d+\)"):
                judge(moved)
            found = judge(moved, accept=True)
            assert list(found.neighbours) == [SITE]
            assert found.misfit and "does not belong to blocks.2.hook_resid_post" in found.misfit
            json.dumps(found.as_json(), allow_nan=False)


def test_an_sae_at_a_site_that_never_changes_cannot_be_judged(side):
    still = replace(side, site=STILL)
    with pytest.raises(InputError, match=rf"belongs to {STILL} .* cannot be told: .*fits {SITE} best"):
        judge(still)
    found = judge(still, accept=True)
    assert found.fvu is None and found.misfit and found.checked
    json.dumps(found.as_json(), allow_nan=False)


def test_few_words_are_told_but_not_judged(side):
    wrong = replace(side, site="blocks.2.hook_resid_post")
    with pytest.raises(InputError, match="does not belong"):
        judge(wrong)
    for text in ("Here are hardly any words.", "Word again"):
        found = judge(wrong, text)
        assert found.tokens < 50 and not found.checked and found.misfit is None
        assert found.note and f"only {found.tokens} word tokens" in found.note
        assert "was not checked" in found.note
        json.dumps(found.as_json(), allow_nan=False)


def test_so_many_words_are_enough(side, monkeypatch):
    wrong = replace(side, site="blocks.2.hook_resid_post")
    words = judge(wrong, accept=True, massive=0).tokens
    monkeypatch.setattr(calibration, "LEAST_TOKENS", words + 1)
    assert not judge(wrong, massive=0).checked
    monkeypatch.setattr(calibration, "LEAST_TOKENS", words)
    with pytest.raises(InputError, match="does not belong"):
        judge(wrong, massive=0)


def test_every_site_is_measured_on_the_same_tokens(side, monkeypatch):
    """A token that is massive at the dictionary's own site is left out of all; no other is."""
    original, read = calibration._read_sites, []

    def keep(*args):
        read.append(original(*args))
        return read[-1]

    monkeypatch.setattr(calibration, "_read_sites", keep)
    found = judge(side, accept=True, massive=1.05)
    rows = read[0]
    norms = torch.linalg.vector_norm(rows[side.site].double(), dim=1).numpy()
    kept = norms <= 1.05 * np.median(norms)
    assert 50 < kept.sum() < 0.9 * len(kept)
    assert found.ceiling == pytest.approx(1.05 * np.median(norms), rel=1e-6)
    assert len(found.neighbours) > 3
    for site, fvu in {side.site: found.fvu, **found.neighbours}.items():
        x = rows[site][torch.from_numpy(kept)]
        _, again = side.dictionary.reconstruct(x)
        x, again = x.double().numpy(), again.double().numpy()
        assert fvu == pytest.approx(((x - again) ** 2).sum() / ((x - x.mean(0)) ** 2).sum(), rel=1e-6)


def test_ordinary_rows_are_those_up_to_a_multiple_of_the_median():
    norms = np.array([1, 2, 3, 12, 13], np.float32)
    assert find_ordinary(norms, 4.0).tolist() == [0, 1, 2, 3]
    assert find_ordinary(norms, 0).tolist() == [0, 1, 2, 3, 4]


def test_fvu_of_what_says_nothing_is_none(side):
    width = side.dictionary.info.width
    x = torch.randn(60, width, generator=torch.Generator().manual_seed(0))
    assert measure_fvu(side.dictionary, x) == pytest.approx(compute_fvu(*side.dictionary.reconstruct(x)))
    for still in (x[:0], x[:1], x[:1].expand_as(x), x * 0):
        assert measure_fvu(side.dictionary, still) is None
    x[7, 3] = float("nan")
    assert measure_fvu(side.dictionary, x) is None


def test_the_rounding_of_a_mean_is_no_variance():
    still = torch.full((1001, 3), 0.1, dtype=torch.float64)
    still[:, 1] = 1e9 / 7
    assert compute_fvu(still, still) == 0
    assert compute_fvu(still, still + 1) == float("inf")
    moving = still.clone()
    moving[::2, 1] += 1e-3
    assert compute_fvu(moving, moving.mean(0).expand_as(moving)) == pytest.approx(1, rel=1e-3)
