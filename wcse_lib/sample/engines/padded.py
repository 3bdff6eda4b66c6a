"""Batches of transformers' own `generate`, for models that continuous batching does not suit."""

from __future__ import annotations

import numpy as np

from wcse_lib.sample.engines import Decoding, Request
from wcse_lib.sample.engines.picking import pick


def generate_batch(
    model, tokenizer, batch: list[Request], decoding: Decoding, end_ids: set[int], pad_id: int
) -> list[list[int]]:
    """The sampled token ids of every request, filled up behind their end to the longest sample's length."""
    import torch

    # Padding on the left: every row's next token is its last column. transformers derives positions from the mask.
    width = max(len(request.prompt_ids) for request in batch)
    ids, mask = [], []
    for request in batch:
        n_padding = width - len(request.prompt_ids)
        ids.append([pad_id] * n_padding + request.prompt_ids)
        mask.append([0] * n_padding + [1] * len(request.prompt_ids))

    options = {"generation_config": _generation_config(decoding, end_ids, pad_id)}
    if decoding.temperature:
        options["logits_processor"] = _draw_by_row(batch, decoding, width)
    if decoding.stop:
        options |= {"stop_strings": list(decoding.stop), "tokenizer": tokenizer}
    with torch.inference_mode():
        whole = model.generate(
            input_ids=torch.tensor(ids, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            **options,
        )
    return whole[:, width:].tolist()


def _generation_config(decoding: Decoding, end_ids: set[int], pad_id: int):
    """Never the checkpoint's own sampling defaults: what a study says is what is done."""
    from transformers import GenerationConfig

    return GenerationConfig(
        do_sample=False,
        max_new_tokens=decoding.max_tokens,
        eos_token_id=sorted(end_ids),
        pad_token_id=pad_id,
    )


def _draw_by_row(batch: list[Request], decoding: Decoding, prompt_length: int):
    """Logits processors that leave one token a row: the one that the row's own stream draws."""
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList

    seeds = np.array([request.seed for request in batch], dtype=np.uint64)

    class DrawByRow(LogitsProcessor):
        def __call__(self, input_ids, scores):
            token = pick(scores, decoding, seeds, input_ids.shape[1] - prompt_length)
            return torch.full_like(scores, -torch.inf).scatter(1, token[:, None], 0.0)

    return LogitsProcessorList([DrawByRow()])
