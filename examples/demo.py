"""The demo: an assistant for a small Japanese company, from its documents to cited answers.

    make demo                 sets up, then runs this; ends with the page open in the browser
    make demo </dev/null      asks the running page one more question, then ends by itself

It only calls the command `hagane`, as you would. The project lies in .demo/company afterwards; who may sign in
stands in .demo/sign-in.json, with passwords made for this folder alone.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import webbrowser
from pathlib import Path
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parent.parent
HAGANE = Path(sys.executable).parent / "hagane"
COMPANY = ROOT / ".demo" / "company"
SHEET = ROOT / ".demo" / "sign-in.json"
PORT = 8750

# (name, role, clearance, what to try)
PEOPLE = (
    ("sato", "reader", "internal", "an employee: asks, opens sources, never sees the hr documents"),
    ("mori", "reader", "confidential:hr", "personnel: sees the hr documents, too"),
    ("kato", "builder", "confidential", "brings documents in and asks for labels"),
    ("ono", "officer", "restricted:*", "reads the audit and approves lower labels"),
    ("kanri", "admin", "restricted:*", "keeps people and settings"),
)

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
    return page()


def page() -> int:
    """The same assistant on its page, for people with accounts. Open until Ctrl-C; without a terminal, one question."""
    print("\n--- the page", flush=True)
    passwords = sign_in_sheet()
    command = [HAGANE, "serve", "--project", COMPANY, "--port", str(PORT if sys.stdin.isatty() else 0)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as server:
        line = server.stdout.readline()
        if not line.startswith("listening on "):
            return server.wait() or 1
        url = line.removeprefix("listening on ").strip()
        print(f"\n{url}\n")
        for name, role, clearance, what in PEOPLE:
            print(f"  {name:6} password {passwords[name]}   {role}, {clearance}: {what}")
        try:
            if sys.stdin.isatty():
                print("\nCtrl-C ends.", flush=True)
                webbrowser.open(url)
                return server.wait()
            print(f"\n(asked through the API as sato) {ask_api(url)}", flush=True)
            return 0
        except KeyboardInterrupt:
            return 0
        finally:
            server.terminate()
            server.wait()


def sign_in_sheet() -> dict[str, str]:
    """Passwords by name; the people are made the first time."""
    if SHEET.exists():
        return json.loads(SHEET.read_text(encoding="utf-8"))
    passwords = {name: secrets.token_urlsafe(9) for name, *_ in PEOPLE}
    for name, role, clearance, _ in PEOPLE:
        command = [HAGANE, "user", "add", name, "--role", role, "--clearance", clearance, "--password-stdin", "--project", COMPANY]
        subprocess.run(command, input=passwords[name] + "\n", text=True, check=True, stdout=subprocess.DEVNULL)
    with open(os.open(SHEET, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        json.dump(passwords, out)
    return passwords


def ask_api(url: str) -> str:
    """One question to the OpenAI-compatible API; the answer with its first citation."""
    command = [HAGANE, "token", "create", "sato", "--scope", "ask", "--days", "1", "--project", COMPANY]
    token = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    body = {"model": "hagane", "messages": [{"role": "user", "content": QUESTIONS[0][1]}]}
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with urlopen(Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)) as reply:
        message = json.load(reply)["choices"][0]["message"]
    first = message["hagane"]["citations"][0]
    return f"{message['content']}\n  [{first['n']}] {first['path']}"


if __name__ == "__main__":
    sys.exit(main())
