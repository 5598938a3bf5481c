"""Responses to ablation equal whole passes with a hook that decodes the feature to zero."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.model_helpers import PLACES, load
from tests.slow_steering import center, make_gram, pack
from tests.test_measuring import Skip, assert_alike, make_passages, one_thread, prepare  # noqa: F401 (a fixture)
from tests.tiny_saes import make_sae
from xmodel.models.baselines import fit_pca, restore_pca
from xmodel.models.saelens import wrap_sae
from xmodel.steering import ablating
from xmodel.steering.ablating import collect_ablations

FEATURES = 32


def make_dictionary(architecture: str, width: int) -> Any:
    return make_sae(architecture, d_in=width), wrap_sae(make_sae(architecture, d_in=width), architecture, "")


def respond_slowly(model: Any, site: str, sae: Any, feature: int, reads: tuple[int, ...]) -> np.ndarray:
    """[C, M] change of the Gram matrix, without the change of the residual itself; one passage at a time."""
    ids, mask, special = make_passages()
    side = prepare(model, reads, site)
    blocks, paths = PLACES[model.name]
    _, number, kind = site.split(".", 2)
    target = model.module.get_submodule(f"{blocks}.{number}{'.' if paths[kind][0] else ''}{paths[kind][0]}")
    found: dict[Any, list[Any]] = {}

    def run(change: bool) -> None:
        for row in range(len(ids)):
            length = int(mask[row].sum())
            pushed = [column for column in range(1, length) if not special[row, column]]

            def edit(_: Any, __: Any, output: Any, pushed: list[int] = pushed) -> Any:
                x = output[0] if isinstance(output, tuple) else output
                changed = x.clone()
                for column in pushed:
                    f = sae.encode(x[0, column][None])
                    less = f.clone()
                    less[0, feature] = 0
                    changed[0, column] += (sae.decode(less) - sae.decode(f))[0]
                found.setdefault(("step", change), []).append((changed - x)[0].double())
                found.setdefault(("site", change), []).append(x[0].double())
                if not change:
                    return None
                return (changed, *output[1:]) if isinstance(output, tuple) else changed

            def keep(block: int) -> Any:
                def read(_: Any, __: Any, output: Any) -> None:
                    x = output[0] if isinstance(output, tuple) else output
                    found.setdefault((block, change), []).append(x[0].double())

                return read

            handles = [
                model.module.get_submodule(f"{blocks}.{b}").register_forward_hook(keep(b)) for b in set(reads)
            ]
            handles.append(target.register_forward_hook(edit))
            with torch.no_grad():
                model.module(torch.from_numpy(ids[row : row + 1, :length]), use_cache=False)
            for handle in handles:
                handle.remove()

    run(False)
    run(True)

    def take(key: Any) -> np.ndarray:
        return np.array(
            [found[key][r][c].numpy() for r, c in zip(side.rows.tolist(), side.columns.tolist(), strict=True)]
        )

    cells = []
    for block in reads:
        changed = take((block, True)) - take(("step", True))
        cells.append(pack(center(make_gram(changed) - make_gram(take((block, False))))))
    return np.array(cells)


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "topk"])
@pytest.mark.parametrize(
    "kind, site",
    [
        ("neox", "blocks.0.hook_resid_post"),
        ("gemma3", "blocks.1.hook_mlp_out"),
        ("gpt2", "blocks.0.hook_resid_post"),
    ],
)
def test_ablations_are_those_of_a_hook_by_hand(
    kind: str, site: str, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablating, "CHUNK", 2)
    model, reads = load(kind), (2, 2)
    sae, dictionary = make_dictionary(architecture, model.width)
    side = prepare(model, reads, site)
    fires = dictionary.encode(side.replay.activation[side.where]).ne(0).float().mean(0)
    features = fires.argsort(descending=True)[[0, 1, 4]].tolist()
    assert fires[features].min() > 0
    done: list[int] = []
    found = collect_ablations(side, dictionary, features, tick=done.append)
    assert done == [2, 1] and found.odd.shape == (3, 2, 55) and not found.even.any()
    for number, feature in enumerate(features):
        expected = respond_slowly(model, site, sae, feature, reads)
        assert_alike(found.odd[number], expected, 5e-3)


@pytest.mark.parametrize("chunk", [1, 3, 16])
@pytest.mark.parametrize("kind", ["neox", "gemma3", "llama3"])
def test_a_feature_that_never_fires_does_nothing_at_all(
    kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly 0, whatever else is ablated beside it: what rounding makes is no response."""
    monkeypatch.setattr(ablating, "CHUNK", chunk)
    model = load(kind)
    sae = make_sae("standard", d_in=model.width)
    with torch.no_grad():
        sae.b_enc[5] = sae.b_enc[9] = -1e6
    dictionary = wrap_sae(sae, "standard", "")
    side = prepare(model, (1, 2))
    found = collect_ablations(side, dictionary, [3, 5, 9, 0])
    assert not found.odd[1:3].any()
    assert found.odd[0].any(axis=-1).all()


class Rounding(torch.nn.Module):
    """A block whose last digits depend on how many rows run together, as those of matrix products do."""

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        step = torch.linspace(-1, 1, hidden_states.shape[-1]) * hidden_states.abs()
        return hidden_states + 1e-5 * len(hidden_states) * step


def test_what_rounding_makes_of_no_change_is_no_response() -> None:
    model = load("neox")
    sae = make_sae("standard", d_in=model.width)
    with torch.no_grad():
        sae.b_enc[5] = -1e6
    side = prepare(model, (1,), blocks=torch.nn.ModuleList([Rounding()]))
    found = collect_ablations(side, wrap_sae(sae, "standard", ""), [3, 5, 0, 8])
    assert not found.odd[1].any() and found.odd[[0, 2, 3]].any(axis=(1, 2)).all()


def test_ablating_in_layers_that_do_nothing_gives_exactly_nothing() -> None:
    model = load("neox")
    _, dictionary = make_dictionary("standard", model.width)
    side = prepare(model, (1, 2), blocks=torch.nn.ModuleList([Skip(), Skip()]))
    assert not collect_ablations(side, dictionary, range(FEATURES)).odd.any()


def test_components_that_point_the_other_way_are_ablated_alike() -> None:
    """What is taken out is the projection, whichever way a component points."""
    model = load("neox")
    side = prepare(model, (1, 2))
    rows = side.replay.activation[side.where]
    plain = fit_pca("pca:blocks.0.hook_resid_post:6", rows)
    arrays = plain.pca_arrays()
    arrays["components"][[0, 3, 4]] *= -1
    turned = restore_pca("pca:blocks.0.hook_resid_post:6", arrays)
    scores = [one.encode(rows)[:, 3] for one in (plain, turned)]
    torch.testing.assert_close(scores[0], -scores[1])
    found, other = (collect_ablations(side, one, range(6)).odd for one in (plain, turned))
    assert found.any(axis=-1).all()
    assert other == pytest.approx(found, abs=1e-6)
