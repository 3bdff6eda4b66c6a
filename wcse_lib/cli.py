"""The command `wcse`: plan, run, check, compare, publish and report studies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from wcse_lib import pipeline
from wcse_lib.pipeline import MachineFile, Outputs, Params, Until
from wcse_lib.study import Run, load_machine

Folder = Annotated[Path, typer.Argument(help="A study's folder, such as outputs/nano.")]
Folders = Annotated[list[Path], typer.Argument(help="Folders of finished studies.")]
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


@app.command()
def compare(folders: Folders, out: Out) -> None:
    """Join finished studies in one table, forest plot and page."""
    from wcse_lib import report

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
    from wcse_lib.sample import generate

    index, _, total = part.partition("/")
    if not (index.isdigit() and total.isdigit() and int(index) < int(total)):
        raise typer.BadParameter(f"{part}: I/K with I below K is needed, such as 0/16")
    generate(Run(folder), arm, load_machine(machine), (int(index), int(total)))


def main(arguments: list[str] | None = None) -> int:
    """`wcse …`, with the arguments of the process where none are given."""
    return pipeline.exit_code(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
