"""What sync has to do: files that came, changed, moved or left, and what it refuses to delete."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hagane.core.labels import Label, join
from hagane.ledger.files import Seen
from hagane.ledger.ledger import Ledger
from hagane.ledger.records import Record

from .scan import Found, Scan, scan


@dataclass(frozen=True, slots=True)
class Source:
    """A source of hagane.yaml, resolved; or the uploads, whose files are `listed` and not looked for in a folder.
    `base` is the project's folder."""

    name: str
    root: Path
    base: Path
    label: Label
    include: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()
    hidden: bool = False
    listed: tuple[Found, ...] | None = None
    floors: Mapping[str, str] = field(default_factory=dict)  # path -> label of the file's own; joins its documents' marks


class Guards(Protocol):
    """What `find_changes` needs of the settings."""

    mark: str
    max_lost: int
    max_lost_share: float


@dataclass(frozen=True, slots=True)
class Work:
    """A file to prepare. `document` is the id that it has or gets."""

    source: str
    path: str
    file: str
    stamp: str
    document: str
    blob: str | None = None  # sha256, where the bytes are kept as a blob already


@dataclass(slots=True)
class Changes:
    """One sync's work."""

    added: list[Work] = field(default_factory=list)
    changed: list[Work] = field(default_factory=list)
    renamed: list[tuple[Seen, Found]] = field(default_factory=list)
    removed: list[Seen] = field(default_factory=list)
    removed_documents: list[Record] = field(default_factory=list)
    touched: list[Seen] = field(default_factory=list)  # same bytes, new stamp
    asides: list[tuple[Seen, str, str]] = field(default_factory=list)  # found, but not to be opened: reason, detail
    refused: list[dict[str, Any]] = field(default_factory=list)
    replaced: bool = False  # one of `asides` was a document before
    unchanged: list[str] = field(default_factory=list)  # paths

    @property
    def takes_away(self) -> bool:
        """Whether something leaves that must leave no bytes behind."""
        return bool(self.removed or self.changed or self.replaced)

    @property
    def anything(self) -> bool:
        return bool(self.added or self.changed or self.renamed or self.removed or self.asides)

    def counts(self) -> dict[str, int]:
        """Numbers for the audit log."""
        names = ("added", "changed", "renamed", "removed")
        return {name: len(getattr(self, name)) for name in names}


def find_changes(ledger: Ledger, sources: Sequence[Source], guards: Guards, *, yes: bool) -> Changes:
    """Compare what lies in `sources` with what the ledger saw last. Reads files only where the stamp differs."""
    changes = Changes()
    for source in sources:
        _compare(ledger, source, guards, changes, yes=yes)
    names = {source.name for source in sources}
    for name in ledger.files.sources():
        if name not in names:
            _remove(ledger, name, list(ledger.files.every(name).values()), guards, changes, yes=yes, why="not in hagane.yaml any more")
    return changes


def _compare(ledger: Ledger, source: Source, guards: Guards, changes: Changes, *, yes: bool) -> None:
    seen = ledger.files.every(source.name)
    if source.listed is not None:
        found, yes = Scan(files=list(source.listed)), True  # whoever takes an upload away means it
    else:
        found = scan(source.root, base=source.base, include=source.include, exclude=source.exclude, hidden=source.hidden)
    missing = "" in found.unreadable
    if missing and not yes:
        why = "missing or unreadable"
        changes.refused.append({"source": source.name, "why": why, "paths": sorted(seen)})
        return
    blind = () if yes else tuple(f"{folder}/" for folder in found.unreadable if folder)
    if blind:
        changes.refused.append({"source": source.name, "why": "unreadable folder", "paths": [b[:-1] for b in blind]})
    here = {item.path for item in found.files} | {path for path, _, _ in found.asides}
    gone = {path: row for path, row in seen.items() if path not in here and not path.startswith(blind or ("\0",))}
    new: list[Found] = []
    for item in found.files:
        before = seen.get(item.path)
        if before is None:
            new.append(item)
        elif (before.stamp, before.mark) == (item.stamp, guards.mark):
            changes.unchanged.append(item.path)
        elif before.mark == guards.mark and before.sha256 and before.sha256 == (item.sha256 or _sha256(item.file)):
            changes.unchanged.append(item.path)
            changes.touched.append(_stamped(before, item.stamp))
        else:
            changes.changed.append(Work(source.name, item.path, item.file, item.stamp, before.document, item.sha256))
    if source.listed is None:  # equal bytes uploaded by someone else are no renaming: marks and history stay with theirs
        new = _find_renamed(new, gone, guards, changes)
    _remove(ledger, source.name, list(gone.values()), guards, changes, yes=yes, why="lost many documents at once")
    free = {record.id for record in changes.removed_documents}
    ids = ledger.documents.new_ids(source.name, [item.path for item in new], free=free)
    changes.added += [Work(source.name, item.path, item.file, item.stamp, ids[item.path], item.sha256) for item in new]
    _find_asides(ledger, source, found.asides, seen, guards, changes, free=free)


