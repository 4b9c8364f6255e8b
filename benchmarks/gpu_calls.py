"""The contrast kernels alone, without torch's dispatcher and autograd: forward, backward, both."""

import torch
from torch import Tensor

from detach import _C  # noqa: TID251 -- times the kernels themselves

PRECISIONS = {
    "float16": (0, torch.float16),
    "bfloat16": (1, torch.bfloat16),
    "tf32": (2, torch.float32),
    "float32": (3, torch.float32),
}
PARAMS = (0.1, 3.0, 1, 1, 1, True)  # temperature, lambda_hard, gate, power, temporal, normalize
NO_MASK = (0, 0, 0, 0, 0, 0, 0.0)
GUARD_BYTES = 4096


class Raw:
    """One batch with all memory that its kernels need; gradients to the temporal halves."""

    def __init__(
        self, parts: list[Tensor], precision: str, *, save: bool = True, guard: bool = False
    ) -> None:
        number, self.dtype = PRECISIONS[precision]
        self.parts, n = parts, len(parts[0])
        widths = (parts[0].shape[1], parts[1].shape[1], parts[4].shape[1])
        behind = GUARD_BYTES if guard else 0
        self.sizes = (
            _C.contrast_cuda_workspace(number, n, widths, 0, n, save),
            _C.contrast_cuda_saved_size(number, n, 0, n) if save else 0,
        )
        self.space, self.saved = (
            torch.full((size + behind,), 0xFF, dtype=torch.uint8, device="cuda")
            for size in self.sizes
        )
        self.stats = torch.empty(2, 2, n, dtype=torch.float64, device="cuda")
        self.upstream = torch.full((n,), 0.5 / n, dtype=torch.float64, device="cuda")
        self.gradients = [torch.empty_like(parts[1]), torch.empty_like(parts[3])]
        self.layout = _C.contrast_cuda_layout(number, n, widths)
        where = tuple(p.data_ptr() for p in parts)
        self._head = (where, number, n, widths, PARAMS, NO_MASK, 0, n)
        self._saved = self.saved.data_ptr() if save else 0

    def forward(self) -> list[Tensor]:
        """Losses and denominators."""
        stats = (self.stats[0].data_ptr(), self.stats[1].data_ptr(), 0)
        _C.contrast_cuda_batch(*self._head, stats, self._saved, self.space.data_ptr(), _stream())
        return [self.stats]

    def backward(self, step: int = 0) -> list[Tensor]:
        """Gradients, from a workspace that forward has just left."""
        to = (0, self.gradients[0].data_ptr(), 0, self.gradients[1].data_ptr())
        _C.contrast_cuda_batch_gradient(
            *self._head, self.stats[1].data_ptr(), self.upstream.data_ptr(), self._saved, to,
            self.space.data_ptr(), _stream(), True, step,
        )  # fmt: skip
        return self.gradients

    def backward_by_hand(self) -> list[Tensor]:
        """The same with torch's products. Turns what was saved into gradients each time anew."""
        self.backward(1)
        rows, numbers, spatial, temporal, _, sensor, packed_at, video_out, sensor_out, width = (
            self.layout
        )
        pairs = self.saved[: self.sizes[1]].view(self.dtype).view(rows, rows)
        packed = self._view(self.dtype, packed_at, rows, numbers)
        for at, matrix, column in ((video_out, pairs, sensor), (sensor_out, pairs.T, 0)):
            half = packed[:, column + spatial :][:, :temporal]
            product = self._view(torch.float32, at, rows, width)[:, spatial:]
            product.copy_(matrix @ half)
        return self.backward(2)

    def run(self) -> list[Tensor]:
        """Both."""
        return self.forward() + self.backward()

    def guards_hold(self) -> bool:
        """Whether nothing was written behind the workspace and what is saved."""
        return all(
            bool((t[size:] == 0xFF).all())
            for t, size in zip((self.space, self.saved), self.sizes, strict=True)
        )

    def _view(self, dtype: torch.dtype, start: int, rows: int, columns: int) -> Tensor:
        size = rows * columns * dtype.itemsize
        return self.space[start : start + size].view(dtype).view(rows, columns)


def _stream() -> int:
    return int(torch.cuda.current_stream().cuda_stream)
