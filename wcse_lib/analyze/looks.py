"""How often the answer of a study was looked at: seeds added until something shows find winners among equals.

06 keeps a record of every look in `06_analyze/looks.json`. The plan allows `training.looks` of them, for all of which p
values are corrected (Bonferroni: p times looks). In a later look only that counts as shown which an allowed look showed
too, so that all looks together err as often as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

import pandas as pd

from wcse_lib.analyze.significance import COMPARED, is_significant
from wcse_lib.store import read_json, write_json
from wcse_lib.study import Primary, Run, fingerprint

LOOKED_AT = (
    "differences",
    "gains",
    "ablations",
    "split",
    "transfer",
)  # tables that more seeds change
# Keys of a study that do not change what its headline asks, and those that say how many seeds and problems answer it.
NOT_ASKED = ("study", "title", "power", "primary", "recipes", "controls")
SIZES = {"training": ("seeds", "looks"), "dataset": ("n_held_out", "transfer")}


@dataclass(frozen=True)
class Looks:
    """This look at a study's question, and those before it, the oldest first.

    `this`, and each one of `before`, has the question's fingerprint, the training seeds, the held-out problems'
    fingerprint, what the plan allowed and named as primary then, and (before) the rows that were shown.
    """

    allowed: int  # as the plan said at the first look
    this: dict
    before: list[dict]
    primary: Primary | None  # where it was named before the first look

    @property
    def is_late(self) -> bool:
        """Whether the plan allows no look any more."""
        return len(self.before) >= self.allowed

    def spend(self, tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        """The tables as a late look may show them: `p_holm` is 1 of all that no allowed look has shown."""
        if not self.is_late:
            return tables
        already = set()
        for look in self.before[: self.allowed]:
            already.update(look["shown"])
        late = {}
        for name in set(LOOKED_AT) & set(tables):
            table = tables[name].copy()
            is_new = ~_identities(name, table).isin(already)
            table.loc[is_new & table["p"].notna(), "p_holm"] = 1.0
            late[name] = table
        return tables | late

    def sentences(self) -> list[str]:
        """What a reader must know of earlier looks; nothing of the only one."""
        found = []
        if self.is_late:
            found.append(
                f"This study was looked at before, with {_sizes(self.before[-1])}, now with {_sizes(self.this)}; its"
                f" plan allowed {_times(self.allowed)} when it was first looked at (training.looks). Whoever adds seeds"
                " until something shows finds winners among equals: only what an allowed look had shown counts as"
                " shown, and every other p (Holm) is 1."
            )
        elif self.allowed > 1:
            found.append(
                f"This is look {len(self.before) + 1} of the {self.allowed} that the plan allows (training.looks):"
                f" before Holm's correction every p is multiplied by {self.allowed}."
            )
        if self.this["primary"] is not None and self.primary is None:
            found.append(
                "The plan's primary comparison was named, or changed, after the study had been looked at: it counts as"
                " one of all comparisons."
            )
        return found


def read_looks(run: Run) -> Looks:
    """This look and those before it at the same question. The same seeds and problems are one look, however often."""
    study = run.study
    asked = study.model_dump(mode="json", exclude=set(NOT_ASKED))
    for part, sizes in SIZES.items():
        for key in sizes:
            asked[part].pop(key)
    this = {
        "question": fingerprint(asked),
        "seeds": sorted(study.training.seeds),
        "held_out": run.plan.problems_sha256.get("held_out", ""),
        "n_held_out": run.plan.n_problems["held_out"],
        "allowed": study.training.looks,
        "primary": study.primary and study.primary.model_dump(mode="json"),
    }
    looks = [look for look in _recorded(run) if look["question"] == this["question"]]
    # What the plan promised counts as it stood at the first look.
    first = looks[0] if looks else this
    before = list(takewhile(lambda look: not _is_same(look, this), looks))
    is_kept = first["primary"] == this["primary"]
    return Looks(first["allowed"], this, before, study.primary if is_kept else None)


def record_look(run: Run, looks: Looks, tables: dict[str, pd.DataFrame]) -> None:
    """Add this look, and what it shows, to the record; one that stands there keeps the primary comparison of then."""
    shown = []
    for name in LOOKED_AT:
        if name in tables:
            table = tables[name]
            shown += _identities(name, table[is_significant(table)]).tolist()
    recorded = _recorded(run)
    own = [look for look in recorded if _is_same(look, looks.this)]
    if own:
        own[0]["shown"] = shown
    else:
        recorded.append(looks.this | {"shown": shown})
    write_json(run.path("06", "looks.json"), recorded)


def _recorded(run: Run) -> list[dict]:
    path = run.path("06", "looks.json")
    return read_json(path, list) if path.exists() else []


def _is_same(look: dict, other: dict) -> bool:
    return all(look[key] == other[key] for key in ("question", "seeds", "held_out"))


def _times(n: int) -> str:
    return "one look" if n == 1 else f"{n} looks"


def _sizes(look: dict) -> str:
    n_seeds = len(look["seeds"])
    seeds = "one training seed" if n_seeds == 1 else f"{n_seeds} training seeds"
    return f"{seeds} and {look['n_held_out']} held-out problems"


def _identities(name: str, table: pd.DataFrame) -> pd.Series:
    """A text for each row that says what it compares and which side is ahead."""
    texts = pd.Series(name, table.index, dtype=object)
    for column in ["base", *COMPARED]:
        if column in table:
            texts = texts + "|" + table[column].fillna("").astype(str)
    return texts + (table["value"] > 0).map({True: "|+", False: "|-"})
