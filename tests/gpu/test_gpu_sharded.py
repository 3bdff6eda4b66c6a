"""A student on two GPUs of one machine, each with half of the weights, beside the same student on one."""

from pathlib import Path

import pytest
from sizes import BOTH, GIB, card, free_memory, make_model, make_rows, need_gpu
from tiny import losses, settings, trained

from wcse_lib.sample import load_tokenizer


@pytest.mark.parametrize("size", BOTH)
def test_two_gpus_take_the_steps_of_one(size, tmp_path):
    import torch

    need_gpu(size)
    if size.is_gpu and torch.cuda.device_count() < 2:
        pytest.skip(f"{torch.cuda.device_count()} GPU here, and this test is for two")
    base = Path(make_model(tmp_path / "base", size))
    rows = make_rows(load_tokenizer(str(base)), size, 32)
    how = dict(method="full", amount=4, batch_size=8, micro_batch_size=4, dtype=size.dtype)
    how |= dict(learning_rate=1e-4, max_tokens=size.n_tokens, n_checkpoints=1)
    reports = {}
    for n in (1, 2):
        reports[n] = trained(base, rows, settings(**how), tmp_path / f"{n}", n_processes=n)
        free_memory()
        print(
            f"\n{card(size)}: full on {n}: {reports[n]['tokens_per_second']:,.0f} tokens/s, peak of each "
            f"{reports[n]['peak_memory_bytes'] / GIB:.1f} GiB, last loss {losses(reports[n])[-1]:.3f}"
        )
    assert losses(reports[2]) == pytest.approx(losses(reports[1]), abs=size.loss_within)
    if size.is_gpu:
        least = 0.75 * reports[1]["peak_memory_bytes"]
        assert reports[2]["peak_memory_bytes"] < least, "each holds half of weights and moments"
