"""The comparison that a study names as its headline, before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from wcse_lib.study.fields import Name, Strict
from wcse_lib.study.stages import Student


class Primary(Strict):
    """The one comparison of students that is the headline; all others are secondary, and corrected among themselves."""

    # the two arms that are compared
    arms: Annotated[list[Name], Field(min_length=2, max_length=2)]
    budget: Name  # at which budget
    base: Name | None = None  # of which student; the mean over all of them when left out

    def check(
        self, arms: Mapping, budgets: Mapping[str, int], students: Mapping[str, Student]
    ) -> None:
        """Raises ValueError where the study cannot make this comparison."""
        if not students:
            raise ValueError("primary: compares students, and this study has none; remove it")
        for arm in self.arms:
            known("primary.arms", arm, "arm", arms)
        if self.arms[0] == self.arms[1]:
            raise ValueError(f"primary.arms: {self.arms[0]!r} stands twice; name two arms")
        known("primary.budget", self.budget, "budget", budgets)
        if self.base is not None:
            known("primary.base", self.base, "student", students)
        candidates = students if self.base is None else {self.base: students[self.base]}
        taught_by = [set(arms if one.arms is None else one.arms) for one in candidates.values()]
        if not any(teachers >= set(self.arms) for teachers in taught_by):
            nobody = "no student learns" if self.base is None else f"no student {self.base} learns"
            raise ValueError(
                f"primary.arms: {nobody} from both {' and '.join(self.arms)}; name both in students.NAME.arms"
            )


def known(key: str, value: str, what: str, names: Mapping) -> None:
    """Raises ValueError, naming the key and what there is, where a name is not there."""
    if value not in names:
        raise ValueError(f"{key}: {value!r} is no {what}; {what}s are {', '.join(names) or 'none'}")
