"""How fast this machine draws samples, tried for some seconds: a dry run says time by it where nobody gave a figure."""

from __future__ import annotations

import contextlib
import time
from typing import NamedTuple

from wcse_lib import budget
from wcse_lib.sample import Decoding, Request, open_engine, prompt_ids
from wcse_lib.store import StudyError
from wcse_lib.study import Machine, Prompt, Study, resolve_model

SECONDS = 3.0
LARGEST = 1e9  # parameters: a larger model takes longer to load than a dry run should
BUNDLED = "nano-se"  # drawn with where the study has no smaller model on this machine
FIRST, NEW_TOKENS = 8, 16  # samples at a time, doubled while time lasts; tokens of each
QUESTION = "Ann has 12 pens. Tom has 7 more pens than Ann. How many pens does Tom have?"


class Speed(NamedTuple):
    """TFLOP/s that drawing reached (2·P per new token, as plans count), with which model, in how many seconds."""

    tflops: float
    model: str
    seconds: float


def try_speed(studies: list[Study], machine: Machine) -> Speed:
    """Draw for a few seconds with the smallest model of the studies that lies here, by the engine `hf`, whatever the
    machine file names: opening vLLM takes longer than that. Nothing is written."""
    model, n_parameters = _smallest(studies)
    alone = machine.model_copy(update={"workers": 1, "address": None, "compile": False})
    decoding, n, best = Decoding(temperature=1.0, max_tokens=NEW_TOKENS), FIRST, 0.0
    with contextlib.closing(open_engine("hf", model, alone)) as engine:
        ids = prompt_ids(engine.tokenizer, QUESTION, Prompt(style="plain"))
        began = time.monotonic()
        while time.monotonic() - began < SECONDS:
            requests = [Request(("", "", i), ids, i) for i in range(n)]
            start = time.monotonic()
            n_tokens = sum(output.n_tokens for output in engine.generate(requests, decoding))
            best = max(best, n_tokens / (time.monotonic() - start))
            n *= 2
        seconds = time.monotonic() - began
    flops = budget.sampling_flops(n_parameters, best)
    return Speed(flops / 1e12, model.rsplit("/", 1)[-1], seconds)


def _smallest(studies: list[Study]) -> tuple[str, int]:
    """The folder of the smallest of the studies' models, and its parameters; a bundled one where none is small."""
    named = {
        arm.model for study in studies for arm in study.plain_arms.values() if arm.engine == "local"
    }
    named |= {student.model for study in studies for student in study.students.values()}
    sizes = {}
    for model in sorted({*named, BUNDLED}):
        with contextlib.suppress(StudyError):
            sizes[model] = budget.read_model(resolve_model(model)).n_parameters
    here = [model for model in sorted(named & set(sizes), key=sizes.get) if sizes[model] <= LARGEST]
    model = here[0] if here else BUNDLED
    return resolve_model(model), sizes[model]
