"""Nobody sees anything above a clearance: not in passages, answers, citations, logs, errors, nor in the audit log.

Each document holds a word of its own, in its text, its title and its path; whatever comes out for someone who
may not see the document must not hold that word.
"""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from small_company import Folder

from hagane.core.errors import HaganeError, NotFoundError, RefusedError
from hagane.core.labels import PUBLIC, Clearance, Label
from hagane.core.types import Block, Chunk, Place, Principal
from hagane.index.memory import MemoryIndex
from hagane.index.words import Ngram
from hagane.models.fake import HashEmbedder
from hagane.project import documents
from hagane.project.questions import Conversation, Turn, answer_shown, search
from hagane.project.wire import Project
from hagane.rag.answer import AnswerConfig, Answers
from hagane.rag.retrieve import RetrieveConfig, Retriever

LABELS = ("public", "internal", "internal:hr", "confidential", "confidential:hr", "confidential:hr+board", "restricted:board")
CLEARANCES = ("public", "internal", "internal:hr", "confidential:hr", "confidential:board", "restricted", "restricted:*")
WORDS = ("給与", "出張", "休暇", "会議室", "監査", "採用")


def word_of(number: int) -> str:
    """The word that only document `number` holds."""
    return f"鍵{number:04}鍵"


def text_of(number: int, words: Sequence[str]) -> str:
    first, last = words[0], words[-1]
    return f"{first}の規程である。{first}と{last}は{word_of(number)}により課長が承認する。期限は{number % 27 + 1}日とする。"


def chunk_of(number: int, label: str, words: Sequence[str]) -> Chunk:
    text = text_of(number, words)
    block = Block("paragraph", text, Place(start=0, end=len(text)))
    document = f"d_{number:016x}"
    version = f"{number:012x}"
    title, path = f"{words[0]} {word_of(number)}", f"規程/{word_of(number)}.md"
    return Chunk(f"{version}:0", document, version, path, Label.parse(label), 0, title, (title,), (block,))


class Recorder(logging.Handler):
    """Everything that the house logs, as text."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.getMessage()} {getattr(record, 'fields', {})!r}")


@pytest.fixture
def log() -> Iterator[Recorder]:
    logger, recorder = logging.getLogger("hagane"), Recorder()
    before = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(recorder)
    yield recorder
    logger.removeHandler(recorder)
    logger.setLevel(before)


def without_question(shown: dict[str, Any]) -> str:
    """As it is printed, but for what only echoes the asker's own words."""
    return json.dumps({key: value for key, value in shown.items() if key != "terms"}, ensure_ascii=False)


class Memory:
    """A project without a disk: the in-memory store behind the real verbs."""

    def __init__(self) -> None:
        self.labels: dict[int, Label | None] = {}  # None: deleted
        self.index = MemoryIndex()
        self.embedder = HashEmbedder(16)
        analyzer = Ngram()
        self.analyzer = analyzer
        self.retriever = Retriever(self.index, analyzer, embedder=self.embedder, config=RetrieveConfig(n=6))
        self.audit: list[str] = []
        self.watchers: list = []
        self.config = SimpleNamespace(answer=AnswerConfig(threshold=0.2))
        self.turns = threading.Semaphore(2)
        marks = SimpleNamespace(readable=lambda ids, *, clearance: set(ids))  # no second look: the search alone must hold
        audit = SimpleNamespace(record=lambda act, **fields: self.audit.append(f"{act} {fields!r}"), digest=lambda text: "0" * 64)
        talks = SimpleNamespace(written=lambda: None, standing=lambda ids: dict.fromkeys(ids, PUBLIC))
        self.ledger = SimpleNamespace(marks=marks, audit=audit, conversations=talks)

    def answers(self, answerer: str | None = None) -> Answers:
        return Answers(self.analyzer, config=AnswerConfig(threshold=0.2), embedder=self.embedder)

    def require_synced(self) -> None:
        pass

    def share_complete(self) -> dict[str, float]:
        return {"words": 1.0, "vectors": 1.0}

    def add(self, label: str, words: Sequence[str]) -> None:
        number = len(self.labels)
        chunk = chunk_of(number, label, words)
        self.labels[number] = chunk.label
        self.index.add([chunk], [self.analyzer.tokens(f"{chunk.title}\n{chunk.text}")])
        self.index.add_vectors([chunk.id], self.embedder.embed([chunk.text], kind="passage"))

    def relabel(self, which: int, label: str) -> None:
        if self.labels:
            number = which % len(self.labels)
            if self.labels[number] is not None:
                self.labels[number] = Label.parse(label)
            self.index.relabel(f"d_{number:016x}", Label.parse(label))

    def delete(self, which: int) -> None:
        if self.labels:
            number = which % len(self.labels)
            self.labels[number] = None
            self.index.delete([f"d_{number:016x}"], purge=True)

    def hidden(self, clearance: Clearance) -> list[str]:
        return [word_of(n) for n, label in self.labels.items() if label is None or not label.flows_to(clearance)]


