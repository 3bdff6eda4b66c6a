"""The model card of a nano model: how it was trained, and what it does with study problems that it never saw."""

from __future__ import annotations

import random
from pathlib import Path

from wcse_lib.nano import check, make_problems
from wcse_lib.sample import Decoding, HFEngine, Request, open_engine, prompt_ids
from wcse_lib.store import read_json, write_text
from wcse_lib.study import Machine, Prompt

N_PROBLEMS = 300
DECODINGS = {  # title: samples per problem, decoding
    "greedy": (1, Decoding(temperature=0.0, max_tokens=80)),
    "sampled at T = 0.7, top-k 3": (4, Decoding(temperature=0.7, top_k=3, max_tokens=80)),
}
CARD = """---
license: apache-2.0
library_name: transformers
---
# {name}

A {n_parameters:,}-parameter Llama ({n_parameters_non_embedding:,} without embeddings), trained from scratch on
seeded arithmetic word problems for the nano lab of this kit. It is good for nothing else.

Trained by `python -m tools.nano_models.pretrain {name}`: {n_training_tokens:,} tokens, {steps:,} steps of
{documents_a_step} documents, seed {seed}, last solution loss {loss}. First textbooks, then
(last {web_share:.0%} of these steps) a web of careful, sloppy and bare answers{polish};
shares and loss curve are in `training.json`.

On {n_problems} study problems of levels 1 to 3, which pretraining never saw:

| decoding | samples | correct | false positives among correct |
| --- | --- | --- | --- |
{rows}
"""


def write_card(folder: Path) -> None:
    """Measure a finished model on fresh study problems and write its model card, `README.md`."""
    facts = read_json(folder / "training.json")
    problems = {}
    for problem in make_problems(N_PROBLEMS, "card", (1, 2, 3)):
        problems[problem["problem_id"]] = problem
    engine = open_engine("hf", str(folder), Machine(device="cpu"))
    rows = []
    for title, (n_samples, decoding) in DECODINGS.items():
        requests = _requests(engine, facts, problems, n_samples)
        outputs = list(engine.generate(requests, decoding))
        rows.append(_row(title, outputs, problems))
    loss = f"{facts['final_loss']:.4f}" if facts["final_loss"] else "not logged"
    polish = ""
    if facts["polish_steps"]:
        polish = f", and for the last {facts['polish_steps']:,} steps mostly worked solutions, good and bad"
    text = CARD.format(
        **facts,
        loss=loss,
        web_share=facts["corpus"]["web_share"],
        polish=polish,
        n_problems=N_PROBLEMS,
        rows="\n".join(rows),
    )
    write_text(folder / "README.md", text)


def _requests(engine: HFEngine, facts: dict, problems: dict[str, dict], n: int) -> list[Request]:
    requests = []
    for problem_id, problem in problems.items():
        ids = prompt_ids(engine.tokenizer, problem["question"], Prompt())
        for i in range(n):
            rng = random.Random(f"{facts['seed']}:{facts['name']}:{problem_id}:{i}")
            requests.append(Request((facts["name"], problem_id, i), ids, rng.getrandbits(63)))
    return requests


def _row(title: str, outputs: list, problems: dict[str, dict]) -> str:
    """A row of the card's table: shares of the outputs that are correct, and of these that are unsound."""
    n_right = n_unsound = 0
    for output in outputs:
        problem = problems[output.key[1]]
        if output.text.endswith(f"#### {problem['answer']}"):
            n_right += 1
            if not check(problem["question"], output.text).sound:
                n_unsound += 1
    false_positives = n_unsound / max(1, n_right)
    return f"| {title} | {len(outputs)} | {n_right / len(outputs):.3f} | {false_positives:.3f} |"
