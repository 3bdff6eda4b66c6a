"""The trainer: batches, losses against a bare loop, resuming, memory, learning rates, adapters and both backends."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import BOS, EOS, losses, make_base, make_rows, settings, trained

from wcse_lib.store import StudyError
from wcse_lib.train.attempt import Diverged, batches
from wcse_lib.train.encode import MASKED, check_row, encode
from wcse_lib.train.models import open_backend, suits_unsloth
from wcse_lib.train.trainer import RESUMING


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("finetune") / "base"


@pytest.fixture(scope="module")
def tokenizer(base):
    return make_base(base)


@pytest.fixture(scope="module")
def rows(tokenizer):
    return make_rows(tokenizer)


# ---- batches


def test_missing_packages_are_named_before_training(base, rows, tmp_path):
    with pytest.raises(ValueError, match="no_such_tracker: not installed"):
        trained(base, rows, settings(report_to=("no_such_tracker",)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_epoch_is_every_row_once():
    lengths = np.random.default_rng(1).integers(5, 90, 300)
    for epochs in (1, 3):
        plan = batches(lengths, settings(training="epochs", amount=epochs, batch_size=32))
        assert (np.bincount(np.concatenate(plan), minlength=300) == epochs).all()
        assert {len(b) for b in plan[:-1]} == {32}
        assert 0 < len(plan[-1]) <= 32
    assert len(np.concatenate(batches(lengths, settings(training="epochs", amount=0.5)))) == 150


def test_steps_and_tokens_are_met():
    lengths = np.random.default_rng(1).integers(5, 90, 100)
    plan = batches(lengths, settings(amount=17, batch_size=32))
    seen = np.bincount(np.concatenate(plan), minlength=100)
    assert len(plan) == 17
    assert seen.max() - seen.min() <= 1
    for amount in (1, 5000, 20000):
        order = np.concatenate(
            batches(lengths, settings(training="tokens", amount=amount, batch_size=32))
        )
        assert amount <= lengths[order].sum() < amount + 90


def test_batches_hold_little_padding_and_hang_on_the_seed_alone():
    lengths = np.random.default_rng(1).integers(20, 200, 1000)
    plan = batches(lengths, settings(amount=60, batch_size=32))
    padded = sum(lengths[b].max() * len(b) for b in plan)
    assert padded < 1.15 * lengths[np.concatenate(plan)].sum()
    assert (
        abs(np.corrcoef([lengths[b].mean() for b in plan], range(60))[0, 1]) < 0.3
    )  # no curriculum by length
    same = batches(lengths, settings(amount=60, batch_size=32, micro_batch_size=4))
    assert all((a == b).all() for a, b in zip(plan, same))
    other = batches(lengths, settings(amount=60, batch_size=32, seed=1))
    assert any((a != b).any() for a, b in zip(plan, other))


def test_few_rows_do_not_crowd_one_batch():
    plan = batches(np.arange(5, 45), settings(amount=10, batch_size=32))
    assert max(np.bincount(b).max() for b in plan) <= 2


# ---- training


@pytest.fixture(scope="module")
def plain(base, rows, tmp_path_factory):
    """One ordinary training, which others are compared with."""
    out = tmp_path_factory.mktemp("finetune") / "plain"
    return trained(base, rows, settings(), out, n_dropped_long=3), out


def test_losses_equal_a_bare_torch_loop(plain, base, rows):
    import torch
    from transformers import AutoModelForCausalLM, get_linear_schedule_with_warmup

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).train()
    decay = [p for p in model.parameters() if p.dim() > 1]
    groups = [{"params": decay, "weight_decay": 0.001}]
    groups += [{"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3)
    schedule = get_linear_schedule_with_warmup(optimizer, 5, 12)
    for index, found in zip(
        batches([len(r["labels"]) for r in rows], settings()), losses(plain[0]), strict=True
    ):
        total, n = 0.0, 0
        for row in (
            rows[i] for i in index
        ):  # one by one: no padding, no collator, the shift by hand
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
            labels = torch.tensor(row["labels"][1:])
            total = total + torch.nn.functional.cross_entropy(
                logits, labels, ignore_index=MASKED, reduction="sum"
            )
            n += int((labels != MASKED).sum())
        (total / n).backward()
        assert found == pytest.approx(total.item() / n, abs=2e-5)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def test_the_report(plain, rows):
    report, out = plain
    order = np.concatenate(batches([len(r["labels"]) for r in rows], settings()))
    n_tokens = sum(len(rows[i]["labels"]) for i in order)
    assert report["n_examples"] == 40
    assert report["n_dropped_long"] == 3
    assert report["n_tokens"] == n_tokens
    assert report["n_trained_tokens"] == sum(x != MASKED for i in order for x in rows[i]["labels"])
    assert report["steps"] == 12
    assert report["epochs"] == 12 * 8 / 40
    assert report["best_step"] == 12
    assert report["spent_flops"] == 6 * report["n_parameters"] * n_tokens
    assert 0.1 < report["token_accuracy"] < 1
    assert losses(report)[-1] < losses(report)[0] - 0.5
    assert report["loss_curve"][0][2] == 0.0
    assert report["versions"]["trl"]
    assert report["peak_memory_bytes"] > 1e8
    assert report["validation_curve"] == []
    assert json.loads((out / "report.json").read_text()) == report
    assert {f.name for f in out.iterdir()} == {"model", "report.json", "training.json"}
    files = {f.name for f in (out / "model").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= files
    assert not files & set(RESUMING)


def test_a_finished_training_is_not_repeated_nor_mistaken(plain, base, rows):
    report, out = plain
    assert (
        trained(base, rows, settings(), out, progress=lambda *_: pytest.fail("trained again"))
        == report
    )
    with pytest.raises(ValueError, match="another training"):
        trained(base, rows, settings(learning_rate=1e-3), out)
    with pytest.raises(ValueError, match="another training"):
        trained(base, rows[1:], settings(), out)


def test_the_best_checkpoint_is_kept_and_validation_leaves_no_trace(plain, base, rows, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    seen = {}

    def validate(model, tokenizer, step):
        assert not model.training
        assert not torch.is_grad_enabled()
        torch.rand(step)
        seen[step] = {k: v.clone() for k, v in model.state_dict().items()}
        return {3: 0.25, 6: 0.5, 9: 0.5, 12: 0.0}[step]

    steps = []
    report = trained(
        base,
        rows,
        settings(),
        tmp_path / "out",
        validate,
        lambda step, n, loss: steps.append((step, n)),
    )
    assert report["best_step"] == 6
    assert report["validation_curve"] == [
        [3, 0.25],
        [6, 0.5],
        [9, 0.5],
        [12, 0.0],
    ]
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "out/model").state_dict()
    assert all(torch.equal(kept[k], v) for k, v in seen[6].items())
    assert losses(report) == losses(plain[0])
    assert steps == [(i, 12) for i in range(1, 13)]


def test_a_micro_batch_changes_no_loss(base, rows, tmp_path):
    epoch = dict(training="epochs", amount=1, n_checkpoints=1)  # 21 rows: batches of 8, 8 and 5
    whole, split = (
        trained(base, rows[:21], settings(micro_batch_size=m, **epoch), tmp_path / str(m))
        for m in (8, 2)
    )
    assert losses(split) == pytest.approx(losses(whole), abs=1e-5)
    assert whole["steps"] == 3
    assert whole["epochs"] == 1


def test_packed_rows_do_not_see_each_other(plain, base, rows, tmp_path):
    packed = trained(base, rows, settings(packing=True, micro_batch_size=4), tmp_path / "out")
    assert losses(packed) == pytest.approx(losses(plain[0]), abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler"
)
def test_compiling_changes_no_loss_and_no_training(plain, base, rows, tmp_path):
    from safetensors import safe_open

    compiled = trained(base, rows, settings(compile=True), tmp_path / "out")
    assert losses(compiled) == pytest.approx(losses(plain[0]), abs=1e-4)
    assert compiled["settings"]["compile"]
    assert compiled["settings_sha256"] == plain[0]["settings_sha256"], (
        "it is how the steps are made, not which"
    )
    names = (
        set(safe_open(folder / "model/model.safetensors", "numpy").keys())
        for folder in (tmp_path / "out", plain[1])
    )
    assert len(set(map(frozenset, names))) == 1, "the saved names are a compiled module's"


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler"
)
def test_a_trial_amid_a_training_changes_no_loss(base, rows, tmp_path, monkeypatch):
    from wcse_lib.sample.engines import compiling

    monkeypatch.setattr(compiling, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(compiling, "LEAST_SECONDS", 0.0)
    plain, tried = (
        trained(base, rows, settings(compile=way, amount=30), tmp_path / str(way))
        for way in (False, "auto")
    )
    assert losses(tried) == pytest.approx(losses(plain), abs=1e-4)
    assert plain["how_compiled"] == "not compiled, as the machine file says"
    assert "by a trial" in tried["how_compiled"]
    assert tried["settings_sha256"] == plain["settings_sha256"]


@pytest.mark.parametrize("kind", ["cuda", "DefaultCPUAllocator"])
def test_out_of_memory_halves_the_micro_batch(plain, base, rows, tmp_path, monkeypatch, kind):
    import torch
    from transformers import LlamaModel

    forward, done = LlamaModel.forward, []

    def small(self, input_ids=None, **kwargs):
        if input_ids.shape[0] > 4 and len(done) >= (0 if kind == "cuda" else 7):
            error = torch.OutOfMemoryError if kind == "cuda" else RuntimeError
            raise error(
                "CUDA out of memory"
                if kind == "cuda"
                else f"{kind}: can't allocate memory: you tried"
            )
        done.append(1)
        return forward(self, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(LlamaModel, "forward", small)
    report = trained(base, rows, settings(), tmp_path / "out")
    start = (
        0 if kind == "cuda" else 6
    )  # the eighth step fails: on from the checkpoint after the sixth
    assert report["micro_batches"] == [[0, 8], [start, 4]]
    assert "micro batch now 4" in report["notes"][0]
    assert losses(report) == pytest.approx(losses(plain[0]), abs=1e-5)


def test_other_errors_pass_through(base, rows, tmp_path, monkeypatch):
    from transformers import LlamaModel

    def broken(self, **kwargs):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(LlamaModel, "forward", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        trained(base, rows, settings(), tmp_path / "out")


def test_a_loss_that_is_not_a_number_stops(base, tokenizer, rows, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    model.model.norm.weight.data[0] = torch.nan
    model.save_pretrained(tmp_path / "broken")
    tokenizer.save_pretrained(tmp_path / "broken")
    with pytest.raises(ValueError, match="loss is nan at step 1, learning rate 0.003"):
        trained(tmp_path / "broken", rows, settings(warmup=0), tmp_path / "out")
    assert not (tmp_path / "out/model").exists()
    report = trained(
        base, rows, settings(amount=1), tmp_path / "out"
    )  # nothing worth keeping stood in the way
    assert report["steps"] == 1


def test_learning_rates_are_chosen_by_validation_alone(plain, base, rows, tmp_path):
    """Resumed after a kill in the second; the third diverges; on disk there are never two losers' weights."""
    good, out, seen = {1e-3: 0.2, 3e-3: 0.9, 1e30: 1.0, 4e-3: 0.9}, tmp_path / "out", []
    wanted = settings(learning_rate=tuple(good), n_checkpoints=1)

    def validate(model, tokenizer, step):
        seen.append(sorted(f.parent.name for f in out.glob("rates/*/model")))
        if len(seen) == 2 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            raise KeyboardInterrupt
        return list(good.values())[len(list(out.glob("rates/*/report.json")))]

    with pytest.raises(KeyboardInterrupt):
        trained(base, rows, wanted, out, validate)
    report = trained(base, rows, wanted, out, validate)
    assert [(one["learning_rate"], one["accuracy"]) for one in report["rates"]] == [
        (1e-3, 0.2),
        (3e-3, 0.9),
        (1e30, None),
        (4e-3, 1.0),
    ]
    assert re.search(r"is (nan|inf) at step \d+, learning rate", report["rates"][2]["note"])
    assert report["learning_rate"] == 4e-3
    assert max(map(len, seen)) == 1
    assert {f.name for f in out.iterdir()} == {
        "model",
        "report.json",
        "training.json",
    }
    assert trained(base, rows, wanted, out, validate) == report
    with pytest.raises(ValueError, match="validation problems"):
        trained(base, rows, wanted, tmp_path / "blind")
    with pytest.raises(ValueError, match="another training"):
        trained(base, rows, settings(learning_rate=(1e-3,)), out, validate)
    with pytest.raises(Diverged, match="learning rate .*e.29; .* learning rate"):
        trained(base, rows, settings(learning_rate=(1e30, 1e29)), tmp_path / "wild", validate)


