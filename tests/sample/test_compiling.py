"""Compiling decides itself: by the work ahead and by a trial, told in a sentence."""

import pytest

from wcse_lib.sample.engines import compiling
from wcse_lib.sample.engines.compiling import LEAST_SECONDS, LOOK_SECONDS, TOO_SHORT, Compiling


@pytest.fixture(autouse=True)
def with_a_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "true")  # a program that is everywhere


class Work:
    """Steps of made-up lengths: `plain` or `compiled` seconds a unit of size, `first` seconds for the compiling."""

    def __init__(self, plain: float, compiled: float, first: float = 40.0):
        self.now, self.seconds = 0.0, {False: plain, True: compiled}
        self.first, self.kinds = first, []

    def run(self, choice: Compiling, n_steps: int) -> Compiling:
        choice.expect(n_steps)
        for place in range(n_steps):
            size = 1 + place % 3
            choice.begin(size)
            if choice.is_on and True not in self.kinds:
                self.now += self.first
            self.kinds.append(choice.is_on)
            self.now += size * self.seconds[choice.is_on]
            choice.n_done += 1
        return choice


def tried(work: Work, n_steps: int) -> Compiling:
    return work.run(Compiling("auto", lambda: work.now), n_steps)


@pytest.mark.parametrize("asked", [True, False])
def test_what_is_asked_is_done(asked):
    work = Work(1.0, 0.1)
    choice = work.run(Compiling(asked, lambda: work.now), 2000)
    assert set(work.kinds) == {asked}
    assert choice.note == f"{'' if asked else 'not '}compiled, as the machine file says"


@pytest.mark.parametrize(
    "n_steps, is_tried",
    [(int(LEAST_SECONDS / 2) - 5, False), (int((LOOK_SECONDS + LEAST_SECONDS) / 2) + 20, True)],
)
def test_it_is_tried_only_where_enough_work_is_ahead(n_steps, is_tried):
    work = Work(1.0, 0.5)  # two seconds a step on average
    choice = tried(work, n_steps)
    assert any(work.kinds) == is_tried
    assert (choice.note == TOO_SHORT) != is_tried


def test_what_is_faster_is_kept_and_told():
    work = Work(1.0, 0.8)
    choice = tried(work, 2000)
    assert choice.is_on and all(work.kinds[-1000:])
    assert choice.note.startswith("compiled, by a trial: 1.25 times as fast; ")
    assert not any(work.kinds[: int(LOOK_SECONDS / 2)])


def test_what_is_slower_is_given_up_and_told():
    work = Work(1.0, 1.25)
    choice = tried(work, 2000)
    assert not choice.is_on and not any(work.kinds[100:])
    assert choice.note.startswith("not compiled, by a trial: 0.80 times as fast; ")
    n_compiled = sum(work.kinds)
    assert n_compiled <= compiling.WARM_STEPS + compiling.TIMED_STEPS + 1


def test_other_work_is_looked_at_anew_until_there_was_a_trial():
    work = Work(1.0, 0.5)
    choice = tried(work, 30)
    assert not any(work.kinds)
    work.run(choice, 500)
    assert any(work.kinds) and choice.is_on
    note = choice.note
    work.run(choice, 3)
    assert choice.note == note


def test_without_a_compiler_nothing_is_tried(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    work = Work(1.0, 0.5)
    choice = tried(work, 2000)
    assert not any(work.kinds)
    assert choice.note == "not compiled: there is no no-such-compiler here"


def test_compiling_that_fails_stops_nothing_unless_it_was_asked_for():
    def fails():
        raise RuntimeError("no header Python.h\nand more")

    choice = Compiling("auto")
    choice.is_on = True
    assert choice.either(lambda: "plain", fails) == "plain"
    assert choice.note == "not compiled: compiling failed (no header Python.h)"
    assert choice.either(lambda: "plain", fails) == "plain"
    with pytest.raises(RuntimeError, match="Python.h"):
        Compiling(True).either(lambda: "plain", fails)


def test_work_that_ends_amid_a_trial_says_so():
    now = [0.0]
    choice = Compiling("auto", lambda: now[0])
    choice.expect(10_000)
    for _ in range(14):
        choice.begin(2)
        choice.n_done += 1
        now[0] += 2.0
    assert "amid a trial" in choice.note
