"""The demo: an assistant for a small Japanese company, from its documents to cited answers.

    make demo                 sets up, then runs this; stays open for questions on a terminal
    make demo </dev/null      ends by itself

It only calls the command `hagane`, as you would. The project lies in .demo/company afterwards.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HAGANE = Path(sys.executable).parent / "hagane"
COMPANY = ROOT / ".demo" / "company"

# (as whom, question, what to look at)
QUESTIONS = (
    ("staff", "レシートをなくしました。どうすればお金を返してもらえますか？", "a rule in a PDF with tables"),
    ("staff", "アルファ系列の上位モデルの法人価格は？", "merged cells of an Excel sheet"),
    ("staff", "平社員です。東京に泊まりで行くとき、ホテル代は一泊いくらまで大丈夫？", "the new rule, not the old one"),
    ("staff", "電気が止まる日は何時から何時まで？", "a scanned notice, read by OCR"),
    ("hr", "査定がSだと、給料は何％上がる？", "a document of compartment hr"),
    ("staff", "査定がSだと、給料は何％上がる？", "the same question from someone without that clearance"),
)


def hagane(*words: str, stdin: int | None = subprocess.DEVNULL, show: bool = True) -> int:
    """Run one command of the product in the demo project."""
    if show:
        print(f"\n$ hagane {' '.join(_quoted(word) for word in words)}", flush=True)
    return subprocess.run([HAGANE, *words, "--project", COMPANY], stdin=stdin, check=False).returncode


def _quoted(word: str) -> str:
    return f'"{word}"' if any(c.isspace() or c in "？?%" for c in word) else word


def main() -> int:
    """0 when every step worked."""
    started = time.monotonic()
    if not COMPANY.exists():
        shutil.copytree(ROOT / "examples" / "company", COMPANY)
    print(f"The company 霧ヶ瀬計器: {COMPANY}")
    if code := hagane("sync"):
        return code
    for number, (who, question, point) in enumerate(QUESTIONS):
        print(f"\n--- {point}")
        if code := hagane("ask", question, "--as", who):
            return code
        if number == 0:
            print(f"\n(first cited answer {time.monotonic() - started:.0f} s after the packages were installed)")
    print(
        "\n--- what the last one could not see: hr/人事評価と給与レンジ.docx and everything else labelled confidential:hr.\n"
        "    Only this script says so; the product tells nobody but officers how much was hidden."
    )
    print("\n--- the same assistant with a local language model (270 M parameters: small, and checked sentence by sentence)")
    if code := hagane("ask", QUESTIONS[0][1], "--as", "staff", "--answerer", "generate"):
        return code
    if sys.stdin.isatty():
        print("\nYour turn, as staff. An empty line ends.")
        return hagane("ask", "--as", "staff", stdin=None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
