"""How surprised a local model is by texts after their prompts: read anew in one pass, whatever engine drew them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np

from wcse_lib.sample.engines.hf import load_model, set_threads
from wcse_lib.sample.engines.pooling import batches
from wcse_lib.study import Machine

TOKENS_AT_ONCE = 1_024  # whose scores of every word are in memory together


def mean_surprisals(
    model: str, machine: Machine, texts: Sequence[tuple[Sequence[int], Sequence[int]]], bar=None
) -> np.ndarray:
    """The mean of −log p (nats, temperature 1) over each text's tokens, (n,); 0 for a text without tokens.

    Args: model: a checkpoint folder or hub id; texts: token ids of (prompt, text), a prompt has at least one; bar: a
    progress bar over texts. Raises what `engines.hf` raises for a model that cannot be opened.
    """
    import torch

    set_threads(machine.threads)
    live = load_model(model, machine)
    found = np.zeros(len(texts))
    with bar or nullcontext():
        for places in batches([len(prompt) + len(text) for prompt, text in texts], TOKENS_AT_ONCE):
            rows = [[*texts[place][0], *texts[place][1]] for place in places]
            shown = torch.zeros(len(rows), len(rows[0]), dtype=torch.long, device=live.device)
            for row, ids in zip(shown, rows):
                row[: len(ids)] = torch.tensor(ids)
            # Padding stands behind a row's tokens, so that none of them sees it.
            with torch.inference_mode():
                scores = live(input_ids=shown, use_cache=False).logits[:, :-1].float()
            wanted = scores.gather(2, shown[:, 1:, None])[:, :, 0]
            surprisal = (scores.logsumexp(2) - wanted).cpu().numpy()
            for place, of_row in zip(places, surprisal):
                prompt, text = texts[place]
                of_text = of_row[len(prompt) - 1 : len(prompt) - 1 + len(text)]
                found[place] = of_text.mean() if len(text) else 0.0
            if bar is not None:
                bar.update(len(places))
    return found
