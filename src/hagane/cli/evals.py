"""hagane eval: measure retrieval and answers on questions of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .options import HERE, As, Json, ProjectDir, open_project, print_json, say
from .progress import ProgressKind, progress

evals = typer.Typer(help="Measure retrieval and answers on your own questions.", no_args_is_help=True)

PassageKind = Literal["found", "gold", "without-gold"]
Questions = Annotated[Path, typer.Argument(metavar="QUESTIONS.jsonl", help="One JSON object a line: question, gold_paths, answer, ...")]
Allow = Annotated[bool, typer.Option("--allow-incomplete", help="Measure although the index is not complete.")]


@evals.command()
def retrieval(
    questions: Questions,
    allow_incomplete: Allow = False,
    progress_kind: ProgressKind = "auto",
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """Recall, MRR and nDCG of the ranked documents."""
    from hagane.project.measure import evaluate_retrieval

    with open_project(project) as opened, progress(progress_kind) as emit:
        report = evaluate_retrieval(opened, questions, by=opened.principal(as_), allow_incomplete=allow_incomplete, emit=emit)
    _print(report, json=json)


@evals.command()
def answers(
    questions: Questions,
    answerer: Annotated[str | None, typer.Option("--answerer", metavar="extract|read|generate", help="Who answers.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="The model that answers (default: answer.reader, answer.model).")] = None,
    passages: Annotated[
        PassageKind, typer.Option("--passages", help="What it answers from: what is found, the gold documents, or all but those.")
    ] = "found",
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Only N questions, always the same for one seed.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Which N questions.")] = 20261124,
    allow_incomplete: Allow = False,
    progress_kind: ProgressKind = "auto",
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """Answers, citations and abstention as well as retrieval."""
    from hagane.project.measure import evaluate_answers

    with open_project(project) as opened, progress(progress_kind) as emit:
        report = evaluate_answers(
            opened, questions, by=opened.principal(as_), answerer=answerer, model=model, passages=passages,
            limit=limit, seed=seed, allow_incomplete=allow_incomplete, emit=emit,
        )  # fmt: skip
    _print(report, json=json)


@evals.command()
def convert(
    squad: Annotated[list[Path], typer.Argument(metavar="SQUAD.json...", help="SQuAD-style files.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the paragraphs and questions.jsonl.")],
    json: Json = False,
) -> None:
    """SQuAD-style JSON to one file per paragraph and a questions.jsonl."""
    from hagane.project.measure import convert_squad

    done = convert_squad(squad, out)
    if json:
        print_json(done)
    else:
        print(f"{done['paragraphs']:,} paragraphs, {done['questions']:,} questions: {done['file']}")


def _print(report: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(report)
        return
    for name, metric in report["metrics"].items():
        if metric is not None:
            print(f"{name:<20} {metric['value']:.3f}   95 % {metric['low']:.3f} .. {metric['high']:.3f}   n {metric['n']:,}")
    say("95 %: bootstrap over questions, 2,000 resamples, fixed seed")
