"""What lies in a source: files found, folders that could not be read. Paths are document paths."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path

from hagane.core.text import folded_path

SKIPPED_NAMES = frozenset({"hagane.yaml", ".hagane", ".git", ".hg", ".svn", ".DS_Store", "Thumbs.db", "desktop.ini"})


@dataclass(frozen=True, slots=True)
class Found:
    """One file of a source. `stamp` changes whenever the file's content may have."""

    path: str  # as documents carry it
    file: str  # absolute, as the system knows it
    size: int
    stamp: str  # size, modification and change time (ns), inode
    sha256: str | None = None  # where the bytes are a blob already: then this names it, and `file` only says where it lies


@dataclass(slots=True)
class Scan:
    """The files of one source, and what could not be looked at."""

    files: list[Found] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)  # document paths of folders; "" is the root itself
    asides: list[tuple[str, str, str]] = field(default_factory=list)  # path, reason, detail


@cache
def _pattern(glob: str) -> re.Pattern[str]:
    """`**` any depth, `*` and `?` within a name. Matches against the path relative to the root."""
    out, at = [], 0
    while at < len(glob):
        if glob.startswith("**/", at):
            out.append("(?:[^/]+/)*")
            at += 3
        elif glob.startswith("**", at):
            out.append(".*")
            at += 2
        elif glob[at] == "*":
            out.append("[^/]*")
            at += 1
        elif glob[at] == "?":
            out.append("[^/]")
            at += 1
        else:
            out.append(re.escape(glob[at]))
            at += 1
    return re.compile("".join(out) + r"\Z", re.DOTALL)  # a name may hold a line break


def matches(relative: str, globs: Sequence[str]) -> bool:
    """True when the path, or a folder that it lies in, matches one of `globs`."""
    parts = relative.split("/")
    heads = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    return any(_pattern(glob.rstrip("/")).match(head) for glob in globs for head in heads)


def name_of(raw: bytes) -> str:
    """A file name as text: UTF-8, else CP932, else with %XX for the bytes that are neither."""
    for encoding in ("utf-8", "cp932"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8" or text.isprintable():  # CP932 makes private signs of what is no Japanese
            return text
    text = raw.decode("utf-8", "surrogateescape")
    return "".join(f"%{ord(c) - 0xDC00:02X}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)


def document_path(file: Path, base: Path) -> str:
    """Relative to the project's folder if inside it, else absolute; `/`-separated, NFC."""
    text = "/".join(name_of(os.fsencode(part)) for part in file.parts).replace("//", "/", 1)
    root = "/".join(name_of(os.fsencode(part)) for part in base.parts).replace("//", "/", 1)
    inside = text.removeprefix(root.rstrip("/") + "/")
    return folded_path(inside)


def _walk(root: Path, scan: Scan, base: Path, *, hidden: bool) -> Iterator[tuple[os.DirEntry[str], str]]:
    stack = [(root, "")]
    while stack:
        folder, relative = stack.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            scan.unreadable.append("" if folder == root else document_path(folder, base))
            continue
        for entry in entries:
            name = f"{relative}{name_of(os.fsencode(entry.name))}"
            if entry.name in SKIPPED_NAMES or (entry.name.startswith(".") and not hidden):
                continue
            if entry.is_dir(follow_symlinks=False):
                stack.append((Path(entry.path), name + "/"))
            else:
                yield entry, name


def scan(
    root: Path, *, base: Path, include: Sequence[str] = ("**",), exclude: Sequence[str] = (), hidden: bool = False
) -> Scan:
    """All files below `root` (or `root` itself). hagane.yaml, .hagane and .git are no documents; names that
    begin with a dot only with `hidden`.

    Links are followed only to files inside `root`; other links, sockets and the like are set aside.
    """
    found = Scan()
    if root.is_file():
        _take(found, root, root, base)
        return found
    if not root.is_dir():
        found.unreadable.append("")
        return found
    for entry, relative in _walk(root, found, base, hidden=hidden):
        if matches(relative, include) and not matches(relative, exclude):
            _take(found, Path(entry.path), root, base)
    taken: set[str] = set()
    files = []
    for item in sorted(found.files, key=lambda item: (item.path, item.file)):
        if item.path in taken:
            path = next(p for n in count(2) if (p := f"{item.path} [{n}]") not in taken)
            found.asides.append((path, "unreadable", "another file has the same name in Unicode's normal form"))
        else:
            path = item.path
            files.append(item)
        taken.add(path)
    found.files = files
    return found


def _take(found: Scan, file: Path, root: Path, base: Path) -> None:
    path = document_path(file, base)
    try:
        if file.is_symlink() and root.resolve() not in file.resolve().parents:
            found.asides.append((path, "hostile", "a link that leads out of the source"))
            return
        info = file.stat()
    except (OSError, RuntimeError) as cause:  # RuntimeError: links in a circle
        found.asides.append((path, "unreadable", type(cause).__name__))
        return
    if not stat.S_ISREG(info.st_mode):
        found.asides.append((path, "unsupported", "not a regular file"))
        return
    stamp = f"{info.st_size}-{info.st_mtime_ns}-{info.st_ctime_ns}-{info.st_ino}"
    found.files.append(Found(path, str(file), info.st_size, stamp))
