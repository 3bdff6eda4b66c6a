"""On-policy distillation: the divergence against one worked out by hand, a bare loop's losses, budgets and kills."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tiny import BOS, losses, make_base, make_rows, settings
from tiny import trained as sft_trained

from wcse_lib.budget import OnPolicyCost
from wcse_lib.budget.checkpoints import read_model
from wcse_lib.sample import Decoding
from wcse_lib.store import read_json
from wcse_lib.train.divergence import token_divergences
from wcse_lib.train.on_policy import Asked, OnPolicyTraining, rate_factor, train_on_policy

N_PROMPTS = 12
BUDGET_SAMPLES = 90  # about so many samples


# ---- the divergence


def test_the_divergence_is_the_one_worked_out_by_hand():
    import torch

    # two tokens: the student thinks (3/4, 1/4), the scorer (1/2, 1/2)
    student = torch.tensor([[math.log(3), 0.0]])
    scorer = torch.zeros(1, 2)
    reverse = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    forward = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    # m = (5/8, 3/8)
    of_scorer = 0.5 * math.log(0.5 / 0.625) + 0.5 * math.log(0.5 / 0.375)
    of_student = 0.75 * math.log(0.75 / 0.625) + 0.25 * math.log(0.25 / 0.375)
    expected = {1.0: reverse, 0.0: forward, 0.5: (of_scorer + of_student) / 2}
    for beta, value in expected.items():
        assert token_divergences(student, scorer, beta).tolist() == pytest.approx([value])


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_divergence_is_that_of_trl(beta, monkeypatch):
    import torch

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.gkd import GKDTrainer

    torch.manual_seed(0)
    student, scorer = torch.randn(2, 1, 7, 11)
    expected = GKDTrainer.generalized_jsd_loss(student, scorer, beta=beta, reduction="none")
    ours = token_divergences(student, scorer, beta)
    assert torch.allclose(ours, expected.sum(-1), atol=1e-6)


def test_padding_of_a_larger_matrix_is_no_token():
    import torch

    torch.manual_seed(0)
    student, scorer = torch.randn(2, 3, 5)
    wider = torch.cat([scorer, torch.full((3, 2), 50.0)], -1)
    expected = token_divergences(student, scorer, 1.0)
    assert torch.equal(token_divergences(student, wider, 1.0), expected)


# ---- training


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A student, a scorer that learnt from sums what it did not, and their tokenizer."""
    folder = tmp_path_factory.mktemp("on-policy")
    tokenizer = make_base(folder / "student")
    sft_trained(folder / "student", make_rows(tokenizer), settings(amount=30), folder / "scorer")
    return folder / "student", folder / "scorer" / "model", tokenizer


