"""A sealed index ranks as a plain one does, and its files hold neither words nor texts."""

from __future__ import annotations

import hashlib
import hmac
import random

import numpy as np
import pytest

from hagane.core.errors import StateError, StorageError
from hagane.core.labels import EVERYTHING, Clearance, Label
from hagane.core.types import Block, Chunk, Place
from hagane.index.lance import LanceIndex

WORDS = ["有給", "休暇", "申請", "経費", "精算", "領収書", "出張", "旅費", "在宅", "勤務", "手当", "給与", "査定", "昇給", "規程", "改定", "上長", "承認", "期限", "部署"]
CANARY = "極秘合言葉カナリア"


class KeyedSealer:
    """Authenticated, keyed per document; a stand-in without a cipher library: XOR with a keyed stream and a MAC."""

    form = "sealed test"

    def __init__(self, key: bytes = b"k" * 32) -> None:
        self._key = key
        self.erased: set[str] = set()

    def _stream(self, document: str, n: int) -> bytes:
        return hashlib.shake_256(self._key + document.encode()).digest(n)

    def _mac(self, document: str, data: bytes, bound: bytes) -> bytes:
        return hmac.digest(self._key, document.encode() + b"|" + bound + b"|" + data, "sha256")

    def seal(self, document: str, data: bytes, *, bound: bytes) -> bytes:
        hidden = bytes(a ^ b for a, b in zip(data, self._stream(document, len(data)), strict=True))
        return self._mac(document, hidden, bound) + hidden

    def open(self, document: str, sealed: bytes, *, bound: bytes) -> bytes:
        mac, hidden = sealed[:32], sealed[32:]
        if document in self.erased or not hmac.compare_digest(mac, self._mac(document, hidden, bound)):
            raise StorageError("sealed bytes do not fit")
        return bytes(a ^ b for a, b in zip(hidden, self._stream(document, len(hidden)), strict=True))

    def term(self, term: str) -> str:
        return hmac.digest(self._key, term.encode(), "sha256")[:16].hex()


def _chunks(n: int, seed: int = 7) -> tuple[list[Chunk], list[list[str]]]:
    rng = random.Random(seed)
    chunks, tokens = [], []
    for at in range(n):
        words = rng.choices(WORDS, k=rng.randint(4, 30))
        text = "".join(words) + (CANARY if at == 3 else "")
        label = rng.choice(["public", "internal", "confidential:hr"])
        block = Block("paragraph", text, Place(start=0, end=len(text)))
        chunks.append(Chunk(f"v{at}:0", f"d{at % 17}", f"v{at}", f"rules/{CANARY}{at}.md", Label.parse(label), 0, CANARY, (CANARY,), (block,)))
        tokens.append([*words, CANARY] if at == 3 else words)
    return chunks, tokens


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[LanceIndex, LanceIndex]:
    made = []
    for name, sealer in (("plain", None), ("sealed", KeyedSealer())):
        index = LanceIndex(tmp_path_factory.mktemp(name) / "index", sealer=sealer)
        chunks, tokens = _chunks(300)
        index.add(chunks, tokens)
        vectors = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)
        index.add_vectors([c.id for c in chunks], vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        index.optimize()
        made.append(index)
    return made[0], made[1]


@pytest.mark.parametrize("clearance", ["public", "internal", "confidential:hr", "restricted:*"])
def test_the_same_ids_in_the_same_order_with_the_same_scores(both, clearance):
    plain, sealed = both
    allowed = Clearance.parse(clearance)
    rng = random.Random(3)
    for _ in range(30):
        terms = {word: rng.choice([1.0, 1.0, 0.3]) for word in rng.sample(WORDS, 4)}
        hits = plain.by_words(terms, clearance=allowed, n=50)
        assert [(h.chunk, h.score) for h in sealed.by_words(terms, clearance=allowed, n=50)] == [(h.chunk, h.score) for h in hits]
        assert sealed.statistics(list(terms), clearance=allowed) == plain.statistics(list(terms), clearance=allowed)
        ids = [hit.chunk for hit in hits]
        assert sealed.chunks(ids, clearance=allowed) == plain.chunks(ids, clearance=allowed)


def test_the_plain_index_holds_the_canary_and_the_sealed_one_does_not(both):
    """The reader is the plain one's own: it opens every version, column, index and side file."""
    from hagane.index.erased import traces

    plain, sealed = both
    assert traces(plain.folder, CANARY)
    found = traces(sealed.folder, CANARY, _Reading())
    assert found == []
    assert sealed.verify_erased(CANARY)  # with the key it is there


class _Reading(KeyedSealer):
    """Whoever has the files but not the key: payloads are bytes like any other."""

    def open(self, document: str, sealed: bytes, *, bound: bytes) -> bytes:
        raise StorageError("no key")


def test_a_payload_moved_to_another_chunk_or_document_does_not_open(both):
    sealer = KeyedSealer()
    sealed = sealer.seal("d1", "有給休暇".encode(), bound=b"v1:0")
    assert sealer.open("d1", sealed, bound=b"v1:0").decode() == "有給休暇"
    for document, bound in (("d2", b"v1:0"), ("d1", b"v1:1")):
        with pytest.raises(StorageError):
            sealer.open(document, sealed, bound=bound)


def test_an_index_of_another_form_is_refused_and_can_be_written_anew(tmp_path):
    chunks, tokens = _chunks(20)
    plain = LanceIndex(tmp_path / "index")
    plain.add(chunks, tokens)
    plain.add_vectors([c.id for c in chunks], np.eye(20, dtype=np.float32))
    sealed = LanceIndex(tmp_path / "index", sealer=KeyedSealer())
    with pytest.raises(StateError, match="another form"):
        sealed.by_words({"有給": 1.0}, clearance=EVERYTHING, n=5)
    with pytest.raises(StateError, match="another form"):
        sealed.add(chunks, tokens)
    sealed.drop_words()
    sealed.add(chunks, tokens)
    assert sealed.by_words({"有給": 1.0}, clearance=EVERYTHING, n=5)
    assert sealed.count() == (20, 20)  # vectors stay: they hold no text and cost hours
    with pytest.raises(StateError, match="another form"):
        LanceIndex(tmp_path / "index").by_words({"有給": 1.0}, clearance=EVERYTHING, n=5)
