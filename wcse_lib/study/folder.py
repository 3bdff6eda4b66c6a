"""An opened study folder: its plan, and where each stage's files lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from wcse_lib.store import (
    StudyError,
    count_rows,
    is_complete,
    missing_files,
    read_json,
    read_parquet,
    sha256,
)
from wcse_lib.study.draws import Draws
from wcse_lib.study.paths import resolve, verifier_path
from wcse_lib.study.plan import MAIN, PlannedArm, PlannedStudent, read_plan
from wcse_lib.study.stages import Curation, Prompt, Verification

STAGES = ("01_plan", "02_generate", "03_verify", "04_finetune", "05_evaluate", "06_analyze")


class Run:
    """An opened study folder: its plan, and where each stage's files lie."""

    def __init__(self, folder: str | Path):
        self.folder = resolve(folder)
        self.plan = read_plan(self.folder / "01_plan" / "plan.json")
        self.study = self.plan.study

    @property
    def plan_id(self) -> str:
        return self.plan.plan_id

    @property
    def verification(self) -> Verification:
        """How samples are judged. Raises StudyError where the program that judges is not the one that 01 read."""
        how = self.study.verification
        if how.path is None:
            return how
        path = verifier_path(how.path)
        if not path.is_file() or sha256(path) != self.plan.files.get(how.path):
            raise StudyError(
                f"{path} (verification.path): not the program that 01 planned with. Run 01 again, and all samples are "
                f"verified by it as it is now; or put the former one back: {self.verifier_copy}"
            )
        return how

    @property
    def verifier_copy(self) -> Path:
        """Where 01 keeps the program that judges samples as it was then."""
        mark = self.plan.files[self.study.verification.path]
        return self.path("01", f"verifier-{mark[:8]}.py")

    def path(self, stage: str, *names: str) -> Path:
        """A stage's folder (by number or full name), or a file or folder in it."""
        full = next(s for s in STAGES if s.startswith(stage))
        return self.folder.joinpath(full, *names)

    def inputs(self, stage: str, name: str = "") -> list[Path]:
        """The folders, each with a manifest, that a stage (of an arm or a student, where it has one) reads."""
        verified = [self.path("03", arm) for arm in self.plan.arms]
        tested = [self.path("05")] if self.plan.students else verified
        if stage.startswith("02"):
            return [self.path("02", part) for part in self.parts(name)]
        learnt_from = list(verified)
        if name and stage.startswith("04") and self.student(name).source == "on_policy":
            learnt_from.append(self.path("04", self.plan.counterpart(name)))
        return {
            "03": [self.path("02", name)],
            "04": learnt_from,
            "05": [self.path("04", name)],
            "06": tested,
        }.get(stage[:2], [])

    def complete(self, stage: str, name: str = "") -> bool:
        """Whether a stage (of an arm or a student) was finished under this plan, after what it reads, and holds
        all its samples."""
        folder = self.path(stage, name)
        if missing_files(folder) or not is_complete(folder, self.plan_id, self.inputs(stage, name)):
            return False
        return not stage.startswith("02") or count_rows(folder) >= read_json(
            folder / "manifest.json"
        ).get("n_samples", 0)

    def parts(self, arm: str) -> list[str]:
        return self.plan.parts(arm)

    def shares(self, arm: str, budget: str) -> dict[str, float]:
        return self.plan.shares(arm, budget)

    def sets(self) -> pd.Series:
        """Held-out problem -> its set (transfer sets have names of their own)."""
        problems = read_parquet(self.path("01", "held_out.parquet"))
        return (
            pd.Series(problems.get("set", "held_out"), problems.index)
            .set_axis(problems["problem_id"])
            .astype(object)
        )

    def draws(self, arm: str) -> Draws:
        return self.plan.draws(arm)

    def rows_of_budget(
        self, rows: pd.DataFrame, arm: str, budget: str, draw: int | None = None
    ) -> pd.DataFrame:
        """Those of an arm's rows (KEY columns and more) that belong to a budget, in one draw or in all of them.

        A problem's first n samples in a draw: the same n for all problems, or where the arm spends unevenly (mix,
        adaptive) what `02_generate/<arm>/allocation.parquet` (budget, draw, problem_id, n) gives each.
        """
        n, path = self.arm(arm).samples[budget], self.path("02", arm, "allocation.parquet")
        draws = self.draws(arm)
        own_draw = draws.of(rows["sample_index"])
        if path.exists():
            table = read_parquet(path)
            table = table[table["budget"] == budget].set_index(["draw", "problem_id"])["n"]
            at = pd.MultiIndex.from_arrays([own_draw, rows["problem_id"]])
            n = table.reindex(at, fill_value=0).to_numpy()
        is_chosen = draws.place(rows["sample_index"]) < n
        if draw is not None:
            is_chosen &= own_draw == draw
        return rows[is_chosen]

    def prompt_of(self, student: str) -> Prompt:
        """What a student is shown; an untouched base is shown what arms are."""
        is_base = self.student(student).source == "base"
        return self.study.prompt if is_base else self.study.prompt_of_students

    def draw_of(self, student: str) -> int:
        """The draw that a trained student learns from."""
        return self.study.draw_of(self.student(student).seed)

    def recipe(self, name: str) -> Curation:
        """How examples are chosen by the recipe of this name, which may be the main one."""
        return self.study.curation if name == MAIN else self.study.recipes[name]

    def arm(self, name: str) -> PlannedArm:
        return self._named("arms", name)

    def student(self, name: str) -> PlannedStudent:
        return self._named("students", name)

    def _named(self, kind: str, name: str) -> Any:
        known = getattr(self.plan, kind)
        if name not in known:
            names = ", ".join(known)
            raise StudyError(f"{self.folder}: {name!r} is not among the plan's {kind}: {names}")
        return known[name]