@pytest.fixture(scope="module")
def training(models):
    """How the tests train; `folder` is to be replaced."""
    student, scorer, tokenizer = models
    prompts = []
    for number in range(N_PROMPTS):
        text = f"{number}+{7 * number}="
        ids = [BOS, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        prompts.append(Asked(f"p{number}", ids, ids))
    size = read_model(student)
    cost = OnPolicyCost(size, 2 * size.n_parameters, None, False, False)
    about = cost.of_sample(6, 6, 8, size.n_parameters).total
    return OnPolicyTraining(
        base_model=student,
        scorer=scorer,
        prompts=prompts,
        cost=cost,
        budget_flops=BUDGET_SAMPLES * about,
        beta=1.0,
        decoding=Decoding(temperature=1.0, top_k=0, max_tokens=12),
        author="small.opd.high",
        seed=3,
        settings=settings(warmup=0.1, learning_rate=3e-3, schedule="constant"),
        folder=student.parent / "nowhere",
    )


@pytest.fixture(scope="module")
def trained(training, models):
    out = replace(training, folder=models[0].parent / "out")
    return train_on_policy(out), out.folder


def test_the_losses_fall(trained):
    found = losses(trained[0])
    assert np.mean(found[-3:]) < 0.5 * np.mean(found[:3]), found


def test_the_first_loss_is_that_of_a_bare_loop(training, trained, models, monkeypatch, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    from wcse_lib.train import on_policy

    seen = []
    divergence = on_policy._divergence

    def noted(model, scorer, written, beta):
        seen.append(written)
        return divergence(model, scorer, written, beta)

    monkeypatch.setattr(on_policy, "_divergence", noted)
    # one step alone
    train_on_policy(replace(training, folder=tmp_path / "out", budget_flops=1.0))
    (written,) = seen
    assert len({one.asked.problem_id for one in written}) == len(written) == 8
    student, scorer = (
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32) for model in models[:2]
    )
    total = 0.0
    for one in written:
        ids = torch.tensor([one.asked.ids + one.ids])
        places = range(len(one.asked.ids) - 1, ids.shape[1] - 1)
        p = torch.softmax(student(input_ids=ids).logits[0].double(), -1)
        q = torch.softmax(scorer(input_ids=ids).logits[0].double(), -1)
        of_tokens = [(p[i] * (p[i].log() - q[i].log())).sum().item() for i in places]
        total += np.mean(of_tokens)
    assert losses(trained[0])[0] == pytest.approx(total / len(written), rel=1e-4)


def test_the_budget_is_met_and_counted(training, trained):
    report = trained[0]
    assert report["planned_flops"] == training.budget_flops
    assert report["spent_flops"] == pytest.approx(training.budget_flops, rel=0.01)
    parts = report["on_policy_flops"]
    training_flops = 6 * report["n_parameters"] * report["n_tokens"]
    assert report["spent_flops"] == pytest.approx(sum(parts.values()) + training_flops)
    assert parts["writing"] == 2 * report["n_parameters"] * report["n_trained_tokens"]
    assert parts["scoring"] == 2 * 2 * report["n_parameters"] * report["n_tokens"]
    assert report["epochs"] == report["n_examples"] / N_PROMPTS
    assert report["best_step"] == report["steps"] == len(report["loss_curve"])


def test_prompts_and_attention_count_where_the_budget_counts_them(training):
    size = training.cost.student
    plain = training.cost.of_sample(10, 20, 30, size.n_parameters)
    prompts = replace(training.cost, charges_prompts=True)
    of_prompts = prompts.of_sample(10, 20, 30, size.n_parameters)
    assert of_prompts.writing == plain.writing * 40 / 30
    assert of_prompts[1:] == plain[1:]
    attention = replace(training.cost, scorer=size, counts_attention=True)
    more = attention.of_sample(10, 20, 30, size.n_parameters)
    per_position = 4 * size.n_layers * size.attention_width
    assert more.scoring - plain.scoring == per_position * 50 * 50 / 2
    assert more.writing - plain.writing == per_position * 30 * (10 + 15)


def test_micro_batches_change_nothing(training, trained, tmp_path):
    small = replace(training.settings, micro_batch_size=2)
    report = train_on_policy(replace(training, folder=tmp_path / "out", settings=small))
    assert losses(report) == pytest.approx(losses(trained[0]), rel=1e-3)


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_to_the_same_report(training, trained, tmp_path):
    def kill(step, n_steps, loss):
        if step == 8:
            raise Killed

    here = replace(training, folder=tmp_path / "out")
    with pytest.raises(Killed):
        train_on_policy(replace(here, progress=kill))
    assert list((here.folder / "checkpoints").iterdir())
    report = train_on_policy(here)
    assert report["notes"] and "resumed" in report["notes"][0]
    other = {"seconds", "tokens_per_second", "peak_memory_bytes", "notes", "micro_batches"}
    expected = trained[0]
    assert losses(report) == pytest.approx(losses(expected), rel=1e-4)
    same = set(expected) - other - {"loss_curve"}
    assert {name: report[name] for name in same} == {name: expected[name] for name in same}
    # called again it trains nothing
    assert train_on_policy(here) == read_json(here.folder / "report.json") == report


def test_another_budget_is_another_training(training, trained, tmp_path):
    shutil.copytree(trained[1], tmp_path / "out")
    more = replace(training, folder=tmp_path / "out", budget_flops=2 * training.budget_flops)
    with pytest.raises(ValueError, match="holds another training"):
        train_on_policy(more)


def test_an_adapter_learns(training, tmp_path):
    lora = replace(training.settings, method="lora", lora_rank=4, learning_rate=2e-2)
    report = train_on_policy(replace(training, folder=tmp_path / "out", settings=lora))
    found = losses(report)
    assert np.mean(found[-3:]) < 0.92 * np.mean(found[:3]), found
    assert (tmp_path / "out" / "model" / "adapter_config.json").exists()
    assert report["n_trained_parameters"] < report["n_parameters"]


def test_the_learning_rate_follows_what_is_spent():
    linear = settings(warmup=0.2, schedule="linear")
    shares = (0.0, 0.1, 0.2, 0.6, 1.0, 1.1)
    assert [rate_factor(linear, share) for share in shares] == pytest.approx([0, 0.5, 1, 0.5, 0, 0])
    cosine = replace(linear, schedule="cosine")
    assert rate_factor(cosine, 0.6) == pytest.approx(0.5)
    assert rate_factor(replace(linear, schedule="constant"), 1.0) == 1
