"""Puts an adapter of a run where it is shipped and served from: safetensors and GGUF, in half precision.

    python recipes/starter_reader/pack.py RUN STEP      STEP: 100 for RUN/adapter-100, or `last` for RUN/adapter

Writes src/hagane/models/reader_ja: adapter.gguf (what `hagane-reader-ja` is served with), adapter_model.safetensors,
adapter_config.json, base.json, made.json. Measure it afterwards (measure.py), and commit both together.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import torch

from hagane.core.labels import PUBLIC
from hagane.train.adapter import adapter_to_gguf, read_adapter
from hagane.train.tensor_file import read_tensors, write_tensors

PLACE = Path(__file__).resolve().parents[2] / "src" / "hagane" / "models" / "reader_ja"
WEIGHTS = "adapter_model.safetensors"


def pack(run: Path, step: str, place: Path) -> dict[str, object]:
    """Both files in `place`, and what made.json says. Raises: as `read_adapter`."""
    folder = run / ("adapter" if step == "last" else f"adapter-{step}")
    adapter = read_adapter(folder, run / "base")
    place.mkdir(parents=True, exist_ok=True)
    halves = {name: tensor.to(torch.float16) for name, tensor in read_tensors(folder / WEIGHTS).items()}
    if not all(bool(torch.isfinite(half).all()) for half in halves.values()):
        raise SystemExit(f"{folder} does not fit into half precision")
    write_tensors(place / WEIGHTS, halves, notes={"format": "pt"})
    for name in ("adapter_config.json", "base.json"):
        shutil.copyfile(folder / name, place / name)
    adapter_to_gguf(place, run / "base", place / "adapter.gguf", label=PUBLIC, numbers="F16")
    (place / WEIGHTS).chmod(0o644)
    made = {
        "name": "hagane-reader-ja",
        "base": "gemma3-270m",
        "recipe": "recipes/starter_reader/train.py",
        "rank": adapter.rank,
        "matrices": 2 * len(adapter.pairs),
        **_seen(run, step),
        "sha256": {name: _sha256(place / name) for name in ("adapter.gguf", WEIGHTS)},
    }
    (place / "made.json").write_text(json.dumps(made, indent=2) + "\n", "utf-8")
    return made


def _seen(run: Path, step: str) -> dict[str, object]:
    """Steps, and questions seen until then, by the run's log; a run that went on after a kill repeats some lines."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines() if line.strip()]
    steps = {row["step"]: row for row in rows if row["kind"] == "step"}
    last = max(steps) if step == "last" else int(step)
    answers, before, total = 0, 0, 0  # `answers` of the log begins again at 0 with each start
    for number in sorted(steps):
        if number > last:
            break
        now = steps[number]["answers"]
        answers = now - before if now >= before else now
        total, before = total + answers, now
    return {"steps": last, "answers_seen": total, "tokens_seen": sum(steps[n]["tokens"] for n in steps if n <= last)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    say = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say.add_argument("run", type=Path)
    say.add_argument("step")
    say.add_argument("--to", type=Path, default=PLACE, help="another folder than the one that is shipped")
    given = say.parse_args()
    print(json.dumps(pack(given.run, given.step, given.to), indent=2))


if __name__ == "__main__":
    main()
