"""The command `wcse`: begin, plan, run, check, compare, publish and report studies."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from wcse_lib import pipeline
from wcse_lib.pipeline import MachineFile, Outputs, Params, Until
from wcse_lib.study import Run, load_machine, resolve

Folder = Annotated[Path, typer.Argument(help="A study's folder, such as outputs/nano.")]
Compared = Annotated[
    list[Path], typer.Argument(help="Two files of samples, or folders of finished studies.")
]
Out = Annotated[Path, typer.Option(help="Folder that is written.")]
Page = Annotated[Path | None, typer.Option("--out", help="Another file than FOLDER/report.html.")]
Notebooks = Annotated[bool, typer.Option(help="With the executed notebooks in the page.")]

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def run(
    params: Params, machine: MachineFile = "", outputs: Outputs = "outputs", until: Until = ""
) -> None:
    """Run a study through all notebooks to its report. Call it again after a stop: it goes on from there."""
    pipeline.run_or_stop(params, machine, outputs, until)


@app.command()
def new(folder: Annotated[Path, typer.Argument(help="A folder that is not there yet.")]) -> None:
    """Begin: write a folder with a params file of ten lines, tiny example data and the notebooks. It runs at once."""
    from wcse_lib.start import new_folder

    print(new_folder(folder))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context) -> None:
    """Open a project's notebooks in JupyterLab, 01 in front. Further options are JupyterLab's own."""
    from wcse_lib.start import lab_command

    command, environment = lab_command(context.args)
    os.execve(command[0], command, environment)  # so that Ctrl-C is JupyterLab's


@app.command()
def plan(params: Params, machine: MachineFile = "", outputs: Outputs = "outputs") -> None:
    """Show what a study would do, cost and need, and what is missing here. Nothing is written or fetched.

    The exit status is 1 where a run would stop for want of something.
    """
    raise typer.Exit(pipeline.look(params, machine, outputs))


@app.command()
def status(params: Params, outputs: Outputs = "outputs") -> None:
    """Show what is done, what it took, what failed and what is next. Takes a params file or a study's folder."""
    if Path(params).is_dir():
        print(pipeline.status(Path(params)))
    else:
        print(pipeline.show_status(params, outputs))


def _each(what: str) -> object:
    """An option about files of samples that is given once for both, or once for each in their order."""
    return typer.Option(help=f"Files: {what}. Once for both, or once for each.")


ComparisonOut = Annotated[
    Path | None,
    typer.Option("--out", help="Folder that is written. Files: outputs/A-B when left out."),
]


@app.command()
def compare(
    paths: Compared,
    out: ComparisonOut = None,
    question: Annotated[list[str], _each("column of the questions")] = (),
    text: Annotated[list[str], _each("column of the samples")] = (),
    gold: Annotated[list[str], _each("column of the gold answers")] = (),
    problem_id: Annotated[list[str], _each("column of the problems' ids")] = (),
    n_tokens: Annotated[list[str], _each("column of the samples' tokens")] = (),
    tokenizer: Annotated[list[str], _each("model whose tokenizer counts them instead")] = (),
    name: Annotated[list[str], typer.Option(help="Files: a name for each, in their order.")] = (),
    samples: Annotated[list[int], _each("leave out problems with fewer samples than this")] = (),
    usd_per_sample: Annotated[
        list[float], _each("price of a sample, to compare at equal cost")
    ] = (),
    usd_per_million_tokens: Annotated[list[float], _each("price of its tokens, likewise")] = (),
    problems: Annotated[
        Path | None,
        typer.Option(help="Files: the problems with gold answers, where the files have none."),
    ] = None,
) -> None:
    """Compare two files of samples in a minute, or join finished studies.

    FILES (.jsonl, .json, .csv, .tsv, .parquet), as in `wcse compare a.jsonl b.jsonl`: a row holds a question, its gold
    answer, and a sample or a list of samples. Which column holds what is guessed, shown, and named by options. Samples
    are verified, and compared at equal number or, with prices, at equal cost; comparison.html and params.yaml are
    written.

    FOLDERS, as in `wcse compare outputs/a outputs/b --out outputs/joined`: tables of finished studies are joined in
    one table, forest plot and page.
    """
    named = {
        "question": question,
        "text": text,
        "gold": gold,
        "problem_id": problem_id,
        "n_tokens": n_tokens,
    }
    others = {"tokenizer": tokenizer, "name": name, "samples": samples, "problems": problems}
    prices = {"usd_per_sample": usd_per_sample, "usd_per_million_tokens": usd_per_million_tokens}
    if all(resolve(path).is_dir() for path in paths):
        given = [option for option, value in (named | others | prices).items() if value]
        _compare_studies(paths, out, given)
        return
    if strangers := [path for path in paths if not path.is_file()]:
        raise typer.BadParameter(
            f"{strangers[0]}: no such file; give two files of samples, or folders of finished studies"
        )
    from wcse_lib.start import Prices, Question, compare_files

    asked = Question(
        paths=tuple(paths),
        named=named,
        names=name,
        samples=samples,
        prices=Prices(tuple(usd_per_sample), tuple(usd_per_million_tokens)),
        tokenizers=tokenizer,
        gold=problems,
    )
    answered = compare_files(asked, out)
    print(f"\n{answered.text}\n\n{answered.go_on}\npage: {answered.page}")


def _compare_studies(folders: list[Path], out: Path | None, given: list[str]) -> None:
    """Join finished studies; `given` are options that they do not have."""
    from wcse_lib import report

    if given:
        option = given[0].replace("_", "-")
        raise typer.BadParameter(f"--{option}: is for two files of samples, and these are folders")
    if out is None:
        raise typer.BadParameter("--out FOLDER is needed to join finished studies")
    report.compare(folders, out)
    print(f"comparison: {out}")


@app.command()
def report(folder: Folder, out: Page = None, notebooks: Notebooks = True) -> None:
    """Write a finished study's page anew, as FOLDER/report.html; without the notebooks it is small enough to share."""
    from wcse_lib.report import write_report

    print(write_report(folder, out, notebooks))


@app.command()
def publish(folder: Folder, out: Out = Path("outputs/datasets")) -> None:
    """Write a finished study's examples as folders that `datasets.load_dataset` reads, with card, plan and ledger."""
    from wcse_lib.report import publish_study

    print(*publish_study(Run(folder), out), sep="\n")


@app.command()
def shard(
    folder: Folder,
    arm: Annotated[str, typer.Argument(help="The arm to draw.")],
    part: Annotated[str, typer.Argument(help="I/K: every K-th problem from the I-th on.")],
    machine: MachineFile = "",
) -> None:
    """Draw a part of an arm's problems, beside other processes; `run` then finds these samples and ends the stage."""
    from wcse_lib.sample import close_input, generate

    index, _, total = part.partition("/")
    if not (index.isdigit() and total.isdigit() and int(index) < int(total)):
        raise typer.BadParameter(f"{part}: I/K with I below K is needed, such as 0/16")
    close_input()
    generate(Run(folder), arm, load_machine(machine), (int(index), int(total)))


def main(arguments: list[str] | None = None) -> int:
    """`wcse …`, with the arguments of the process where none are given."""
    return pipeline.exit_code(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
