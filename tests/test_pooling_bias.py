"""Why `last` is the default: poolings that grow with a word's tokens make unrelated models look alike.

Two models with random weights have learned nothing. Yet long words have many tokens in both, so whatever
grows with the number of tokens correlates.
"""

import numpy as np
import pytest

from tests.tiny_pair import TEXT, write_exact_sae, write_gemma, write_neox
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.setup import LoadOptions
from xmodel.pairing.comparing import align_models
from xmodel.pairing.settings import PairSettings

SITE = "blocks.0.hook_resid_pre"


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strangers")
    return {
        "model_a": str(write_neox(folder / "a", seed=3, exact=True)),
        "model_b": str(write_gemma(folder / "b", seed=4, exact=True)),
        "sae_a": str(write_exact_sae(folder / "sae_a", 16, 24, SITE, 5)),
        "sae_b": str(write_exact_sae(folder / "sae_b", 16, 24, SITE, 6)),
    }


def correlate_all(strangers, out, pooling, **sources):
    """The mean r over all pairs of features."""
    run = align_models(
        **{**strangers, **sources}, corpus=[TEXT.read_text("utf-8")[:12_000]], out=out,
        settings=PassSettings(pool=pooling), pairing=PairSettings(min_firings=1),
        options=LoadOptions(accept_misfit=True),
    )  # fmt: skip
    a, b = run.features("a").toarray(), run.features("b").toarray()
    a, b = a[:, a.std(0) > 0], b[:, b.std(0) > 0]
    return np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :].mean()


@pytest.mark.parametrize(
    ("pooling", "low", "high"),
    [("last", -0.03, 0.03), ("mean", -0.03, 0.03), ("max", 0.03, 0.5), ("sum", 0.05, 0.7)],
)
def test_what_poolings_do_to_models_that_share_nothing(strangers, tmp_path, pooling, low, high):
    assert low < correlate_all(strangers, tmp_path / "run", pooling) < high


def test_the_default_is_one_that_shows_nothing_there():
    assert PassSettings().pool == "last"


@pytest.mark.parametrize("pooling", ["last", "max"])
def test_signed_features_have_no_such_bias_under_max_either(strangers, tmp_path, pooling):
    """The entry of largest magnitude keeps its sign, so that long words push nothing one way."""
    sources = {"sae_a": f"residual:{SITE}", "sae_b": f"residual:{SITE}"}
    assert abs(correlate_all(strangers, tmp_path / "run", pooling, **sources)) < 0.03
