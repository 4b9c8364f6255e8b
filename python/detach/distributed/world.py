"""The processes that train one run together, and what they tell each other."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from detach.errors import DataError, DetachError, MachineError, UsageError, elsewhere
from detach.share import Share

TIMEOUT_S = 600.0
"""How long a process waits for the others; the variable DETACH_TIMEOUT_S says otherwise."""
ANSWER_S = 5.0
"""How long the others have to say that they lost contact too, before one is called absent."""
POLL_S = 0.05

T = TypeVar("T")

# torch 2.13 has given them other names.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


class World:
    """One process among ``size``; by itself where nothing else is said.

    All processes must call the same methods in the same order. Errors of the connection end in a
    MachineError that names the process which did not answer.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        *,
        store: Any = None,
        group: Any = None,
        control: Any = None,
    ) -> None:
        """``group`` joins tensors where they are, ``control`` those on the CPU; None: default."""
        self.rank = rank
        self.size = size
        self.group, self._control = group, control
        self._store = store
        self._turn = 0

    @property
    def alone(self) -> bool:
        """Whether this is the only process."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def __deepcopy__(self, _: Any) -> "World":
        """Copies of a network belong to the same world."""
        return self

    def share(self, count: int) -> Share:
        """This process's windows of ``count``."""
        return Share.of(count, self.rank, self.size)

    def shares(self, count: int) -> list[Share]:
        """Those of all processes."""
        return [Share.of(count, r, self.size) for r in range(self.size)]

    def gather(self, x: Tensor, count: int | None = None) -> Tensor:
        """Rows of all processes [count, ...] from this one's [n, ...], with exact gradients.

        The gradient of a row is the sum of what all processes send back for it. ``count`` is known
        where `share` cut the batch; without it the processes exchange how many rows they have.

        Raises:
            ValueError: Some process has another number of rows than its share of the batch.
            MachineError: A process did not answer.
        """
        count = self.count_rows(len(x), count)
        if self.alone:
            return x
        gathered: Tensor = _Gather.apply(x, self, count)  # type: ignore[no-untyped-call]
        return gathered

    def collect(self, x: Tensor, count: int | None = None) -> Tensor:
        """As `gather`, without a gradient."""
        count = self.count_rows(len(x), count)
        if self.alone:
            return x.detach()
        most = -(-count // self.size)
        own = _padded(x.detach(), most)
        whole = own.new_empty((self.size * most, *own.shape[1:]))
        with self.watched("gathering features"):
            _all_gather(whole, own, group=self.group)
        if count == len(whole):
            return whole
        return torch.cat([whole[r * most :][: len(s)] for r, s in enumerate(self.shares(count))])

    def count_rows(self, rows: int, count: int | None = None) -> int:
        """Windows in a batch of which this process has ``rows``; ``count`` where that is known.

        Raises:
            ValueError: A process has another number than its share: `share` says which it is.
        """
        if count is None:
            mine = [float(rows) if r == self.rank else 0.0 for r in range(self.size)]
            sizes = [int(n) for n in self.sum_numbers(mine)]
            count = sum(sizes)
        else:
            sizes = [len(s) for s in self.shares(count)]
            sizes[self.rank] = rows
        for rank, (found, share) in enumerate(zip(sizes, self.shares(count), strict=True)):
            if found != len(share) or found == 0:
                raise ValueError(
                    f"process {rank} of {self.size} has {found} windows of a batch of {count}, its "
                    f"share is {len(share)}; every process must have one window at least, and the "
                    "first ones one more where they cannot have the same"
                )
        return count

    def sum_to_shares(self, x: Tensor) -> Tensor:
        """Sums [count, ...] over processes and returns this one's rows [n, ...]."""
        if self.alone:
            return x
        shares = self.shares(len(x))
        most = len(shares[0])
        if len(x) != self.size * most:
            x = torch.cat([_padded(x[share.rows], most) for share in shares])
        own = x.new_empty((most, *x.shape[1:]))
        with self.watched("summing gradients of features"):
            _reduce_scatter(own, x.contiguous(), group=self.group)
        return own[: len(shares[self.rank])]

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sums ``.grad`` over processes, in one message. They all have the same ones."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.alone or not gradients:
            return
        whole = torch.cat([g.reshape(-1) for g in gradients])
        with self.watched("summing gradients"):
            dist.all_reduce(whole, group=self.group)
        for g, piece in zip(gradients, whole.split([g.numel() for g in gradients]), strict=True):
            g.copy_(piece.view(g.shape))

    def sum_numbers(self, numbers: Sequence[float]) -> list[float]:
        """Sums of numbers over processes, in float64."""
        if self.alone:
            return list(numbers)
        return self.total(torch.tensor(numbers, dtype=torch.float64)).tolist()

    def total(self, x: Tensor) -> Tensor:
        """Sum over processes of what each has on the CPU, in place; alike on all."""
        if not self.alone and x.numel():
            with self.watched("a step"):
                dist.all_reduce(x, group=self._control)
        return x

    def bring(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """Rows [n, ...] of all processes, ``sizes`` by rank, in the first; its own in the others.

        On the CPU. All know ``sizes``.
        """
        if self.alone:
            return x
        own = _padded(x, max(sizes))
        pieces = [torch.empty_like(own) for _ in sizes] if self.first else None
        with self.watched("gathering the memory bank"):
            dist.gather(own, pieces, group=self._control)
        return torch.cat([p[:n] for p, n in zip(pieces, sizes, strict=True)]) if pieces else x

    def texts(self, text: str) -> list[str]:
        """What each process has to say, by rank."""
        if self.alone:
            return [text]
        raw = text.encode()
        mine = [len(raw) if r == self.rank else 0 for r in range(self.size)]
        sizes = [int(n) for n in self.sum_numbers(mine)]
        own = torch.zeros(max(1, *sizes), dtype=torch.uint8)
        own[: len(raw)] = torch.frombuffer(bytearray(raw or b"\0"), dtype=torch.uint8)[: len(raw)]
        whole = torch.empty(self.size * len(own), dtype=torch.uint8)
        with self.watched("comparing"):
            _all_gather(whole, own, group=self._control)
        rows = whole.view(self.size, -1)
        return [bytes(row[:n].tolist()).decode() for row, n in zip(rows, sizes, strict=True)]

    def check_alike(self, facts: Mapping[str, str], remedy: str) -> None:
        """That all processes have the same facts.

        Raises:
            UsageError: One has not; says which, what, and the ``remedy``.
        """
        if self.alone:
            return
        told = [json.loads(text) for text in self.texts(json.dumps(dict(facts)))]
        for rank, theirs in enumerate(told):
            for name in sorted({*told[0], *theirs}):
                ours, other = told[0].get(name), theirs.get(name)
                if ours != other:
                    raise self.once(
                        UsageError(
                            f"process {rank} of {self.size} has {name} {_brief(other)}, process 0 "
                            f"has {_brief(ours)}; {remedy}"
                        )
                    )

    def lead(self, work: Callable[[], T]) -> T | None:
        """Does ``work`` in the first process while the others wait, however long it takes.

        Returns:
            Its result in the first process, None in the others.

        Raises:
            DetachError: The first process's own, in all.
        """
        if self.alone:
            return work()
        self._turn += 1
        key = f"detach/lead/{self._turn}"
        if not self.first:
            self._await(key)
            return None
        try:
            result = work()
        except DetachError as error:
            self._store.set(key, json.dumps([type(error).__name__, str(error)]))
            end = time.monotonic() + ANSWER_S  # the store may end with this process
            while self._store.add(f"{key}/seen", 0) < self.size - 1 and time.monotonic() < end:
                time.sleep(POLL_S)
            raise
        self._store.set(key, "")
        return result

    def once(self, error: DetachError) -> DetachError:
        """An error that all processes have: only the first says it."""
        return error if self.first else elsewhere(error)

    def wait(self) -> None:
        """Until all processes have come here."""
        self.sum_numbers([0.0])

    def say_farewell(self, reason: str) -> None:
        """Leaves word for the others why this process ends early."""
        if not self.alone:
            with suppress(RuntimeError):
                self._store.set(f"detach/end/{self.rank}", reason)

    @contextmanager
    def watched(self, what: str) -> Iterator[None]:
        """Turns a lost connection into a message that names who was lost.

        Raises:
            MachineError: A process did not answer.
        """
        try:
            yield
        except RuntimeError as error:
            raise MachineError(self._who_is_lost(what, error)) from error

    def _await(self, key: str) -> None:
        with self.watched("waiting for the first process"):
            while not self._store.check([key]):
                time.sleep(POLL_S)
            answer = self._store.get(key).decode()
            self._store.add(f"{key}/seen", 1)
        if answer:
            name, text = json.loads(answer)
            kinds = {k.__name__: k for k in (UsageError, DataError, MachineError)}
            raise elsewhere(kinds.get(name, DetachError)(text))

    def _who_is_lost(self, what: str, error: RuntimeError) -> str:
        """Whoever does not write down within `ANSWER_S` that he lost contact, is lost himself."""
        others = {r for r in range(self.size) if r != self.rank}
        try:
            self._store.set(f"detach/lost/{self.rank}", what)
            end = time.monotonic() + ANSWER_S
            silent = set(others)
            while silent and time.monotonic() < end:
                time.sleep(POLL_S)
                silent = {r for r in silent if not self._store.check([f"detach/lost/{r}"])}
            names = ", ".join(self._describe(r) for r in sorted(silent))
        except RuntimeError:
            names = f"process 0 of {self.size}, which keeps the processes together,"
        reason = str(error).partition("\n")[0]
        if not names:
            return f"{what}: the processes lost contact with each other ({reason})"
        return (
            f"{what}: {names} did not answer ({reason}); see what it said last, then start all "
            "again with --resume"
        )

    def _describe(self, rank: int) -> str:
        where = (
            self._store.get(f"detach/at/{rank}").decode()
            if self._store.check([f"detach/at/{rank}"])
            else "?"
        )
        why = ""
        if self._store.check([f"detach/end/{rank}"]):
            why = f", which ended with: {self._store.get(f'detach/end/{rank}').decode()},"
        return f"process {rank} of {self.size} ({where}){why}"


ALONE = World()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, world: World, count: int) -> Tensor:
        ctx.world = world
        return world.collect(x, count)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        return ctx.world.sum_to_shares(upstream), None, None


@contextmanager
def joined(device: str) -> Iterator[World]:
    """The world that torchrun has made for this process; `ALONE` where nobody has.

    Raises:
        UsageError: What torchrun sets is not whole.
        MachineError: The others cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    if missing := [n for n in ("RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]:
        raise UsageError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set: start several processes "
            "with torchrun --nproc-per-node N -m detach train ..., and one without WORLD_SIZE"
        )
    world = _join(int(os.environ["RANK"]), size, on_gpu=device.startswith(("auto", "cuda")))
    try:
        yield world
        world.wait()
    except BaseException as error:
        world.say_farewell(f"{type(error).__name__}: {error}")
        raise
    dist.destroy_process_group()


def _join(rank: int, size: int, *, on_gpu: bool) -> World:
    """Connects; NCCL between GPUs, gloo otherwise and for what is said on the CPU."""
    # Its functions take the group of all as it is at their import for a default. A step of an
    # optimizer imports it: were there a group by then, that would never end, and its threads would
    # abort the process while the interpreter goes.
    import torch.distributed.nn.functional  # noqa: PLC0415

    nccl = on_gpu and torch.cuda.is_available() and dist.is_nccl_available()
    if nccl:
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # so that a lost one can be named
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)))
    patience = timedelta(seconds=float(os.environ.get("DETACH_TIMEOUT_S", TIMEOUT_S)))
    try:
        dist.init_process_group("nccl" if nccl else "gloo", timeout=patience)
        control = dist.new_group(backend="gloo", timeout=patience) if nccl else None
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise MachineError(f"process {rank} of {size} cannot reach the others: {reason}") from error
    store = dist.distributed_c10d._get_default_store()  # noqa: SLF001 -- has no public name
    store.set(f"detach/at/{rank}", f"{socket.gethostname()}, pid {os.getpid()}")
    return World(rank, size, store=store, control=control)


def _padded(x: Tensor, rows: int) -> Tensor:
    if len(x) == rows:
        return x.contiguous()
    return torch.cat([x, x.new_zeros((rows - len(x), *x.shape[1:]))])


def _brief(text: str | None) -> str:
    return "nothing" if text is None else repr(text if len(text) <= 60 else f"{text[:57]}...")