def check_answer(answer: Any, by: Principal) -> None:
    """Labels: of each citation within the clearance, of the answer above all of them."""
    assert answer.label.flows_to(by.clearance)
    for citation in (*answer.citations, *answer.nearest):
        assert citation.label.flows_to(by.clearance)
        assert citation.label.flows_to(answer.label)


def read(project: Any, by: Principal, question: str, kind: str, talks: dict[str, Conversation]) -> str:
    """One case: what a search, a first question or a further one shows, as text."""
    if kind == "search":
        shown = search(project, question, by=by)
        assert all(Label.parse(p["label"]).flows_to(by.clearance) for p in shown["passages"])
        return without_question(shown)
    talk = talks.get(by.name) if kind == "follow" else None
    if talk is None or not talk.label.flows_to(by.clearance):
        talk = talks[by.name] = Conversation(project, by=by)
    answer = talk.ask(question)
    check_answer(answer, by)
    assert answer.label.flows_to(talk.label)
    return without_question(answer_shown(answer))


_number = st.integers(0, 40)
_words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=2)
_reads = st.tuples(st.sampled_from(("search", "ask", "follow")), st.sampled_from(CLEARANCES), _words, st.booleans(), _number)
_writes = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(LABELS), _words),
    st.tuples(st.just("relabel"), _number, st.sampled_from(LABELS)),
    st.tuples(st.just("delete"), _number),
)
_story = st.tuples(
    st.lists(st.tuples(st.just("add"), st.sampled_from(LABELS), _words), min_size=3, max_size=8),
    st.lists(st.one_of(_reads, _reads, _writes), min_size=20, max_size=60),
)


def play(story: tuple[list[Any], list[Any]], log: Recorder) -> int:
    """Run the operations; the number of reads. Every leak fails here."""
    first, then = story
    memory = Memory()
    talks: dict[str, Conversation] = {}
    n_reads = 0
    for act, *given_values in (*first, *then):
        if act in ("add", "relabel", "delete"):
            getattr(memory, act)(*given_values)
            continue
        name, words, names_secret, which = given_values
        by = Principal(name, Clearance.parse(name))
        question = "と".join(words) + "は誰が承認しますか"
        if names_secret:
            question = f"{word_of(which)}の{question}"
        log.lines.clear()
        memory.audit.clear()
        shown = read(memory, by, question, act, talks)
        everything = "\n".join([shown, *log.lines, *memory.audit])
        leaks = [word for word in memory.hidden(by.clearance) if word in everything]
        assert not leaks, f"{name} saw {leaks} by {act}"
        n_reads += 1
    return n_reads


