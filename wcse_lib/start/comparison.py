"""Two files of samples compared in a minute: the study that they stand for, run in this process without kernels."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import yaml

from wcse_lib import analyze, plan, report, sample, verify
from wcse_lib.report import ComparedFile
from wcse_lib.sample import STRANGER, tokens_in_file
from wcse_lib.start.columns import guess_columns, guess_problem_columns
from wcse_lib.start.prices import Prices, budget_of, few_samples
from wcse_lib.start.problems import SampleFile, Shared, share_problems, write_problems
from wcse_lib.store import StudyError, locked, read_json, read_text, write_manifest, write_text
from wcse_lib.study import (
    Columns,
    ImportedArm,
    Machine,
    Run,
    Study,
    check_study,
    load_study,
    read_plan,
    resolve,
)

# of what an import counts: totals, and what the first sentence about the files tells
NO_LOSS = ("rows", "samples", STRANGER)
NAME = re.compile(r"[^a-z0-9_-]+")


@dataclass(frozen=True)
class Question:
    """What somebody wants to compare.

    `named`: by role (`columns.USUAL_NAMES`) the columns, one for both files or one for each; `names`: of the files;
    `samples`: problems with fewer in a file are left out; `gold`: a file of problems with their answers, where the
    files of samples have none, and its columns.
    """

    paths: tuple[Path, ...]
    named: Mapping[str, Sequence[str]] = field(default_factory=dict)
    names: Sequence[str] = ()
    samples: Sequence[int] = ()
    prices: Prices = Prices()
    tokenizers: Sequence[str] = ()
    gold: Path | None = None


@dataclass(frozen=True)
class Answered:
    """A finished comparison: its study, its page, its answer as plain text, and the params file to go on from."""

    run: Run
    page: Path
    text: str
    params: Path

    @property
    def go_on(self) -> str:
        """The params file and the commands that read it."""
        text = textwrap.indent(read_text(self.run.folder / "params.yaml"), "    ")
        outputs = self.params.parent.parent
        where = "" if outputs == Path("outputs") else f" --outputs {outputs}"
        commands = "".join(f"    wcse {verb} {self.params}{where}\n" for verb in ("plan", "run"))
        return f"This is the study of {self.params}:\n\n{text}\n{commands}"


def compare_files(
    asked: Question, out: Path | None = None, tell: Callable[[str], None] = print
) -> Answered:
    """Compare two files of samples by the study that they stand for.

    Args: out: the study's folder, `outputs/<names>` when left out; tell: is given what was guessed, as it is known.
    Writes the study (01 to 03 and 06), `problems.jsonl`, `params.yaml` and `comparison.html` there. Raises StudyError
    naming file, column and remedy before anything is written.
    """
    _check(asked)
    files = _files(asked)
    for file in files:
        tell(f"{file.name}: {file.path}: {file.columns.in_words()}")
    shared = _with_enough(share_problems(files, asked.gold, _gold_columns(asked)), asked)
    out = out or Path("outputs") / "-".join(file.name for file in files)
    folder = resolve(out).absolute()
    study = _study(asked, files, shared, out)
    with locked(folder):
        _make_room(folder)
        write_problems(folder / "problems.jsonl", shared)
        command = shlex.join(["wcse", "compare", *map(str, asked.paths)])
        write_text(folder / "params.yaml", _params_text(study, command))
        run, tables, answer = _answer(study, folder.parent)
        page, text = report.write_file_comparison(
            run, tables, answer, _how_read(files), _caveats(files, shared, run)
        )
    return Answered(run, page, text, out / "params.yaml")


# ---------------------------------------------------------------------- what is asked


def _check(asked: Question) -> None:
    """Raises StudyError where options and files do not go together."""
    if len(asked.paths) != 2:
        raise StudyError(
            f"two files of samples are compared, not {len(asked.paths)}; for more, write a params file with an "
            "imported arm for each"
        )
    asked.prices.check(len(asked.paths))
    several = {**asked.named, "name": asked.names, "samples": asked.samples}
    for option, values in (several | {"tokenizer": asked.tokenizers}).items():
        if len(values) > len(asked.paths):
            raise StudyError(
                f"{option}: given {len(values)} times; once for both files, or once for each"
            )


def _at(values: Sequence, place: int):
    """The value for a file of an option that is given once for both or once for each; None where it is not given."""
    if not values:
        return None
    return values[min(place, len(values) - 1)]


def _files(asked: Question) -> list[SampleFile]:
    files = []
    for place, (name, path) in enumerate(zip(_names(asked), asked.paths)):
        named = {role: _at(columns, place) for role, columns in asked.named.items()}
        files.append(SampleFile(name, path, guess_columns(path, named)))
    first, second = files
    if first.path == second.path and first.columns.text == second.columns.text:
        raise StudyError(
            f"{first.path}: stands twice, and so does its column {first.columns.text!r}; name one for each by --text"
        )
    return files


def _names(asked: Question) -> list[str]:
    """What the files are called: as asked, else by their files, their folders or their columns, which differ."""
    texts = asked.named.get("text") or ()
    first, second = asked.paths
    candidates = [
        asked.names,
        [path.stem for path in asked.paths],
        [path.parent.name for path in asked.paths],
        list(texts),
    ]
    for names in candidates:
        plain = [_name(name) for name in names]
        if len(set(plain)) == len(asked.paths):
            return plain
    raise StudyError(f"{first} and {second}: name them by --name A --name B")


def _name(text: str) -> str:
    """A text as a name that a params file takes.

    >>> _name("Qwen2.5 (7B)")
    'qwen2_5_7b'
    """
    return NAME.sub("_", text.lower()).strip("_-")[:20].rstrip("_-") or "samples"


def _gold_columns(asked: Question) -> Columns:
    """The columns of the file of problems."""
    if asked.gold is None:
        return Columns()
    roles = ("question", "problem_id", "gold")
    return guess_problem_columns(
        asked.gold, {role: _at(asked.named.get(role, ()), 0) for role in roles}
    )


# ---------------------------------------------------------------------- the study


def _with_enough(shared: Shared, asked: Question) -> Shared:
    """The problems of which every file has as many samples as asked for. Raises StudyError where there are none."""
    if not asked.samples:
        return shared
    enough = pd.Series(True, shared.problems.index)
    for place, n_each in enumerate(shared.counts.values()):
        enough &= n_each.to_numpy() >= _at(asked.samples, place)
    if not enough.any():
        most = ", ".join(f"{name} {n_each.max()}" for name, n_each in shared.counts.items())
        raise StudyError(
            f"--samples: no problem has so many samples in both files (at most {most}); ask for fewer"
        )
    shared.left_out["with fewer samples than --samples asks for"] += int((~enough).sum())
    counts = {name: n_each[enough.to_numpy()] for name, n_each in shared.counts.items()}
    return replace(shared, problems=shared.problems[enough], counts=counts)


def _study(asked: Question, files: list[SampleFile], shared: Shared, out: Path) -> Study:
    """The study that the comparison is, in the folder `out`."""
    arms, usd = {}, {}
    for place, file in enumerate(files):
        tokenizer = _at(asked.tokenizers, place)
        arm = file.arm(shared.key, tokenizer=tokenizer)
        length = _tokens_per_sample(arm, file, shared) if asked.prices.are_of_tokens else None
        if asked.prices.are_known:
            usd[file.name] = asked.prices.usd_per_sample(place, length)
        arms[file.name] = arm.model_copy(update=asked.prices.of_arm(place, length))
    least = {name: int(n_each.min()) for name, n_each in shared.counts.items()}
    budget = budget_of(least, usd, {file.name: file.path for file in files})
    if asked.prices.are_of_tokens:
        budget["lengths"] = "measured"
    what = "equal cost" if asked.prices.are_known else "an equal number of samples"
    first, second = (file.name for file in files)
    columns = {"columns": {"problem_id": "problem_id"}} if shared.key == "problem_id" else {}
    data = {
        "study": out.name,
        "title": f"At {what}, whose samples are the better data: {first}'s or {second}'s?",
        "dataset": {"name": "files", "train": str(out / "problems.jsonl")} | columns,
        "arms": {
            name: arm.model_dump(exclude_defaults=True) | {"engine": "import"}
            for name, arm in arms.items()
        },
        "budget": budget,
        # they are there already: nothing is saved by stopping for lost ones, which are counted
        "sampling": {"max_failed_share": 1.0},
    }
    return check_study(data, "wcse compare")


def _tokens_per_sample(arm: ImportedArm, file: SampleFile, shared: Shared) -> float:
    length = tokens_in_file(file.name, arm, shared.problems)
    if length is None:
        raise StudyError(
            f"{file.path}: no column is known to hold tokens, so that USD per million tokens say nothing; name it by "
            "--n-tokens COLUMN, count them by --tokenizer MODEL, or give --usd-per-sample"
        )
    return length


def _params_text(study: Study, command: str) -> str:
    """The params file of the study, with what it is and how to go on from it."""
    (budget,) = study.budget.samples
    head = [
        f"# The study that `{command}` stands for.",
        "# To ask which file's samples train a student better, copy this file, give the study another name, and add:",
        "# dataset: {held_out: test.jsonl}  # into the dataset above: problems to test students on, columns as above",
        "# students: {small: {model: HuggingFaceTB/SmolLM2-135M-Instruct}}",
        f"# training: {{amount: {{{budget}: 200}}}}  # steps; docs/params.md has every key",
        "# controls: {reference: false}  # these problems have no worked solutions",
    ]
    data = study.model_dump(mode="json", exclude_defaults=True)
    layout = {"sort_keys": False, "allow_unicode": True, "default_flow_style": None, "width": 120}
    return "\n".join(head) + "\n" + yaml.safe_dump(data, **layout)


def _make_room(folder: Path) -> None:
    """Let a comparison be done again with other options.

    Raises StudyError where the folder holds what would be lost: a study that goes beyond a comparison, changed params,
    or labels that people gave.
    """
    path, params = folder / "01_plan" / "plan.json", folder / "params.yaml"
    if not path.exists():
        return
    there = read_plan(path).study
    is_comparison = not there.students and all(
        isinstance(arm, ImportedArm) for arm in there.arms.values()
    )
    is_unchanged = params.exists() and load_study(params) == there
    has_labels = (folder / "03_verify" / "labels.jsonl").exists()
    if has_labels or not (is_comparison and is_unchanged):
        raise StudyError(
            f"{folder}: holds a study that is more than a comparison (students, labels, or a changed params.yaml); "
            "name another folder by --out, or delete this one"
        )
    path.unlink()


def _answer(study: Study, outputs: Path) -> tuple[Run, dict[str, pd.DataFrame], dict]:
    """Plan, import, verify and analyse a study of imported arms in this process, as the notebooks do in theirs."""
    machine = Machine()
    run = plan.make_plan(study, outputs, machine)
    write_manifest(run.path("01"), run.plan_id, plan.checks(run))
    for arm in study.order:
        samples = sample.generate(run, arm, machine)
        write_manifest(run.path("02", arm), run.plan_id, sample.checks(run, arm, samples))
        verified = verify.verify(run, arm, machine)
        write_manifest(run.path("03", arm), run.plan_id, verify.checks(run, arm, verified))
    tables = analyze.analyze(run)
    answer = analyze.answer(run, tables)
    write_manifest(run.path("06"), run.plan_id, analyze.checks(run, tables))
    return run, tables, answer


# ---------------------------------------------------------------------- what a reader has to know


def _how_read(files: list[SampleFile]) -> list[ComparedFile]:
    return [ComparedFile(file.name, str(file.path), file.columns.in_words()) for file in files]


def _caveats(files: list[SampleFile], shared: Shared, run: Run) -> list[str]:
    """What of the files is not compared, and what a comparison of files cannot tell."""
    n_shared = len(shared.problems)
    sentences = []
    if any(n > n_shared for n in shared.n_each.values()):
        each = " and ".join(f"{name} has {n:,} problems" for name, n in shared.n_each.items())
        sentences.append(f"{each}; compared are the {n_shared:,} that both have.")
    for reason, n in shared.left_out.items():
        sentences.append(f"{n:,} problems that both have are left out: {reason}.")
    for file in files:
        counts = read_json(run.path("02", file.name, "import.json"))
        lost = [f"{n:,} {reason}" for reason, n in counts.items() if n and reason not in NO_LOSS]
        if lost:
            sentences.append(
                f"Not compared of {file.name}'s {counts['rows']:,} samples: {', '.join(lost)}."
            )
        if n_copies := shared.copies[file.name]:
            sentences.append(
                f"{n_copies:,} rows of {file.name} equal an earlier row in everything, and count as samples of their "
                "own; remove them where they are a fault of the file."
            )
    used = {file.name: max(run.arm(file.name).samples.values()) for file in files}
    sentences += few_samples(shared.counts, used)
    sentences.append(
        "The files do not say how their samples were drawn (prompt, temperature, who chose them): this compares "
        "files, and models only where all else was equal."
    )
    return sentences
