"""The order of training: a pure function of (seed, epoch, step), whatever the number of processes.

Nothing is shuffled in memory: a keyed permutation (a Feistel network over the packed rows, cycle-walked to their
number) says which row stands where, both ways, so a run opens at any step at once and every row can be traced to
its step. Source of the construction: Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

U64 = NDArray[np.uint64]
_ROUNDS = 6


def _mixed(x: U64) -> U64:
    """The finaliser of SplitMix64. Source: Steele, Lea, Flood, OOPSLA 2014."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Permutation:
    """A bijection of 0 … n-1 chosen by (seed, epoch), evaluated where asked: no table, O(1) memory.

    `at` and `back` take and give integers or arrays of them and are each other's inverse. Not a secret cipher.
    """

    def __init__(self, n: int, *, seed: int, epoch: int) -> None:
        if n < 1:
            raise ValueError(f"a permutation of {n} things")
        self.n = n
        self._half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))  # bits of one half of the network
        self._mask = np.uint64((1 << int(self._half)) - 1)
        named = f"hagane order {seed} {epoch}".encode()
        self._keys = np.frombuffer(hashlib.blake2b(named, digest_size=8 * _ROUNDS).digest(), dtype="<u8")

    def at(self, places: ArrayLike) -> NDArray[np.int64]:
        """What stands at these places."""
        return self._walked(places, self._forward)

    def back(self, things: ArrayLike) -> NDArray[np.int64]:
        """The places at which these stand."""
        return self._walked(things, self._backward)

    def _walked(self, given: ArrayLike, once) -> NDArray[np.int64]:  # type: ignore[no-untyped-def]
        values = np.atleast_1d(np.asarray(given, dtype=np.int64))
        if values.size and (values.min() < 0 or values.max() >= self.n):
            raise ValueError(f"outside 0 … {self.n - 1}")
        values = values.astype(np.uint64)
        todo = np.arange(values.size)
        while todo.size:  # the network's own range is below 4 n: each turn settles more than a quarter, on average
            values[todo] = once(values[todo])
            todo = todo[values[todo] >= self.n]
        return values.astype(np.int64).reshape(np.shape(given))

    def _forward(self, x: U64) -> U64:
        left, right = x >> self._half, x & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right + key) & self._mask)
        return (left << self._half) | right

    def _backward(self, x: U64) -> U64:
        left, right = x >> self._half, x & self._mask
        for key in self._keys[::-1]:
            left, right = right ^ (_mixed(left + key) & self._mask), left
        return (left << self._half) | right


@dataclass(frozen=True, slots=True)
class State:
    """Where a run stands: all that a loader needs to go on. `step` counts from 0 within the epoch."""

    seed: int
    epoch: int = 0
    step: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """Which packed rows make which batch. `n_rows` packed rows, `batch` of them a step, over all processes.

    The last step of an epoch may have fewer rows: an epoch holds each row exactly once.
    """

    n_rows: int
    batch: int

    def __post_init__(self) -> None:
        if self.n_rows < 1 or self.batch < 1:
            raise ValueError(f"{self.n_rows} rows in batches of {self.batch}")

    @property
    def n_steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.n_rows // self.batch)

    def rows(self, state: State) -> NDArray[np.int64]:
        """The packed rows of a step, of all processes together. Raises: ValueError beyond the epoch."""
        if not 0 <= state.step < self.n_steps:
            raise ValueError(f"step {state.step} of an epoch of {self.n_steps}")
        first = state.step * self.batch
        places = np.arange(first, min(first + self.batch, self.n_rows))
        return Permutation(self.n_rows, seed=state.seed, epoch=state.epoch).at(places)

    def rows_of_rank(self, state: State, *, rank: int, world: int) -> NDArray[np.int64]:
        """Every `world`-th row of the step, from `rank` on: together the ranks have each row once."""
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world}")
        return self.rows(state)[rank::world]

    def step_of(self, row: int, *, seed: int, epoch: int) -> int:
        """The step of the epoch at which a packed row is learnt."""
        return int(Permutation(self.n_rows, seed=seed, epoch=epoch).back(row)) // self.batch

    def after(self, state: State) -> State:
        """The next step; the next epoch behind the last one."""
        if state.step + 1 < self.n_steps:
            return State(state.seed, state.epoch, state.step + 1)
        return State(state.seed, state.epoch + 1, 0)

    def state_at(self, step: int, *, seed: int) -> State:
        """The state at a step counted over all epochs."""
        return State(seed, *divmod(step, self.n_steps))
