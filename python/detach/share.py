"""Which windows of a batch one of several processes works on. Standard library only."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """The windows [start, stop) of a batch of ``whole``."""

    start: int
    stop: int
    whole: int

    @classmethod
    def of(cls, whole: int, rank: int, size: int) -> "Share":
        """That of process ``rank`` of ``size``: nearly equal, the larger ones first."""
        each, more = divmod(whole, size)
        start = rank * each + min(rank, more)
        return cls(start, start + each + (rank < more), whole)

    @property
    def rows(self) -> slice:
        """As an index."""
        return slice(self.start, self.stop)

    def __len__(self) -> int:
        return self.stop - self.start
