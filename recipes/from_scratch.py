"""A model from scratch: a folder of text to tokenizer, to a few million parameters, to instruction tuning, to chat.

    python recipes/from_scratch.py examples/handbook --budget 10m
    python recipes/from_scratch.py FOLDER --extra jaquad/train --budget 1h --project my-llm

FOLDER: texts in any format that `hagane add` reads. --extra: JaQuAD's `train` folder (CC BY-SA 3.0), whose paragraphs are
more to read and whose questions are examples to be tuned on; without it, headings of the documents are turned into
questions. A third of the budget is left to tokenizer, tuning and the gates: with 10m all of it takes about a quarter of
an hour on two cores. A model of this size writes sentences that look like its texts. It knows nothing: ask it with
documents (`hagane ask`), and read its samples as what they are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from hagane.builds.spec import hours

NAME = "from-scratch"
SHARE = 0.55  # of the budget for pre-training
EXAMPLES = 3000  # that it is tuned on: more would not fit into the budget's rest

YAML = """\
name: {name}
tokenizer: {{}}
pretrain:
  data: [{data}]
  budget: {pretrain}
  training: {{tokens: 256}}
tune:
  data: [{{file: chat.jsonl}}]
  training: {{tokens: 256, epochs: 1}}
export: {{numbers: [Q8_0]}}
"""


def jaquad(folder: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each paragraph with its questions and answers."""
    for path in sorted(folder.glob("*.json")):
        for article in json.loads(path.read_text("utf-8"))["data"]:
            for one in article["paragraphs"]:
                yield one["context"], [(asked["question"], asked["answers"][0]["text"]) for asked in one["qas"] if asked["answers"]]


def headings(folder: Path) -> Iterator[tuple[str, str]]:
    """Questions from headings of Markdown, with the first line below each."""
    for path in sorted([*folder.rglob("*.md"), *folder.rglob("*.txt")]):
        title = ""
        for line in path.read_text("utf-8", "replace").splitlines():
            if line.startswith("#"):
                title = line.lstrip("# ").strip()
            elif title and line.strip():
                yield f"{title}について教えてください。", line.strip()[:200]
                title = ""


def write_inputs(project: Path, folder: Path, extra: Path | None, *, budget: float) -> None:
    """texts.jsonl and chat.jsonl beside train.yaml."""
    chat = list(headings(folder))
    data = "{documents: []}"
    if extra is not None:
        data += ", {file: texts.jsonl}"
        with open(project / "texts.jsonl", "w", encoding="utf-8") as out:
            for text, asked in jaquad(extra):
                out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                chat += asked[:1]
    step = max(1, len(chat) // EXAMPLES)
    with open(project / "chat.jsonl", "w", encoding="utf-8") as out:
        for question, answer in chat[::step][:EXAMPLES]:
            out.write(json.dumps({"prompt": question, "completion": answer}, ensure_ascii=False) + "\n")
    minutes = max(0.5, budget * 60 * SHARE)
    (project / "train.yaml").write_text(YAML.format(name=NAME, data=data, pretrain=f"{minutes:.1f}m"), encoding="utf-8")


def hagane(project: Path, *words: str, must: bool = True) -> int:
    """A command as a person types it; what it prints is shown."""
    print(f"\n$ hagane {' '.join(words)}", flush=True)
    code = "from hagane.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=project)
    if must and done.returncode:
        raise SystemExit(done.returncode)
    return done.returncode


def main() -> None:
    say = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say.add_argument("folder", type=Path)
    say.add_argument("--extra", type=Path, help="the folder `train` of JaQuAD")
    say.add_argument("--budget", default="10m", help="10m, 1h, 2d")
    say.add_argument("--project", type=Path, default=Path("from-scratch"))
    given = say.parse_args()
    began = time.monotonic()
    project = given.project
    if not (project / "hagane.yaml").exists():
        project.parent.mkdir(parents=True, exist_ok=True)
        hagane(Path(), "init", str(project))
    if not (project / "train.yaml").exists():
        write_inputs(project, given.folder, given.extra, budget=hours(given.budget))
    hagane(project, "add", str(given.folder.resolve()), "--words-only")
    hagane(project, "plan", "train.yaml", must=False)
    hagane(project, "train", "all", "train.yaml")
    published = hagane(project, "export", NAME, must=False) == 0
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes in all")
    print("what it wrote while it learnt stands in", project / ".hagane" / "runs" / NAME)
    if published:
        print(f'now: cd {project}; hagane ask "..." --model {NAME}; or hagane serve, and chat in the browser')
    else:
        print("it is not published: the gates above say why. A model of this size often fails them; that is what they are for")


if __name__ == "__main__":
    main()