def _find_renamed(new: list[Found], gone: dict[str, Seen], guards: Guards, changes: Changes) -> list[Found]:
    """Take pairs of equal bytes out of `new` and `gone`; what stays of `new`."""
    by_content: dict[str, list[Seen]] = {}
    for path in sorted(gone, reverse=True):
        row = gone[path]
        if row.sha256 and row.mark == guards.mark:
            by_content.setdefault(row.sha256, []).append(row)
    if not by_content:
        return new
    left = []
    for item in new:
        twins = by_content.get(_sha256(item.file) or "")
        if twins:
            row = twins.pop()
            del gone[row.path]
            changes.renamed.append((row, item))
        else:
            left.append(item)
    return left


def _find_asides(
    ledger: Ledger, source: Source, asides: Iterable[tuple[str, str, str]], seen: dict[str, Seen], guards: Guards,
    changes: Changes, *, free: Collection[str],
) -> None:  # fmt: skip
    for path, reason, detail in asides:
        stamp = f"aside {reason}"
        before = seen.get(path)
        if before is not None and before.stamp == stamp:
            changes.unchanged.append(path)
            continue
        changes.replaced = changes.replaced or before is not None
        document = before.document if before else ledger.documents.new_ids(source.name, [path], free=free)[path]
        changes.asides.append((Seen(source.name, path, document, stamp, "", guards.mark), reason, detail))


def _remove(
    ledger: Ledger, source: str, gone: list[Seen], guards: Guards, changes: Changes, *, yes: bool, why: str
) -> None:
    """Take `gone` for deletion, unless that is more than a source may lose at once."""
    if not gone:
        return
    ids = {row.document for row in gone}
    documents = list(ledger.documents.every_unfiltered(source=source))
    lost = [record for record in documents if (record.parent or record.id) in ids]
    if len(lost) > guards.max_lost and len(lost) > guards.max_lost_share * len(documents) and not yes:
        changes.refused.append({"source": source, "why": why, "paths": [record.path for record in lost]})
        return
    changes.removed += gone
    changes.removed_documents += lost


def floors_of(ledger: Ledger, changes: Changes, labels: Mapping[str, Label]) -> dict[str, dict[str, str]]:
    """By source and path: the label that a new document must carry as its own mark, because the file at this
    path was known under another source. `labels`: what each source gives. Else to rename a source, or to add
    its folder once more, would lower labels without anybody's approval."""
    new: dict[str, set[str]] = {}
    for item in (*changes.added, *(seen for seen, _, _ in changes.asides)):
        new.setdefault(item.path, set()).add(item.source)
    floors: dict[str, dict[str, str]] = {}
    if not new or len({*ledger.files.sources(), *labels}) < 2:
        return floors
    records = list(ledger.documents.every_unfiltered())
    files = {record.id: record.path for record in records if not record.parent}
    for record in records:
        held = join(record.source_label, record.inherited, *([record.mark] if record.mark else []))
        for source in new.get(files.get(record.parent or record.id, ""), set()) - {record.source}:
            floor = held if labels[source].lowers(held) else record.mark
            if floor is not None:
                mine = floors.setdefault(source, {})
                mine[record.path] = str(join(floor, *([Label.parse(mine[record.path])] if record.path in mine else [])))
    return floors


def _stamped(row: Seen, stamp: str) -> Seen:
    return Seen(row.source, row.path, row.document, stamp, row.sha256, row.mark)


def _sha256(file: str) -> str | None:
    """None when the file cannot be read (it is then prepared, and set aside with its reason)."""
    try:
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None
