"""The things everyone speaks of: document > block > chunk; place, citation, answer, message.

Offsets are characters into `Document.text`, end exclusive. For formats that *are* text (plain,
Markdown, CSV, JSON) `Document.text` is the decoded file itself (newlines as \\n, no BOM); for the
others it is the block texts in reading order, joined by newlines. Always:
`block.text == document.text[block.place.start:block.place.end]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .labels import Clearance, Label

Box = tuple[float, float, float, float]  # x0, y0, x1, y1; origin top left of the page as shown

BlockKind = Literal[
    "title", "heading", "paragraph", "list_item", "table", "row", "code", "caption", "figure",
    "header", "footer", "navigation", "meta",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a document. Only what the format has is set."""

    page: int | None = None  # counted from 1: PDF page, slide, worksheet
    box: Box | None = None  # PDF: points; image: pixels
    cell: str | None = None  # "Sheet!B3" or "Sheet!B3:D3"
    start: int | None = None  # characters into Document.text
    end: int | None = None
    start_s: float | None = None  # audio and video
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One printed line: the smallest thing that has a box. Offsets into Document.text."""

    start: int
    end: int
    page: int
    box: Box


@dataclass(frozen=True, slots=True)
class Block:
    """One structural unit, verbatim. `reading` is what a person without the layout needs
    (a table row with its headers: "品名: ノートPC、単価: 150000"); None means the text itself."""

    kind: BlockKind
    text: str
    place: Place
    level: int = 0  # heading depth 1..6, list depth from 0
    reading: str | None = None
    lines: tuple[Line, ...] = ()  # only formats with boxes

    @property
    def spoken(self) -> str:
        return self.text if self.reading is None else self.reading


@dataclass(frozen=True, slots=True)
class Document:
    """What a parser makes of one file (or one part of a container). `name` is the part's path
    inside the file ("" for the file itself, "b.md" for a zip member, "b.zip!/c.md" nested)."""

    name: str
    media: str  # media type by content, e.g. "application/pdf"
    title: str
    text: str
    blocks: tuple[Block, ...]
    pages: int = 1
    meta: Mapping[str, str] = field(default_factory=dict)  # author, date, from, to, subject, ...


@dataclass(frozen=True, slots=True)
class Aside:
    """A file or part that was set aside. `reason` is one of SourceError's words."""

    name: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes on disk that a parser may read."""

    file: str  # where the bytes lie
    path: str  # the document's path (for its title and its ending; never trusted for the type)
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """The unit of search: consecutive blocks of one document version under one heading path."""

    id: str
    document: str
    version: str
    path: str
    label: Label
    ordinal: int
    title: str
    headings: tuple[str, ...]
    blocks: tuple[Block, ...]

    @property
    def text(self) -> str:
        """Verbatim, as shown."""
        return "\n".join(block.text for block in self.blocks)

    @property
    def spoken(self) -> str:
        """Rows with their headers: what is searched, embedded and given to a model."""
        return "\n".join(block.spoken for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result of an index; `score` is comparable within one result list only."""

    chunk: str
    document: str
    score: float


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a searcher knows of some terms."""

    n_chunks: int  # chunks within the clearance
    frequencies: Mapping[str, int]  # term -> chunks holding it (may be global, DESIGN 2)


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved chunk with its fused score and why it was found."""

    chunk: Chunk
    score: float
    why: Mapping[str, float] = field(default_factory=dict)  # "words", "vectors", ... -> rank or score


@dataclass(frozen=True, slots=True)
class Citation:
    """A quote and where it stands. `quote` is verbatim at `place` of `version`."""

    n: int
    document: str
    path: str
    version: str
    label: Label
    place: Place
    quote: str


@dataclass(frozen=True, slots=True)
class Usage:
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a message. `kind` text carries `text`; image, audio and video carry `data` and `media`; a
    tool_call carries `id`, `name` and the arguments as JSON in `text`; a tool_result `id` and the result in `text`."""

    kind: Literal["text", "image", "audio", "video", "tool_call", "tool_result"]
    text: str = ""
    data: bytes = b""
    media: str = ""
    id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant", "tool"]
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, role: Literal["system", "user", "assistant", "tool"], text: str) -> Message:
        return cls(role, (Part("text", text),))

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if part.kind == "text")


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call. `parameters`: JSON Schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model wants. In a stream, a piece of one: pieces with the same `n` belong together, their
    `arguments` (JSON) one behind the other; `id` and `name` stand in the first."""

    n: int = 0
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A call of a model. `label` is required: the join of everything in `messages`. What a model cannot do
    (tools, a schema, pictures) it refuses with UsageError. None: the model's own default."""

    messages: tuple[Message, ...]
    label: Label
    max_tokens: int = 512  # 0: as many as there is room for
    temperature: float | None = 0.0
    seed: int | None = 0
    stop: tuple[str, ...] = ()
    grammar: str | None = None  # GBNF, engines that have it
    raw: bool = False  # base models: send the text of the last message without a chat template
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"  # auto, none, required, or the name of one of `tools`
    parallel_calls: bool | None = None  # several calls in one answer
    schema: Mapping[str, Any] | None = None  # JSON Schema that the answer must fit


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed answer. The last one carries `usage` and `finish`."""

    text: str = ""
    usage: Usage | None = None
    finish: Literal["stop", "length", "tool_calls", "cancelled"] | None = None
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """A piece of an answer: text (with marks `[n]`) and the citations first used in it."""

    text: str
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What `ask` says. Abstaining is a result: `abstained=True` and `why`."""

    answer: str
    abstained: bool
    why: str
    confidence: float
    label: Label
    citations: tuple[Citation, ...]
    nearest: tuple[Citation, ...]
    index: Mapping[str, float]  # share complete: {"words": 1.0, "vectors": 0.4}
    model: str
    usage: Usage
    timings_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts. Accounts come with the server; here a name of hagane.yaml."""

    name: str
    clearance: Clearance
    roles: tuple[str, ...] = ()