def test_a_row_above_the_limit_is_refused(base, rows, tmp_path):
    with pytest.raises(ValueError, match="limit 10"):
        trained(base, rows, settings(max_tokens=10), tmp_path / "out")


# ---- resuming


def stop_at(stop: int):
    def progress(step, n_steps, loss):
        if step == stop:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize(
    "damage, step",
    [("none", 6), ("truncated weights", 3), ("flipped optimizer", 3), ("no state", 3)],
)
def test_resuming_gives_the_same_losses(plain, base, rows, tmp_path, damage, step):
    out = tmp_path / "out"
    accuracy = {3: 0.1, 6: 0.9, 9: 0.2, 12: 0.3}
    with pytest.raises(KeyboardInterrupt):
        trained(base, rows, settings(), out, lambda m, t, s: accuracy[s], stop_at(8))
    last = out / "checkpoints/checkpoint-6"
    if damage == "truncated weights":
        os.truncate(last / "model.safetensors", 5000)
    elif damage == "flipped optimizer":
        data = bytearray((last / "optimizer.pt").read_bytes())
        data[len(data) // 2] ^= 255
        (last / "optimizer.pt").write_bytes(data)
    elif damage == "no state":
        (last / "trainer_state.json").unlink()
    report = trained(base, rows, settings(), out, lambda m, t, s: accuracy[s])
    assert report["notes"] == [f"resumed at step {step}"]
    assert report["best_step"] == 6
    assert losses(report) == pytest.approx(losses(plain[0]), abs=1e-6)
    assert not (out / "checkpoints").exists()


def test_a_kill_while_finishing_costs_no_step(base, rows, tmp_path, monkeypatch):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "copytree", killed)
        trained(base, rows, settings(amount=4), tmp_path / "out")
    assert not (tmp_path / "out/model").exists()
    report = trained(
        base,
        rows,
        settings(amount=4),
        tmp_path / "out",
        progress=lambda *_: pytest.fail("a step again"),
    )
    assert report["notes"] == ["resumed at step 4"]
    assert len(losses(report)) == 4
    assert (tmp_path / "out/model").exists()


