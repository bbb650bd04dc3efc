"""Which rows belong together: copies and near copies share a group, so that none is learnt and measured."""

from __future__ import annotations

from hagane.core.labels import PUBLIC
from hagane.prepare.dedup import DedupConfig, Item, cluster, signature
from hagane.train.dataset import copy_group
from hagane.train.words import Row

LIKENESS = 0.8  # share of common 5-character pieces: a rule and its next version belong together, too
N_NEAR = 50_000  # rows that are looked through for near copies: about a millisecond each; beyond, copies only


class NearCopies:
    """A `train.dataset.Grouping`. Numbers do not tell rows apart here: two versions of one rule are one group."""

    def __init__(self, *, likeness: float = LIKENESS, most: int = N_NEAR) -> None:
        self._config = DedupConfig(threshold=likeness)
        self._most = most
        self._keys: list[str] = []
        self._items: dict[str, Item] = {}

    @property
    def whole(self) -> bool:
        """Whether all rows were looked through for near copies."""
        return len(self._items) < self._most

    def add(self, row: Row) -> None:
        key = copy_group(row)
        self._keys.append(key)
        if key not in self._items and self.whole:
            text = "\n".join(row.texts())
            self._items[key] = Item(key, key, PUBLIC, key, signature(text), "")

    def groups(self) -> list[str]:
        merged = cluster(self._items.values(), self._config)
        return [merged[key].kept if key in merged else key for key in self._keys]
