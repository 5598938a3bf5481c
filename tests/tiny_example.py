"""What the documentation calls model_a, sae_a, model_b, sae_b and book.txt: a tiny pair that fits."""

import torch

from tests.tiny_pair import TEXT, write_fitting_sae, write_gemma, write_neox
from xmodel.alignment.loading import load_tokenizer
from xmodel.models.capture import capture
from xmodel.models.language import load_language_model

SITE = "blocks.1.hook_resid_post"


def write_example(folder):
    text = TEXT.read_text("utf-8")
    (folder / "book.txt").write_text(text, "utf-8")
    for letter, write in (("a", write_neox), ("b", write_gemma)):
        model = write(folder / f"model_{letter}")
        write_fitting_sae(folder / f"sae_{letter}", read_rows(model, text[:8000]), SITE)
    return folder


def read_rows(folder, text):
    """[tokens, d] activations over windows of a text, first positions left out, to fit an SAE on."""
    model = load_language_model(str(folder))
    ids = torch.as_tensor(load_tokenizer(str(folder)).encode([text])[0])
    ids = ids[: len(ids) // 31 * 31].reshape(-1, 31)
    rows = capture(model, ids, torch.ones_like(ids, dtype=torch.bool), [SITE])[SITE]
    return rows[:, 1:].flatten(0, 1).double().numpy()
