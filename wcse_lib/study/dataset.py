"""Where problems come from, and which fields of a file hold what."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from wcse_lib.nano import LEVELS
from wcse_lib.study.fields import Count, Name, Strict, Style, Text

ANY_OF = " ␞ "  # between gold answers of which any one is right
MOST_MADE = 1_000_000  # problems of a split that are made here
MADE_HERE = ("nano", "stories", "reasoning_gym")  # datasets whose problems are drawn, not read


class Columns(Strict):
    """Which fields of a file hold what; `a.b` reaches into objects and lists, a list's items become lines."""

    question: str = "question"  # a field, or a text with fields in it: "{text}\n{test_list}"
    answer: str = "answer"  # the gold answer, or a text that it is read out of
    # a list of answers: all are needed (also when left out) | any one of them is right; where this
    # is set, a text that spells a list is one too
    answer_list: Literal["all", "any"] | None = None
    solution: str | None = None  # a reference solution, for the control students
    level: str | None = None  # difficulty, for dataset.levels and tables
    problem_id: str | None = None  # made from the question when left out or empty
    # code tasks: tests to run after the answer's code, a field or a text of fields such as
    # "{test_setup_code}\n{test_list}" (MBPP); `answer` is then not read
    tests: str | None = None
    # code tasks: the function's name, where tests define `check(candidate)` (HumanEval) or are
    # inputs and outputs of a function
    entry_point: str | None = None

    @model_validator(mode="after")
    def _check(self):
        if self.entry_point and not self.tests:
            raise ValueError("entry_point: goes with tests")
        return self


class Held(Strict):
    """A further held-out set that students are tested on, beside the dataset's own (transfer)."""

    # a file (JSONL, JSON, CSV, Parquet), or a split of a hub's dataset
    path: Text
    # that dataset's hub id or folder; the study's own (path, config) when left out
    hub: str | None = None
    config: str | None = None  # with hub
    columns: Columns | None = None  # the dataset's when left out
    answer_style: Style | None = None  # likewise
    n: Count | None = None  # so many of its problems; all when left out


class Meaning(Strict):
    """Decontamination by meaning: a model makes a vector of every problem, and what is too near to a held-out one
    leaves."""

    # a checkpoint folder, a hub id or an endpoint's name of a model that was made for such vectors
    model: Text
    # local: a checkpoint, in this process | openai: any endpoint that has /embeddings (machine file)
    engine: Literal["local", "openai"] = "local"
    # honest training problems that may leave at most: the threshold is the margin (the largest cosine
    # minus the mean of the next three) that no more of them have with as many other training problems
    false_share: Annotated[float, Field(gt=0, lt=1)] = 0.01
    # a margin of your own instead: what is above it leaves; each model needs another one
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None


class Dataset(Strict):
    """The problems: the nano lab's, stories for small pretrained models, rows of files, a datasets folder or hub id,
    or a reasoning-gym task."""

    # where the problems come from
    name: Literal["nano", "stories", "files", "hub", "reasoning_gym"] = "nano"
    path: str | None = None  # hub: a hub id or a folder that `datasets.load_dataset` reads
    config: str | None = None  # hub: the dataset's configuration
    task: str | None = None  # reasoning_gym: the task's name
    options: dict[str, Any] = {}  # reasoning_gym: the task's own parameters
    # files: path of the problems that arms sample on (JSONL, JSON, CSV, Parquet); hub: the split
    train: str | None = None
    held_out: str | None = None  # likewise, of the problems that students are tested on
    transfer: dict[Name, Held] = {}  # further held-out sets
    columns: Columns = Columns()  # which fields hold what
    answer_style: Style = "auto"  # how the gold answer is read out of the answer field
    n_train: Count | None = None  # all when left out
    n_validation: Annotated[int, Field(ge=0)] = 0  # taken from the end of the training problems
    # all when left out; nano, stories and reasoning_gym: needed where there are students
    n_held_out: Annotated[int, Field(ge=0)] | None = None
    shuffle: bool = False  # by the study's seed, before subsets are taken
    # only these, as they stand in columns.level; nano: 1 to 4; stories: 1 and 2
    levels: list[int | float | str] | None = None
    decontaminate: bool = True  # leave out training problems that stand, nearly word for word, among the held-out ones
    ngram: Annotated[int, Field(ge=3)] = 13  # words in a row that make a training problem a copy
    meaning: Meaning | None = None  # leave out paraphrases too, by a model's vectors

    @model_validator(mode="after")
    def _check(self):
        if self.name in ("files", "hub") and not self.train:
            raise ValueError(
                f"train: needed for name: {self.name} ({'a path' if self.name == 'files' else 'a split'})"
            )
        if self.name in MADE_HERE and (self.train or self.held_out or self.transfer):
            raise ValueError(
                "train, held_out, transfer: only for name: files or hub; this dataset draws its own problems"
            )
        if self.name in MADE_HERE and self.n_train is None:
            raise ValueError(f"n_train: a number is needed for name: {self.name}")
        for key in ("n_train", "n_validation", "n_held_out"):
            if self.name in MADE_HERE and (getattr(self, key) or 0) > MOST_MADE:
                raise ValueError(
                    f"{key}: at most {MOST_MADE:,} problems are made by name: {self.name}"
                )
        for key, name in {"path": "hub", "task": "reasoning_gym"}.items():
            if (self.name == name) != bool(getattr(self, key)):
                raise ValueError(f"{key}: needed for name: {name}, and only there")
        if self.meaning:
            self._check_meaning()
        own_levels = LEVELS.get(self.name)
        if self.levels is not None and not own_levels and not self.columns.level:
            raise ValueError("levels: need columns.level, the field that holds a problem's level")
        if reserved := {"train", "validation", "held_out"} & set(self.transfer):
            raise ValueError(f"transfer.{min(reserved)}: this name is taken; choose another")
        for name, held in self.transfer.items():
            if held.columns and bool(held.columns.tests) != bool(self.columns.tests):
                raise ValueError(
                    f"transfer.{name}.columns.tests: needed where dataset.columns.tests is set, and only there"
                )
        if self.levels is not None and not self.levels:
            raise ValueError("levels: at least one level is needed; leave the key out to take all")
        if own_levels and not set(self.levels or []) <= set(own_levels):
            raise ValueError(
                f"levels = {self.levels}: name: {self.name} has levels {own_levels[0]} to {own_levels[-1]}"
            )
        return self

    def check_held_out(self) -> None:
        """Raises ValueError where nobody says on which problems students are tested."""
        if self.name in MADE_HERE:
            if not self.n_held_out:
                raise ValueError(
                    "dataset.n_held_out: students need held-out problems; say how many"
                )
        elif not self.held_out:
            raise ValueError(
                "dataset.held_out: students need held-out problems: name a file of others than train's (of one file,"
                " write some rows into a second one; n_held_out takes the first ones of held_out)"
            )

    def _check_meaning(self) -> None:
        if self.name in MADE_HERE:
            raise ValueError(
                "meaning: only for name: files or hub; this dataset draws its own problems"
            )
        if not self.decontaminate:
            raise ValueError(
                "meaning: goes with decontaminate: true, which compares by words first"
            )
        if not self.held_out and not self.transfer:
            raise ValueError("meaning: needs held_out or transfer, the problems to compare with")
