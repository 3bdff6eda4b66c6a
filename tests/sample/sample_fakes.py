"""Engines and a tokenizer that tests draw with, and the problems that they are asked."""

from pathlib import Path

import pandas as pd

from wcse_lib.sample.drawing import Opened, draw
from wcse_lib.sample.engines import Decoding, Output
from wcse_lib.study import Prompt

PROBLEMS = pd.DataFrame(
    {
        "problem_id": [f"p{i}" for i in range(7)],
        "question": [f"Ann has {i} pens." for i in range(7)],
    }
)


class FakeTokenizer:
    chat_template = None
    bos_token_id = eos_token_id = None

    def __call__(self, text, **_):
        return {"input_ids": [ord(character) for character in text]}


class FakeEngine:
    """Echoes seeds, last request first; dies after `dies_after` samples; fails for some (problem_id, sample_index)."""

    def __init__(self, dies_after: int | None = None, fails: set = frozenset()):
        self.dies_after, self.fails = dies_after, fails
        self.requests, self.decoding = [], None

    def generate(self, requests, decoding):
        self.decoding = decoding
        for request in reversed(requests):
            if len(self.requests) == self.dies_after:
                raise KeyboardInterrupt
            self.requests.append(request)
            if request.key[1:] in self.fails:
                yield Output(request.key, "", -1, -1, "error", "HTTP 500")
            else:
                text, n_prompt = f"text {request.seed}", len(request.prompt_ids)
                yield Output(request.key, text, n_prompt, 3, "stop")

    @property
    def keys(self) -> list[tuple]:
        return [request.key for request in self.requests]

    def close(self):
        pass


def drawn(
    folder: Path,
    engine: FakeEngine | None = None,
    n=3,
    problems=PROBLEMS,
    prompt: Prompt | None = None,
    tokenizer=FakeTokenizer,
    **changes,
) -> pd.DataFrame:
    """Three samples of each of the seven problems; `changes` are of `drawing.draw`."""
    settings = {"decoding": Decoding(), "seed": 0, "model": "m"} | changes
    prompt = prompt or Prompt(style="plain")
    source = Opened(engine or FakeEngine(), "fake", tokenizer and tokenizer())
    return draw(folder, "wc", problems, n, source, prompt=prompt, **settings)
