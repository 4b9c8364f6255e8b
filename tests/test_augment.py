"""Augmentation: what stays, what changes, and that it is reproducible."""

import torch

from detach.augment import colour_change, recolour, time_warp


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_time_warp_keeps_ends_and_order() -> None:
    ramp = torch.linspace(0, 1, 128)[None, :, None].expand(8, 128, 3)
    warped = time_warp(ramp, 0.2, generator())
    torch.testing.assert_close(warped[:, 0], ramp[:, 0])
    torch.testing.assert_close(warped[:, -1], ramp[:, -1])
    assert (warped.diff(dim=1) >= 0).all()
    assert (warped - ramp).abs().max() > 0.02
    assert not torch.allclose(warped[0], warped[1])


def test_time_warp_depends_on_the_generator_alone() -> None:
    samples = torch.randn(4, 60, 2, generator=generator(1))
    assert torch.equal(time_warp(samples, 0.2, generator(5)), time_warp(samples, 0.2, generator(5)))


def test_colour_change_commutes_with_differences() -> None:
    frames = torch.rand(3, 5, 4, 4, 3, generator=generator())
    matrix, offset = colour_change(3, 0.4, generator(2))
    recoloured = recolour(frames, matrix, offset)
    torch.testing.assert_close(recoloured.diff(dim=1), recolour(frames.diff(dim=1), matrix))
    assert (recoloured - frames).abs().max() > 0.05


def test_grey_stays_grey_and_flow_stays() -> None:
    frames = torch.full((2, 3, 2, 2, 5), 0.5)
    matrix, _ = colour_change(2, 0.4, generator(3))
    out = recolour(frames, matrix)
    torch.testing.assert_close(out[..., 0], out[..., 2])
    assert torch.equal(out[..., 3:], frames[..., 3:])