def test_an_adapter_resumes_with_its_dropout(base, rows, tmp_path):
    lora = settings(method="lora", lora_dropout=0.2, learning_rate=1e-2)
    with pytest.raises(KeyboardInterrupt):
        trained(base, rows, lora, tmp_path / "out", progress=stop_at(8))
    report, whole = (trained(base, rows, lora, tmp_path / name) for name in ("out", "whole"))
    assert report["notes"] == ["resumed at step 6"]
    assert losses(report) == pytest.approx(losses(whole), abs=1e-6)


def test_checkpoints_on_disk_are_bounded(base, rows, tmp_path):
    out, most = tmp_path / "out", []
    report = trained(
        base,
        rows,
        settings(n_checkpoints=12),
        out,
        lambda m, t, s: float(s == 2),
        lambda *_: most.append({f.name for f in out.glob("checkpoints/*")}),
    )
    assert report["best_step"] == 2
    assert max(map(len, most)) == 2
    assert all("checkpoint-2" in m for m in most[3:])


@pytest.mark.slow
def test_resuming_after_sigkill(plain, base, rows, tmp_path):
    script = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1]); import tiny; from pathlib import Path\n"
        "base, out = map(Path, sys.argv[2:]); rows = tiny.make_rows(tiny.make_base(base))\n"
        "kill = lambda step, n, loss: step == 8 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "tiny.trained(base, rows, tiny.settings(), out, None, kill)"
    )
    here, own, out = Path(__file__).parent, tmp_path / "base", tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", script, here, own, out])
    assert done.returncode == -signal.SIGKILL
    assert not (out / "model").exists()
    report = trained(own, rows, settings(), out)
    assert report["notes"] == ["resumed at step 6"]
    assert losses(report) == pytest.approx(losses(plain[0]), abs=1e-6)


