"""Load: what hagane adds between a client and a model, and how fast answers from documents come under load.

    python bench/serve_load.py                                                    # 64 clients, 60 s each way
    python bench/serve_load.py --questions q.jsonl --project DIR --clients 8      # the assistant, answerer extract

The first: a fake model (first token after 200 ms, then 40 tokens 20 ms apart); 64 clients, each starting again when
done: straight to the fake, then through `hagane serve`, in one run. The second: `search` is the time without generation;
`waited` until the answerer (its computation is what generation is for `extract`) had a core, and `answer` what it took.
Every end is a process of its own; CPU seconds are each process's own count. User and token are made by the CLI.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HAGANE = [str(Path(sys.executable).with_name("hagane"))]
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}
PROJECT = """\
version: 1
labels: {default: internal}
principals:
  owner: {clearance: "restricted:*"}
embedder: {name: none}
server: {answers_each: 256}
models:
  fake: {address: "ADDRESS", model: fake}
"""


def hagane(*words: str, project: Path, given: str | None = None) -> str:
    done = subprocess.run([*HAGANE, *words, "--project", str(project)], input=given, capture_output=True, text=True, env=ENV)
    if done.returncode:
        raise SystemExit(f"hagane {' '.join(words)}: {done.stderr}")
    return done.stdout.strip()


@contextlib.contextmanager
def running(command: Sequence[str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A process that prints "listening on URL"; ended afterwards."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENV) as process:
        try:
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                raise SystemExit(f"{' '.join(command)} did not start")
            yield line.removeprefix("listening on ").strip(), process
        finally:
            process.terminate()
            process.wait(30)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and its threads so far."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def clients(**spec: Any) -> dict[str, Any]:
    """Run the client process to its end."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(spec, file)
        file.flush()
        done = subprocess.run([sys.executable, str(HERE / "serve_fake.py"), "clients", file.name], capture_output=True, text=True, env=ENV)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def share(values: Sequence[float], p: float) -> float:
    """The value below which `p` of them lie; milliseconds."""
    ordered = sorted(values)
    return 1000 * ordered[min(len(ordered) - 1, int(p * len(ordered)))] if ordered else float("nan")


def said(name: str, found: dict[str, Any], *, others: str) -> None:
    first = found["first_s"]
    print(f"{name:<12} {len(first):>6} answers  {found['errors']} errors  {found['tokens'] / found['seconds']:7.0f} tokens/s  "
          f"first token p50 {share(first, 0.5):6.1f}  p95 {share(first, 0.95):6.1f}  p99 {share(first, 0.99):6.1f} ms  "
          f"CPU s: clients {found['cpu_s']:.1f}, {others}", flush=True)  # fmt: skip
    if found["errors"]:
        print("  for example:", found.get("example", "")[:400])


def proxy(args: argparse.Namespace) -> None:
    """The client against the fake, then through us."""
    ask = {"model": "fake", "stream": True, "messages": [{"role": "user", "content": "年次有給休暇は何日ですか。" * 8}]}
    spec = {"n": args.clients, "seconds": args.seconds, "spread_s": args.spread, "bodies": [ask], "token": '"content":"鋼"', "n_tokens": 40,
            "done": "data: [DONE]"}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, running([sys.executable, str(HERE / "serve_fake.py"), "model"]) as (fake, model):
        project = Path(folder)
        (project / "hagane.yaml").write_text(PROJECT.replace("ADDRESS", fake), encoding="utf-8")
        hagane("user", "add", "load", "--role", "reader", "--clearance", "internal", "--password-stdin", project=project, given="load and more load 42\n")
        key = hagane("token", "create", "load", "--scope", "ask", project=project)
        before = cpu_s(model.pid)
        straight = clients(url=fake, **spec)
        said("straight", straight, others=f"model {cpu_s(model.pid) - before:.1f}")
        with running([*HAGANE, "serve", "--port", "0", "--project", str(project)]) as (url, server):
            clients(url=url + "/v1", key=key, **(spec | {"n": 4, "seconds": 2}))  # warm
            before, served = cpu_s(model.pid), cpu_s(server.pid)
            through = clients(url=url + "/v1", key=key, **spec)
            used = cpu_s(server.pid) - served
            said("through us", through, others=f"model {cpu_s(model.pid) - before:.1f}, hagane {used:.1f}")
    added = {p: share(through["first_s"], p) - share(straight["first_s"], p) for p in (0.5, 0.95, 0.99)}
    print(f"added to the first token: p50 {added[0.5]:.1f} ms, p95 {added[0.95]:.1f} ms, p99 {added[0.99]:.1f} ms; "
          f"hagane {used / through['seconds']:.0%} of one core, {1000 * used / max(1, len(through['first_s'])):.1f} ms CPU an answer")  # fmt: skip


def assistant(args: argparse.Namespace) -> None:
    """Questions to the assistant of a project that is synced."""
    rows = [json.loads(line) for line in args.questions.read_text(encoding="utf-8").splitlines() if line.strip()]
    bodies = [{"model": "hagane", "stream": True, "messages": [{"role": "user", "content": row["question"]}]} for row in rows]
    name = f"load{os.getpid()}"
    hagane("user", "add", name, "--role", "reader", "--clearance", args.clearance, "--password-stdin", project=args.project, given="load and more load 42\n")
    key = hagane("token", "create", name, "--scope", "ask", project=args.project)
    spec = {"n": args.clients, "seconds": args.seconds, "spread_s": args.spread, "bodies": bodies, "token": '"delta":{"content":"', "n_tokens": 0,
            "done": "data: [DONE]"}  # fmt: skip
    with running([*HAGANE, "serve", "--port", "0", "--project", str(args.project)]) as (url, server):
        clients(url=url + "/v1", key=key, **(spec | {"n": 1, "seconds": 5}))  # warm
        served = cpu_s(server.pid)
        found = clients(url=url + "/v1", key=key, **spec)
        said("assistant", found, others=f"hagane {cpu_s(server.pid) - served:.1f}")
    for part in ("search", "waited", "judge", "answer", "total"):
        values = [timing[part] for timing in found["timings_s"]]
        print(f"  {part:<7} p50 {share(values, 0.5):7.1f}  p95 {share(values, 0.95):7.1f}  p99 {share(values, 0.99):7.1f} ms")
    whole = found["whole_s"]
    print(f"  whole   p50 {share(whole, 0.5):7.1f}  p95 {share(whole, 0.95):7.1f}  p99 {share(whole, 0.99):7.1f} ms (as the client saw it)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--spread", type=float, default=1.0, help="seconds over which the clients begin")
    parser.add_argument("--questions", type=Path, help="JSON lines with `question`: ask the assistant of --project")
    parser.add_argument("--project", type=Path)
    parser.add_argument("--clearance", default="internal")
    args = parser.parse_args()
    assistant(args) if args.questions else proxy(args)


if __name__ == "__main__":
    main()