def run_stories(log: Recorder, *, n_stories: int, phases: Sequence[Phase] = tuple(Phase)) -> int:
    counted = 0

    @settings(
        max_examples=n_stories, deadline=None, derandomize=True, database=None, phases=phases,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(_story)
    def stories(story: tuple[list[Any], list[Any]]) -> None:
        nonlocal counted
        counted += play(story, log)

    stories()
    return counted


def test_nothing_above_a_clearance_in_hundreds_of_cases(log: Recorder) -> None:
    assert run_stories(log, n_stories=45) >= 300


@pytest.mark.long
def test_nothing_above_a_clearance_in_ten_thousand_cases(log: Recorder) -> None:
    """Acceptance 10, the in-memory store."""
    n_cases = run_stories(log, n_stories=1200)
    print(f"{n_cases:,} cases")
    assert n_cases >= 10_000


def test_cases_would_notice_a_store_that_forgets_the_clearance(log: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: a store that shows all is caught."""
    for name in ("by_words", "by_vector", "chunks"):
        original = getattr(MemoryIndex, name)

        def blind(self: Any, *given_values: Any, clearance: Clearance, original: Any = original, **named: Any) -> Any:
            return original(self, *given_values, clearance=Clearance.parse("restricted:*"), **named)

        monkeypatch.setattr(MemoryIndex, name, blind)
    with pytest.raises(AssertionError):
        run_stories(log, n_stories=25, phases=[Phase.generate])


def test_conversation_above_the_clearance_is_refused(log: Recorder) -> None:
    """What was said to the personnel office is not gone on with by staff."""
    memory = Memory()
    memory.add("confidential:hr", ["給与"])
    talk = Conversation(memory, by=Principal("hr", Clearance.parse("confidential:hr")))
    talk.ask("給与は誰が承認しますか")
    assert str(talk.label) == "confidential:hr"
    with pytest.raises(RefusedError) as refused:
        Conversation(memory, by=Principal("staff", Clearance.parse("internal")), history=talk.turns)
    assert word_of(0) not in f"{refused.value} {refused.value.hint}"
    harmless = [Turn("休暇は何日ですか", Label.parse("internal"))]
    assert Conversation(memory, by=Principal("staff", Clearance.parse("internal")), history=harmless).label == Label.parse("internal")


# --- LanceDB, the whole project

YAML = """\
version: 1
labels: {default: internal, compartments: [hr, board]}
sources:
  - {name: open, path: open/, label: public}
  - {name: rules, path: rules/}
  - {name: hr, path: hr/, label: "confidential:hr"}
  - {name: board, path: board/, label: "restricted:board"}
principals:
  owner: {clearance: "restricted:*"}
  second: {clearance: "restricted:*"}
  guest: {clearance: public}
  staff: {clearance: internal}
  hr: {clearance: "confidential:hr"}
  board: {clearance: "restricted:board"}
embedder: {name: fake}
parse: {workers: 1}
index: {analyzer: ngram}
answer: {threshold: 0.2}
"""
PEOPLE = ("guest", "staff", "hr", "board", "owner")
RAISED = ("internal", "internal:hr", "confidential", "confidential:hr+board", "restricted:board")


class Company:
    """A project on disk, and which document holds which word."""

    def __init__(self, folder: Folder, n: int, chance: random.Random) -> None:
        self.folder, self.chance, self.n = folder, chance, 0
        folder.write("hagane.yaml", YAML)
        for _ in range(n):
            self.add()

    def add(self) -> None:
        words = self.chance.sample(WORDS, 2)
        where = self.chance.choice(("open", "rules", "hr", "board"))
        text = f"# {words[0]} {word_of(self.n)}\n\n{text_of(self.n, words)}\n"
        self.folder.write(f"{where}/{word_of(self.n)}.md", text)
        self.n += 1

    def delete(self) -> None:
        files = sorted(self.folder.path.glob("*/鍵*.md"))
        self.chance.choice(files).unlink()

    def change_label(self) -> None:
        """Someone raises a label, or asks for a lower one and someone else approves."""
        row = self.chance.choice(list(self.folder.docs().values()))
        by = self.chance.choice(("owner", "board", "hr"))
        to = self.chance.choice((*RAISED, row["label"], "public"))
        try:
            made = self.folder.run(documents.relabel, row["id"], to, by=by, reason="試験")
        except NotFoundError:  # above the clearance of `by`; the words of errors are checked in `every_way`
            return
        if made["request"] and self.chance.random() < 0.7:
            self.folder.run(documents.approve, made["request"], by="second")

    def hidden(self, project: Project, clearance: Clearance) -> set[str]:
        rows = project.ledger.documents.every_unfiltered()
        seen = {row.path.rpartition("/")[2].removesuffix(".md") for row in rows if row.label.flows_to(clearance)}
        return {word_of(n) for n in range(self.n)} - seen


def every_way(project: Project, by: Principal, question: str, row: Any, log: Recorder) -> str:
    """What the verbs show of a question, of the list, and of a document that may be hidden."""
    talk = Conversation(project, by=by)
    answers = [talk.ask(question), talk.ask("その期限はいつですか")]
    for answer in answers:
        check_answer(answer, by)
    told = [without_question(answer_shown(answer)) for answer in answers]
    told.append(without_question(search(project, question, by=by)))
    told.append(json.dumps(documents.docs(project, by=by), ensure_ascii=False))
    told.append(json.dumps(documents.requests(project, by=by), ensure_ascii=False, default=str))
    for doc, version in ((row.id, None), (".md", None), (row.id, row.version), (row.id[:8], row.version)):
        try:
            told.append(documents.show(project, doc, by=by, version=version).document.text)
        except HaganeError as error:
            told.append(f"{error} {error.hint}")
    try:
        told.append(str(documents.relabel(project, row.id, "restricted:hr+board", by=by, reason="鍵")) if by.name == "guest" else "")
    except HaganeError as error:
        told.append(f"{error} {error.hint}")
    return "\n".join([*told, *log.lines])


def check_company(company: Company, log: Recorder, *, n_cases: int) -> int:
    """Every principal, random questions; the number of cases (five reads each)."""
    with Project.open(company.folder.path) as project:
        rows = [row for row in project.ledger.documents.every_unfiltered() if row.state == "in"]
        for at in range(n_cases):
            by = project.principal(PEOPLE[at % len(PEOPLE)])
            row = company.chance.choice(rows)
            words = company.chance.sample(WORDS, 2)
            secret = word_of(company.chance.randrange(company.n)) if at % 2 else ""
            hidden = company.hidden(project, by.clearance)
            if by.name == "guest" and row.label.flows_to(by.clearance):
                row = next(r for r in rows if not r.label.flows_to(by.clearance))
            log.lines.clear()
            shown = every_way(project, by, f"{secret}{words[0]}と{words[1]}は誰が承認しますか", row, log)
            leaks = sorted(word for word in hidden if word in shown)
            assert not leaks, f"{by.name} saw {leaks}"
            assert counted(project, hidden, by) == {}
        audit = (project.state / "audit/log.jsonl").read_text()
    assert "鍵0" not in audit
    return n_cases


def counted(project: Project, hidden: set[str], by: Principal) -> dict[str, int]:
    """How many chunks hold the number of a hidden word, as far as `by` may know: none."""
    numbers = [word.strip("鍵") for word in hidden]
    known = project.index.statistics(numbers, clearance=by.clearance).frequencies
    return {number: n for number, n in known.items() if n}


def test_nothing_above_a_clearance_on_disk(company: Folder, log: Recorder) -> None:
    """LanceDB, ledger and all verbs: 20 cases, between them labels that rise and fall, a deletion and an addition."""
    world = Company(Folder(company.path / "labels"), 10, random.Random(5))
    world.folder.sync()
    assert check_company(world, log, n_cases=10) == 10
    for _ in range(3):
        world.change_label()
    assert check_company(world, log, n_cases=10) == 10


@pytest.mark.long
def test_nothing_above_a_clearance_on_disk_in_hundreds_of_cases(company: Folder, log: Recorder) -> None:
    """Acceptance 10, LanceDB."""
    world = Company(Folder(company.path / "labels"), 24, random.Random(10))
    world.folder.sync()
    n_cases = 0
    for _ in range(15):
        for _ in range(3):
            world.change_label()
        world.add()
        world.delete()
        n_cases += check_company(world, log, n_cases=6)  # labels are known to the ledger, files not yet synced
        world.folder.sync()
        n_cases += check_company(world, log, n_cases=16)
    print(f"{n_cases} cases")
    assert n_cases >= 300