# ---- adapters and number formats


def test_lora_leaves_an_adapter_and_a_merged_model(base, rows, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    out, ids = tmp_path / "out", torch.tensor([rows[0]["input_ids"]])
    changes = dict(
        method="lora", learning_rate=1e-2, lora_rank=4, lora_alpha=8, lora_dropout=0.1, merge=True
    )
    report = trained(base, rows, settings(**changes), out)
    files = {f.name for f in (out / "model").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= files
    assert losses(report)[-1] < losses(report)[0]
    frozen = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    assert report["n_parameters"] == frozen.num_parameters()
    before = frozen(ids).logits
    adapted = PeftModel.from_pretrained(frozen, out / "model")(ids).logits
    merged = AutoModelForCausalLM.from_pretrained(out / "merged")
    assert merged.dtype == torch.bfloat16
    assert (adapted - before).abs().max() > 0.1
    assert (merged.float()(ids).logits - adapted).abs().max() < 0.1 * (adapted - before).abs().max()
    second = trained(
        base, rows, settings(**changes), tmp_path / "again", lambda *_: 0.0
    )  # dropout's stream is untouched
    assert losses(second) == losses(report)


def test_bfloat16_trains_float32_weights(plain, base, rows, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    report = trained(
        base, rows, settings(dtype="bfloat16", gradient_checkpointing=True), tmp_path / "out"
    )
    assert losses(report) == pytest.approx(losses(plain[0]), abs=0.02)
    assert losses(report) != losses(plain[0])
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out/model").dtype == torch.float32


def test_a_student_stops_at_the_end_of_a_turn(base, tokenizer, tmp_path):
    """A chat tokenizer whose turns end otherwise than texts do: trained, saved, merged and stopped at that token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from wcse_lib.sample import Decoding, Request, open_engine
    from wcse_lib.study import Machine

    chat = AutoTokenizer.from_pretrained(base)
    end = chat.convert_tokens_to_ids("~")  # any token will do
    rows = [encode(chat, [BOS, 20 + i % 5], "ab", 64, end) for i in range(16)]
    check_row(rows[0], 0, chat, end)
    with pytest.raises(ValueError, match="end token 2 is not trained"):
        check_row(rows[0], 0, chat, EOS)
    for method in ("lora", "full"):
        changes = dict(method=method, amount=30, learning_rate=1e-2, n_checkpoints=1, merge=True)
        trained(base, rows, settings(**changes), tmp_path / method, end_id=end)
        saved = tmp_path / method / ("model" if method == "full" else "merged")
        assert AutoTokenizer.from_pretrained(tmp_path / method / "model").eos_token_id == end
        ends = AutoModelForCausalLM.from_pretrained(saved).generation_config.eos_token_id
        assert {end, EOS} <= set(ends)
    (out,) = open_engine("hf", str(saved), Machine(dtype="float32")).generate(
        [Request(("a", "p", 0), [BOS, 21], 0)], Decoding(0.0, max_tokens=9)
    )
    assert (out.text, out.n_tokens, out.finish_reason) == ("ab", 3, "stop")


# ---- both backends, each in a process of its own

BOTH = """
import json, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parents[1])]
from wcse_lib.train.models import open_backend
open_backend(sys.argv[2])
import tiny, torch
base, out = Path(sys.argv[3]), Path(sys.argv[4])
rows = tiny.make_rows(tiny.make_base(base))
prompt = torch.tensor([[tiny.BOS, 20, 21]])
validate = lambda model, tokenizer, step: model.generate(input_ids=prompt, max_new_tokens=2).shape[1] / 9
reports = {}
for method in ("full", "lora"):
    changes = dict(method=method, backend=sys.argv[2], merge=True, micro_batch_size=4)
    reports[method] = tiny.trained(base, rows, tiny.settings(**changes), out / method, validate)
Path(sys.argv[5]).write_text(json.dumps(reports))
"""


def test_unsloth_is_refused_where_it_would_end_the_process(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with pytest.raises(StudyError, match="training.backend: unsloth: .* AVX-512"):
        open_backend("unsloth")


@pytest.mark.engines
def test_unsloth_gives_the_losses_of_trl(tmp_path):
    if importlib.util.find_spec("unsloth") is None:
        pytest.skip("unsloth is not installed; `make test-engines` installs it")
    if not suits_unsloth():
        pytest.skip("no GPU, and a processor on which Unsloth's CPU back end dies")
    found = {}
    for backend in ("trl", "unsloth"):
        file = tmp_path / f"{backend}.json"
        arguments = [
            Path(__file__).parent,
            backend,
            tmp_path / f"base-{backend}",
            tmp_path / backend,
            file,
        ]
        subprocess.run([sys.executable, "-c", BOTH, *map(str, arguments)], check=True, cwd=tmp_path)
        found[backend] = json.loads(file.read_text())
    for method in ("full", "lora"):
        trl, unsloth = found["trl"][method], found["unsloth"][method]
        assert losses(unsloth) == pytest.approx(losses(trl), abs=1e-3)
        assert len(losses(trl)) == 12
        assert losses(unsloth)[-1] < losses(unsloth)[0]
        assert unsloth["versions"]["unsloth"]
        assert trl["versions"]["unsloth"] is None
        assert unsloth["n_tokens"] == trl["n_tokens"]
        names = [
            {f.name for f in (tmp_path / b / method / "model").iterdir()}
            for b in ("trl", "unsloth")
        ]
        assert names[0] == names[1]
    assert (tmp_path / "unsloth/lora/merged/model.safetensors").exists()
    shutil.rmtree(tmp_path)
