"""The whole journey on three small files, as a person types it; prints one JSON object of what happened.

    python journey.py FOLDER [--namespace]

With --namespace the caller has put this process into a network namespace of its own: loopback is brought
up, and the kernel's own counters tell of every packet that found no way out, from native code too. Every
Python process of the journey carries loopback_only.py as well.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

TEXTS = {
    "休暇規程.md": "# 休暇規程\n\n## 年次有給休暇\n\n年次有給休暇は一年につき20日とする。半日単位で取得できる。\n\n"
    "## 慶弔休暇\n\n結婚の場合は連続5日の慶弔休暇を与える。\n",
    "経費規程.txt": "経費規程\n\n出張の日当は一日あたり2,500円とする。領収書は10日以内に経理部へ提出する。\n",
    "情報管理.md": "# 情報管理\n\n業務用パソコンを社外へ持ち出すときは、部長の許可を得る。紛失したときは直ちに情報システム部へ連絡する。\n",
}
QUESTIONS = [
    {"id": "1", "question": "年次有給休暇は一年に何日か。", "answerable": True, "answer": "20日",
     "must_contain": ["20日"], "gold_paths": ["休暇規程.md"]},
    {"id": "2", "question": "出張の日当は一日いくらか。", "answerable": True, "answer": "2,500円",
     "must_contain": ["2,500円|2500円"], "gold_paths": ["経費規程.txt"]},
    {"id": "3", "question": "火星支社の郵便番号は。", "answerable": False},
]  # fmt: skip
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def raise_loopback() -> None:
    """A new network namespace has its loopback down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(door, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(door, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def lost() -> int:
    """Packets and connections of this namespace that found no way out, IPv4 and IPv6."""
    rows = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:")]
    four = int(rows[1][rows[0].index("OutNoRoutes")])
    six = Path("/proc/net/snmp6")
    lines = six.read_text().splitlines() if six.exists() else []
    return four + sum(int(line.split()[1]) for line in lines if line.startswith("Ip6OutNoRoutes"))


def hagane(*words: str, where: Path) -> dict:
    code = "from hagane.cli.main import main; raise SystemExit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=where,
        capture_output=True,
        text=True,
        timeout=400,
        stdin=subprocess.DEVNULL,
    )
    return {"words": list(words), "rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr[-2000:]}


def journey(folder: Path) -> list[dict]:
    """init, add, search, ask, eval: what each said. Stops at the first that fails."""
    texts, project = folder / "文書", folder / "project"
    texts.mkdir(parents=True)
    for name, text in TEXTS.items():
        (texts / name).write_text(text, encoding="utf-8")
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps(q, ensure_ascii=False) + "\n" for q in QUESTIONS), encoding="utf-8")
    steps: list[dict] = []
    for words, where in (
        (("init", str(project)), folder),
        (("add", str(texts), "--label", "internal", "--json"), project),
        (("search", "有給休暇の日数", "--json"), project),
        (("ask", "出張の日当は一日いくらですか。", "--json"), project),
        (("eval", "retrieval", str(questions), "--json"), project),
        (("eval", "answers", str(questions), "--json"), project),
    ):
        steps.append(hagane(*words, where=where))
        if steps[-1]["rc"]:
            break
    return steps


def attempts(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def reach_out(kind: int, address: tuple) -> None:
    with socket.socket(kind, socket.SOCK_STREAM) as door:
        door.settimeout(2)
        door.connect_ex(address)


def main() -> None:
    folder, apart = Path(sys.argv[1]), "--namespace" in sys.argv
    tests = Path(__file__).resolve().parents[1]
    log, guard = folder / "attempts.txt", folder / "guard"
    guard.mkdir()
    told = f"open({str(log)!r}, 'a', encoding='utf-8').write(line + '\\n')"
    (guard / "sitecustomize.py").write_text(f"import loopback_only\nloopback_only.install(lambda line: {told})\n")
    source = tests.parent / "src"
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (guard, tests, source)))
    if apart:
        raise_loopback()
    before = lost() if apart else 0
    said = {"steps": journey(folder), "attempts": attempts(log), "lost": (lost() if apart else 0) - before}
    if apart:  # the counters see what they should: two calls beyond loopback, from this unguarded process
        before = lost()
        reach_out(socket.AF_INET, ("192.0.2.1", 443))
        said["seen"] = lost() - before
    subprocess.run(
        [sys.executable, "-c", "import socket; socket.create_connection(('192.0.2.1', 443), 1)"],
        stderr=subprocess.DEVNULL,
    )
    said["heard"] = len(attempts(log)) - len(said["attempts"])
    print(json.dumps(said, ensure_ascii=False))


if __name__ == "__main__":
    main()
