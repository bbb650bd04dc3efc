"""OCR of scanned pages and images with the PP-OCRv6 models that `rapidocr` ships; nothing is downloaded.

One page needs 2 to 20 s and up to about 0.7 GB on one thread, so callers run at most one engine at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import SourceError
from ..core.types import Aside, Blob, Document
from .ocr_order import Found, in_order
from .pdf_blocks import Sheet, write
from .pdf_layout import Item

Pixels = NDArray[np.uint8]  # (height, width, 3), blue green red

_MEDIA = {
    "PNG": "image/png", "JPEG": "image/jpeg", "MPO": "image/jpeg", "TIFF": "image/tiff",
    "WEBP": "image/webp", "BMP": "image/bmp", "GIF": "image/gif",
}  # fmt: skip
_MAX_PIXELS = 150_000_000  # of one picture; above that it is set aside
_READ_PIXELS = 24_000_000  # larger ones are made smaller before they are read
_MAX_FRAMES = 500
_GROW = 2.0  # the most that a small picture is enlarged
_POOR = 0.7
_DOUBTFUL = 0.8  # confidence under which a line is counted as doubtful


@dataclass(frozen=True, slots=True)
class Scan:
    """One page read by OCR. `confidence` is the mean over signs, 0..1."""

    items: list[Item]
    confidence: float
    n_chars: int
    n_doubtful: int  # lines under 0.8


class OcrEngine:
    """Detector and recogniser, loaded on first use (1.5 s).

    `detect_side`: the detector sees the page no larger than this (pixels; memory grows with its square);
    the recogniser reads cut-outs of the full picture. Lines under `least` confidence are dropped.
    """

    name = "rapidocr"

    def __init__(self, *, threads: int = 1, detect_side: int = 1600, least: float = 0.5) -> None:
        self._threads = threads
        self._detect_side = detect_side
        self._least = least
        self._engine: Any = None

    def read(self, image: NDArray[np.uint8], *, scale: float = 1.0) -> Scan:
        """Writing on an image ((h, w), (h, w, 3) BGR or (h, w, 4)) in reading order; boxes are pixels * scale."""
        found = self._found(_three_channels(image))
        scaled = [
            Found(f.text, tuple((x * scale, y * scale) for x, y in f.quad), f.confidence)  # type: ignore[arg-type]
            for f in found
        ]
        n_chars = sum(len(f.text) for f in scaled)
        mean = sum(f.confidence * len(f.text) for f in scaled) / n_chars if n_chars else 0.0
        return Scan(in_order(scaled), mean, n_chars, sum(f.confidence < _DOUBTFUL for f in scaled))

    def _found(self, image: Pixels) -> list[Found]:
        import cv2

        engine = self._load()
        height, width = image.shape[:2]
        if min(height, width) < 8:
            return []
        resize = min(_GROW, self._detect_side / max(height, width))
        if resize > 1.0:  # small print is read better when it is larger: 7.8 to 5 % errors at 12 pixels a sign
            image = cv2.resize(image, None, fx=resize, fy=resize, interpolation=cv2.INTER_CUBIC)
            seen, shrink = image, 1.0
        else:
            seen = cv2.resize(image, None, fx=resize, fy=resize, interpolation=cv2.INTER_AREA)
            shrink = resize
        detected = engine._load_det_model()(np.ascontiguousarray(seen))
        if detected.boxes is None or len(detected.boxes) == 0:
            return []
        quads = np.asarray(detected.boxes, dtype=np.float32) / shrink
        cuts = engine.crop_text_regions(image, quads)
        texts, scores = self._recognised(engine, cuts)
        grown = max(1.0, resize)
        return [
            Found(text, tuple((float(x) / grown, float(y) / grown) for x, y in quad), score)  # type: ignore[arg-type]
            for quad, text, score in zip(quads, texts, scores, strict=True)
            if text.strip() and score >= self._least
        ]

    def _recognised(self, engine: Any, cuts: Sequence[Pixels]) -> tuple[list[str], list[float]]:
        """Texts and confidences; what reads badly is tried upside down. (The shipped direction classifier
        turns upright Japanese lines now and then, so it is not asked.)"""
        from rapidocr.ch_ppocr_rec import TextRecInput

        recognise = engine._load_rec_model()
        result = recognise(TextRecInput(img=list(cuts), return_word_box=False))
        texts, scores = list(result.txts), [float(score) for score in result.scores]
        poor = [at for at, score in enumerate(scores) if score < _POOR]
        if poor:
            turned = recognise(TextRecInput(img=[np.rot90(cuts[at], 2) for at in poor], return_word_box=False))
            for at, text, score in zip(poor, turned.txts, turned.scores, strict=True):
                if score > scores[at] + 0.1:
                    texts[at], scores[at] = text, float(score)
        return texts, scores

    def _load(self) -> Any:
        if self._engine is None:
            from rapidocr import RapidOCR

            self._engine = RapidOCR(
                params={
                    "Global.log_level": "critical",
                    "EngineConfig.onnxruntime.intra_op_num_threads": self._threads,
                    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                    "Rec.rec_batch_num": 2,
                }
            )
        return self._engine


def _three_channels(image: NDArray[np.uint8]) -> Pixels:
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    elif image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    return np.ascontiguousarray(image[:, :, :3])


class ImageParser:
    """Parser of PNG, JPEG, TIFF (each picture a page), WebP, BMP and GIF (first picture). Boxes are pixels."""

    def __init__(self, ocr: OcrEngine | None = None) -> None:
        self._ocr = ocr or OcrEngine()

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """Raises: SourceError damaged, too_large, unsupported, empty."""
        sheets: list[Sheet] = []
        scans: list[Scan] = []
        media = ""
        for kind, image, scale in _pictures(Path(blob.file)):
            scan = self._ocr.read(image, scale=scale)
            scans.append(scan)
            media = kind
            height, width = image.shape[:2]
            sheets.append(Sheet(len(sheets) + 1, width * scale, height * scale, scan.items, scanned=True))
        written = write(sheets)
        if not written.text.strip():
            raise SourceError("no text in the picture", reason="empty", hint="nothing to read in this file")
        title = next((b.text for b in written.blocks if b.kind in ("title", "heading")), "")
        yield Document(
            name="", media=media, title=title or PurePosixPath(blob.path).stem, text=written.text,
            blocks=written.blocks, pages=len(sheets), meta=ocr_meta(scans),
        )  # fmt: skip


def ocr_meta(scans: Sequence[Scan]) -> dict[str, str]:
    """What a document's meta says of its OCR: engine, mean confidence over signs, doubtful lines."""
    n_chars = sum(scan.n_chars for scan in scans) or 1
    mean = sum(scan.confidence * scan.n_chars for scan in scans) / n_chars
    return {
        "ocr": OcrEngine.name,
        "ocr_confidence": f"{mean:.3f}",
        "ocr_doubtful_lines": str(sum(scan.n_doubtful for scan in scans)),
    }


