"""`detach bench clip`: a clip from the film to its two features, part by part."""

import pytest
import torch

from detach import bench as benchmarks
from detach.bench import clip
from detach.bench.options import Options
from detach.errors import UsageError


def silent(_: str) -> None:
    """Progress that nobody reads."""


def test_shares_are_of_the_whole() -> None:
    found = benchmarks.bench(Options(part="clip", sizes=(32,), seconds=0.0, repeats=1), silent)
    (block,) = found.blocks
    whole, *parts = block.rows
    assert block.data == "40x24 pixels, 10 frames"
    assert [row.name for row in parts] == ["decode", "shrink", "video_temporal", "video_spatial"]
    assert sum(row.share or 0 for row in parts) == pytest.approx(1)
    assert whole.seconds == pytest.approx(sum(row.seconds or 0 for row in parts))
    assert block.notes[0].endswith(" clips/s on 1 thread")
    assert "of clip" in str(found)


@pytest.mark.parametrize("size", [31, 449])
def test_picture_sizes_out_of_range_are_refused(size: int) -> None:
    with pytest.raises(UsageError, match=f"sizes must be 32 to 448 pixels, got {size}"):
        benchmarks.bench(Options(part="clip", sizes=(size,)), silent)


def test_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detach.bench.options.pick_device", lambda _: torch.device("cuda"))
    with pytest.raises(UsageError, match="runs on the CPU"):
        clip.run(Options(part="clip", device="cuda"), silent)
