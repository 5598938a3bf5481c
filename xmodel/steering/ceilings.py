"""How far a model agrees with itself: something to lay the transfers between models beside."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.steering.collecting import Collector
from xmodel.steering.passages import choose_passages
from xmodel.steering.readouts import measure_retrieval
from xmodel.steering.transfers import collect_responses, compare_responses

LEADS = (25, 10, 5)
"""Words by which passages begin earlier, the first that the texts have room for."""


def measure_context_ceiling(collector: Collector, number: int) -> dict[str, Any] | None:
    """The same model with itself: the same pushes, read over the same words in another context.

    A response depends on the words and on what stands before them. It is no upper bound: two models that read
    the same words in the same context could agree by more.

    Args:
        collector: of a session of pushes.
        number: 0 for A, 1 for B.

    Returns:
        ``mean_diagonal`` (mean T of a feature with itself), ``mean_off_diagonal``, ``top1`` and ``lead`` of
        the primary cell; None where no passage can begin earlier.
    """
    session = collector.session
    settings = session.settings
    dose, depth = settings.cells[settings.primary]
    for lead in LEADS:
        try:
            passages = choose_passages(
                session.run,
                settings.words,
                passage_words=settings.passage_words,
                seed=settings.seed,
                lead=lead,
            )
        except InputError:
            continue  # No passage has room for so many words before it; a shorter lead may fit.
        break
    else:
        return None
    rows = session.rows[number]

    def compute() -> dict[str, NDArray]:
        vectors = session.directions[number].vectors[rows]
        found = []
        for given in (session.passages, passages):
            side = session.place(number, passages=given, reads=(session.reads[number][settings.middle],))
            found.append(collect_responses(side, vectors, [dose or 0.0]))
        return {"odd": compare_responses(*found).odd[0]}

    odd = collector.keep(f"context_{'ab'[number]}-00000", compute, lead, dose, depth)["odd"]
    off = odd[~np.eye(len(odd), dtype=np.bool_)]
    return {
        "mean_diagonal": float(np.diag(odd).mean()),
        "mean_off_diagonal": float(off.mean()) if len(off) else None,
        "top1": measure_retrieval(odd, np.arange(len(odd))).top1,
        "lead": lead,
    }