def _pictures(path: Path) -> Iterator[tuple[str, Pixels, float]]:
    """(media type, pixels as BGR, file pixels per pixel) of each picture in the file."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            media = _MEDIA.get(file.format or "")
            if media is None:
                raise SourceError(f"pictures of type {file.format} are not read", reason="unsupported")
            n_frames = getattr(file, "n_frames", 1) if media == "image/tiff" else 1
            if n_frames > _MAX_FRAMES:
                raise SourceError(f"{n_frames} pictures, more than {_MAX_FRAMES}", reason="too_large")
            for at in range(n_frames):
                file.seek(at)
                if file.width * file.height > _MAX_PIXELS:
                    raise SourceError(f"{file.width} x {file.height} pixels", reason="too_large")
                image = ImageOps.exif_transpose(file)
                shrink = max(1.0, (image.width * image.height / _READ_PIXELS) ** 0.5)
                if shrink > 1.0:
                    image = image.resize((int(image.width / shrink), int(image.height / shrink)))
                yield media, _on_white(image), shrink
    except Image.DecompressionBombError as cause:
        raise SourceError("a picture too large to open", reason="too_large") from cause
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as cause:
        raise SourceError("not a readable picture", reason="damaged", hint="open and save it again") from cause


def _on_white(image: Any) -> Pixels:
    from PIL import Image

    if image.mode.startswith("I;16") or image.mode == "I":  # 16 bits of grey
        deep = np.asarray(image, dtype=np.float32)
        image = Image.fromarray((deep / max(1.0, float(deep.max())) * 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
