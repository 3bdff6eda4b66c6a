"""The rule likelihood: how surprising first samples are, what it decides by them, and the same after a kill."""

import numpy as np
import pandas as pd
import pytest
import torch
from mixed_study import drawn, fill, study_of
from transformers import AutoModelForCausalLM

from wcse_lib import plan
from wcse_lib.budget import decide
from wcse_lib.sample import uneven
from wcse_lib.sample.engines.surprisal import mean_surprisals
from wcse_lib.store import StudyError, read_parquet, read_samples
from wcse_lib.study import Adaptive, Machine

CPU = Machine(device="cpu")
BY_LIKELIHOOD = {"adaptive": {"of": "wc", "rule": "likelihood", "first": 1}}


def test_surprisal_is_that_of_one_text_at_a_time(tiny_model):
    rng = np.random.default_rng(0)
    texts = []
    for n_prompt, n_text in [(1, 3), (7, 1), (2, 30), (5, 0), (3, 12)]:
        ids = rng.integers(5, 60, n_prompt + n_text).tolist()
        texts.append((ids[:n_prompt], ids[n_prompt:]))
    found = mean_surprisals(str(tiny_model), CPU, texts)
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    for value, (prompt, text) in zip(found, texts):
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *text]])).logits[0].double()
        log_p = torch.log_softmax(logits, -1)
        by_hand = [-log_p[len(prompt) - 1 + i, token].item() for i, token in enumerate(text)]
        assert value == pytest.approx(np.mean(by_hand) if text else 0.0, abs=1e-5)


def test_samples_go_where_one_more_adds_most():
    chances = np.array([0.9, 0.5, 0.2, 0.02, 1e-9])
    spec = Adaptive(of="wc", rule="likelihood", first=1)
    out = decide(spec, {"low": 9, "high": 30}, 5, lambda n: 0 * n, lambda: -0.2 * np.log(chances))
    for total, counts in ((9, out["low"]), (30, out["high"])):
        best = np.ones(5, int)
        while best.sum() < total:
            gains = (1 - (1 - chances) ** (best + 1)) - (1 - (1 - chances) ** best)
            best[gains.argmax()] += 1
        assert counts.tolist() == best.tolist()


@pytest.fixture
def run(tmp_path):
    study = study_of(
        "likely",
        arms={"se": {"model": "nano-se"}, "wc": {"model": "nano-wc"}} | {"adaptive": BY_LIKELIHOOD},
    )
    run = plan.make_plan(study, tmp_path)
    fill(run, ["se", "wc"])
    return run


def test_an_arm_reads_its_first_samples_once_and_decides_the_same_after_a_kill(run):
    n_read = []

    def read(rows: pd.DataFrame) -> np.ndarray:
        n_read.append(len(rows))
        assert set(rows["sample_index"]) == {0}
        return np.linspace(0.0, 0.6, len(rows))

    def dying(indices):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        uneven.draw_adaptive(run, "adaptive", dying, read=read)
    rows = uneven.draw_adaptive(
        run, "adaptive", lambda n: drawn(run, "wc", n, "adaptive"), read=read
    )
    assert n_read == [40], "read again after a kill"
    table = read_parquet(run.path("02", "adaptive", "allocation.parquet"))
    for budget, n in run.arm("wc").samples.items():
        assert table[table["budget"] == budget]["n"].sum() == 40 * n
    assert len(rows) == 40 * run.arm("wc").samples["high"]
    assert set(read_samples(run.path("02", "adaptive"))["author"]) == {"adaptive"}


def test_an_endpoint_does_not_say_how_likely_tokens_are():
    arms = {
        "se": {"model": "nano-se"},
        "wc": {"model": "m", "engine": "openai", "n_parameters": 1e6, "tokens_per_sample": 9},
        "adaptive": BY_LIKELIHOOD,
    }
    with pytest.raises(StudyError, match="adaptive.adaptive.rule: likelihood needs a local model"):
        study_of("likely", arms=arms)
