"""Finetuning on a GPU in bf16: losses of a bare loop, speed, memory that runs out, kills, and Unsloth beside TRL."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sizes import BOTH, GIB, card, free_memory, make_model, make_rows, need_gpu
from tiny import losses, settings, trained

from wcse_lib.sample import load_tokenizer
from wcse_lib.train.attempt import batches
from wcse_lib.train.encode import MASKED
from wcse_lib.train.models import suits_unsloth

N_ROWS, N_STEPS, BATCH = 64, 8, 8


@pytest.fixture(scope="module", params=BOTH)
def size(request):
    need_gpu(request.param)
    return request.param


@pytest.fixture(scope="module")
def base(size, tmp_path_factory):
    return Path(make_model(tmp_path_factory.mktemp("gpu") / "base", size))


@pytest.fixture(scope="module")
def rows(size, base):
    return make_rows(load_tokenizer(str(base)), size, N_ROWS)


def how(size, method: str, **changes):
    fields = dict(method=method, amount=N_STEPS, batch_size=BATCH, dtype=size.dtype)
    fields |= dict(learning_rate=1e-4, max_tokens=size.n_tokens, n_checkpoints=1)
    return settings(**fields | changes)


@pytest.fixture(scope="module", params=["full", "lora"])
def plain(request, size, base, rows, tmp_path_factory):
    """An ordinary training by either method."""
    folder = tmp_path_factory.mktemp("gpu") / request.param
    report = trained(base, rows, how(size, request.param), folder)
    free_memory()
    print(
        f"\n{card(size)}: TRL {request.param}, {report['n_parameters'] / 1e9:.2f} B parameters, {BATCH} rows of"
        f" {size.n_tokens} tokens: {report['tokens_per_second']:,.0f} tokens/s, peak"
        f" {report['peak_memory_bytes'] / GIB:.1f} GiB, loss {losses(report)[0]:.3f} to {losses(report)[-1]:.3f}"
    )
    return request.param, report


def test_losses_are_those_of_a_bare_loop(plain, size, base, rows):
    """torch alone: autocast to bf16 on a GPU, the optimiser and schedule that the settings name, no trainer."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    from wcse_lib.train.models import load_model

    method, report = plain
    one = how(size, method)
    model, _ = load_model(base, one)
    model = model.to(size.device).train()
    trained_ones = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained_ones if p.dim() > 1], "weight_decay": one.weight_decay}
    ]
    groups += [{"params": [p for p in trained_ones if p.dim() < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=one.learning_rate)
    schedule = get_linear_schedule_with_warmup(optimizer, one.warmup, N_STEPS)
    bare = []
    for index in batches([len(row["labels"]) for row in rows], one):
        ids = torch.tensor([rows[i]["input_ids"] for i in index], device=size.device)
        labels = torch.tensor([rows[i]["labels"] for i in index], device=size.device)
        with torch.autocast(size.device, torch.bfloat16, enabled=size.dtype == "bfloat16"):
            logits = model(input_ids=ids).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=MASKED
        )
        bare.append(loss.item())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained_ones, one.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    del model, optimizer, trained_ones, groups
    free_memory()
    largest = np.abs(np.array(bare) - losses(report)).max()
    print(f"\n{card(size)}: {method}, largest difference from a bare loop {largest:.2g} nats")
    assert losses(report) == pytest.approx(bare, abs=size.loss_within)


def test_the_micro_batch_is_halved_when_memory_really_runs_out(size, base, tmp_path):
    """The card is filled until a batch of 64 long rows finds no room; the losses are those of small micro batches."""
    import torch

    if not size.is_gpu:
        pytest.skip("only a GPU's memory is filled: a full CPU takes the machine down")
    long = make_rows(load_tokenizer(str(base)), size, 64)
    one = how(size, "lora", amount=2, batch_size=64)
    small = trained(
        base,
        long,
        how(size, "lora", amount=2, batch_size=64, micro_batch_size=2),
        tmp_path / "small",
    )
    free_memory()
    free, _ = torch.cuda.mem_get_info()
    room = small["peak_memory_bytes"] + 6 * GIB
    taken = torch.empty(max(0, int(free - room)), dtype=torch.uint8, device="cuda")
    report = trained(base, long, one, tmp_path / "large")
    del taken
    free_memory()
    print(f"\n{card(size)}: {'; '.join(report['notes'])}")
    assert len(report["micro_batches"]) > 1, "all 64 rows fitted: leave less room"
    assert losses(report) == pytest.approx(losses(small), abs=size.loss_within)


IN_A_PROCESS = """
import json, sys
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[1])
from wcse_lib.train.models import open_backend
backend, method, base, out, name, slow = sys.argv[2:]
open_backend(backend)
import time
import sizes, tiny
from wcse_lib.sample import load_tokenizer
size = getattr(sizes, name)
rows = sizes.make_rows(load_tokenizer(base), size, 64)
how = tiny.settings(method=method, amount=8, batch_size=8, dtype=size.dtype, learning_rate=1e-4,
    max_tokens=size.n_tokens, n_checkpoints=4, backend=backend,
    lora_targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))
watch = (None, lambda *step: time.sleep(float(slow)))
report = tiny.trained(Path(base), rows, how, Path(out), *watch)
print("REPORT " + json.dumps(report))
"""


def in_a_process(size, backend: str, method: str, base: Path, out: Path, slow=0.0):
    here = Path(__file__).parent
    paths = [str(here), str(here.parent / "train"), str(here.parents[1])]
    name = "FULL" if size.is_gpu else "TINY"
    command = [sys.executable, "-c", IN_A_PROCESS, json.dumps(paths), backend, method]
    command += [str(base), str(out), name, str(slow)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def report_of(process) -> dict:
    out, errors = process.communicate(timeout=1800)
    if process.returncode == -signal.SIGILL:
        pytest.skip("a package uses instructions that this processor does not have")
    lines = [line for line in out.splitlines() if line.startswith("REPORT ")]
    assert lines, f"ended with {process.returncode}: {errors[-3000:]}"
    return json.loads(lines[0].removeprefix("REPORT "))


def test_a_killed_training_goes_on_to_the_same_losses(size, base, tmp_path):
    whole = report_of(in_a_process(size, "trl", "lora", base, tmp_path / "whole"))
    process = in_a_process(size, "trl", "lora", base, tmp_path / "killed", slow=0.3)
    checkpoints = tmp_path / "killed" / "checkpoints"
    # a checkpoint's state is written last
    while process.poll() is None and not list(checkpoints.glob("*/trainer_state.json")):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    again = report_of(in_a_process(size, "trl", "lora", base, tmp_path / "killed"))
    assert any(note.startswith("resumed at step") for note in again["notes"])
    assert losses(again) == pytest.approx(losses(whole), abs=size.loss_within)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_unsloth_learns_what_trl_learns(size, base, tmp_path, method):
    if importlib.util.find_spec("unsloth") is None:
        pytest.skip("unsloth is not installed")
    if not suits_unsloth():
        pytest.skip("no GPU, and a processor on which Unsloth's CPU back end dies")
    reports = {}
    for backend in ("trl", "unsloth"):
        process = in_a_process(size, backend, method, base, tmp_path / f"{backend}-{method}")
        reports[backend] = report_of(process)
    speeds = {name: f"{one['tokens_per_second']:,.0f}" for name, one in reports.items()}
    print(f"\n{card(size)}: {method}, tokens/s {speeds}")
    assert losses(reports["unsloth"])[0] == pytest.approx(
        losses(reports["trl"])[0], abs=size.loss_within
    )
    # kernels of their own: differences add up over the steps
    assert losses(reports["unsloth"]) == pytest.approx(
        losses(reports["trl"]), abs=5 * size.loss_within
    )
