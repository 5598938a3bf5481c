"""The linear map from A's residual stream to B's that steering is compared with."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmodel.models.capture import capture
from xmodel.steering.linear_maps import LinearMap, fit_linear_map
from xmodel.steering.passages import Passages, choose_passages
from xmodel.steering.session import Session
from xmodel.steering.vectors import name_architecture

if TYPE_CHECKING:
    from xmodel.alignment.extract import Side

WORDS = 4000
"""Words of the discovery half that the map is fitted on, at most."""
HELDOUT_WORDS = 1000
"""Held-out words on which it is judged, at most."""
PASSAGES = 8
"""Passages of a forward pass."""


def fit_session_map(session: Session) -> LinearMap:
    """Fit a ridge from A's activations at the site to B's, over words of the discovery half.

    Args:
        session: models and run.
    """
    first, second = session.loaded
    settings = session.settings
    chosen = choose_passages(
        session.run,
        WORDS,
        passage_words=settings.passage_words,
        seed=settings.seed,
        half="discovery",
    )
    judged = choose_passages(
        session.run, HELDOUT_WORDS, passage_words=settings.passage_words, seed=settings.seed
    )
    (x, y), heldout = (
        (_read(first, passages, 0), _read(second, passages, 1)) for passages in (chosen, judged)
    )
    return fit_linear_map(
        x,
        y,
        site=second.site,
        model=second.model.name,
        architecture=name_architecture(second.model),
        heldout=heldout,
    )


def _read(side: "Side", passages: Passages, number: int) -> NDArray[np.float32]:
    """[N, d] activations of one side at the words' last tokens."""
    import torch

    own = passages.b if number else passages.a
    found = np.empty((len(own.rows), side.dictionary.info.width), np.float32)
    for low in range(0, len(own.ids), PASSAGES):
        chosen = slice(low, low + PASSAGES)
        ids, mask = torch.from_numpy(own.ids[chosen]), torch.from_numpy(own.mask[chosen])
        rows = capture(side.model, ids, mask, [side.site])[side.site]
        words = np.flatnonzero((own.rows >= low) & (own.rows < low + PASSAGES))
        places = torch.from_numpy(own.rows[words] - low), torch.from_numpy(own.columns[words])
        found[words] = rows[places[0].to(rows.device), places[1].to(rows.device)].float().numpy(force=True)
    return found
