"""How many lanes step at once: measured on the real work; used by pool. The choice cannot change a lane's bits."""

from __future__ import annotations


class ChunkClock:
    """Chooses how many lanes step at once, by the time per lane measured on the real work."""

    def __init__(self, fixed: int | None = None) -> None:
        self._fixed = fixed
        self._cost: dict[int, list[float]] = {}

    def next(self, remaining: int) -> int:
        """Size of the next chunk: one not tried twice yet, else the cheapest known."""
        if self._fixed:
            return min(self._fixed, remaining)
        sizes = [s for s in (256, 128, 64, 32, 16, 8) if s < remaining] + [remaining]
        untried = [s for s in sizes if len(self._cost.get(s, ())) < 2 and s >= min(8, remaining)]
        known = [s for s in sizes if s in self._cost]
        if untried and (not known or max(untried) > remaining // 8):
            return max(untried)
        return min(known, key=lambda s: min(self._cost[s])) if known else remaining

    def record(self, size: int, seconds: float) -> None:
        """Note what one chunk of `size` lanes took for one epoch."""
        self._cost.setdefault(size, []).append(seconds / size)

    def best(self) -> int | None:
        """The cheapest size so far."""
        return min(self._cost, key=lambda s: min(self._cost[s])) if self._cost else None
