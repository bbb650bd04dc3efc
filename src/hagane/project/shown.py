"""A shown document as text and as JSON."""

from __future__ import annotations

from typing import Any

from hagane.core.codec import place_shown
from hagane.core.errors import NotFoundError

from .documents import Shown


def _on(shown: Shown, page: int | None) -> list[tuple[int, Any]]:
    blocks = [(at, b) for at, b in enumerate(shown.document.blocks) if page is None or (b.place.page or 1) == page]
    if page is not None and not blocks and page > shown.document.pages:
        raise NotFoundError(f"there is no page {page}; the last one is {shown.document.pages}")
    return blocks


def shown_json(shown: Shown, *, page: int | None) -> dict[str, Any]:
    """Everything that is known of the version; `blocks` of one page when `page` is given."""
    record, document = shown.record, shown.document
    return {
        "id": record.id,
        "path": shown.version.path,
        "title": document.title,
        "media": document.media,
        "label": str(shown.version.label),
        "version": shown.version.id,
        "current": shown.version.current,
        "sha256": shown.version.sha256,
        "pages": document.pages,
        "meta": dict(document.meta),
        "versions": [
            {"id": v.id, "seq": v.seq, "current": v.current, "created_at": v.created_at} for v in shown.versions
        ],
        "text": document.text,
        "blocks": [
            {
                "kind": block.kind,
                "level": block.level,
                "text": block.text,
                "reading": block.reading,
                "place": place_shown(block.place),
                "left_out": shown.dropped.get(at),
            }
            for at, block in _on(shown, page)
        ],
    }


def shown_text(shown: Shown, *, page: int | None) -> str:
    """Readable: pages named, headings marked, what is not searched in brackets."""
    record, version = shown.record, shown.version
    state = "current" if version.current else "old version"
    lines = [f"{shown.document.title}", f"{version.path}  [{version.label}]  version {version.id} ({state}, {version.created_at[:10]})", ""]
    last = None
    for at, block in _on(shown, page):
        where = block.place.page
        if where != last and where is not None and shown.document.pages > 1:
            lines += ["", f"--- {where} / {shown.document.pages}"]
        last = where
        mark = "#" * block.level + " " if block.kind in ("heading", "title") and not block.text.startswith("#") else ""
        reason = shown.dropped.get(at)
        lines.append(f"{mark}{block.text}" + (f"   [not searched: {reason}]" if reason else ""))
    if record.state == "duplicate" and record.duplicate_of:
        lines.append(f"\nsearched as its copy {record.duplicate_of}")
    return "\n".join(lines)
