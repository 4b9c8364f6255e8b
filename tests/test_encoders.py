"""Encoders: shapes at every window length, what pooling and averaging mean."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from detach.baselines.cav_mae import CavMae
from detach.baselines.imu2clip import Imu2Clip
from detach.baselines.primus import Primus
from detach.config import EncoderConfig
from detach.encoders import MIN_SAMPLES, SensorSpatialEncoder, SensorTemporalEncoder
from detach.resnet import Layers, ResNet, ResNetClips
from detach.video_encoders import (
    GlobalVideoEncoder,
    VideoSpatialEncoder,
    VideoTemporalEncoder,
    motion_input,
    shrink,
    video_tower,
)

SMALL = EncoderConfig(width=16, video_scale=0.125, sensor_scale=0.125)


def random(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("samples", [MIN_SAMPLES, 60, 100, 128, 300])
@pytest.mark.parametrize("channels", [1, 37])
def test_sensor_encoders_take_any_window(samples: int, channels: int) -> None:
    x = random(3, samples, channels)
    assert SensorSpatialEncoder(channels, SMALL)(x).shape == (3, 16)
    assert SensorTemporalEncoder(channels, SMALL)(x).shape == (3, 16)


@pytest.mark.parametrize("size", [(32, 32), (40, 112), (18, 31)])
def test_video_encoders_take_any_picture(size: tuple[int, int]) -> None:
    frames = random(2, 6, *size, 3) * 255
    assert VideoSpatialEncoder(SMALL)(shrink(frames, None)).shape == (2, 16)
    motion = motion_input(frames, 16)
    assert VideoTemporalEncoder(SMALL)(motion).shape == (2, 16)
    assert GlobalVideoEncoder(SMALL, 32)(shrink(frames, 16)).shape == (2, 32)


def test_sizes_are_the_authors_at_full_width() -> None:
    config = EncoderConfig()
    count = {
        "sensor": sum(
            p.numel()
            for net in (SensorSpatialEncoder(37, config), SensorTemporalEncoder(37, config))
            for p in net.parameters()
        ),
        "video": sum(
            p.numel()
            for net in (VideoSpatialEncoder(config), VideoTemporalEncoder(config))
            for p in net.parameters()
        ),
    }
    assert 1.78e6 < count["sensor"] < 1.88e6
    assert 2.6e6 < count["video"] < 3.1e6


def test_the_mean_of_attention_is_taken_before_the_values() -> None:
    net = SensorTemporalEncoder(3, SMALL).eval()
    x = random(2, 128, 3)
    centred = x - x.mean(dim=1, keepdim=True)
    steps = net.norm(net.convolutions(centred.transpose(1, 2))).transpose(1, 2)
    hidden, _ = net.recurrent(steps)
    scores = net.query(hidden) @ net.key(hidden).transpose(1, 2) * hidden.shape[2] ** -0.5
    as_written = net.project((scores.softmax(dim=2) @ net.value(hidden)).mean(dim=1))
    torch.testing.assert_close(net(x), as_written)


def test_averaged_pixels_are_one_picture_averaged_features_are_not() -> None:
    still = random(2, 1, 32, 32, 3).expand(2, 6, 32, 32, 3)
    moving = random(2, 6, 32, 32, 3)
    features = EncoderConfig(width=16, video_scale=0.125, average="features")
    torch.manual_seed(0)
    pixels_net = VideoSpatialEncoder(SMALL).eval()
    torch.manual_seed(0)
    features_net = VideoSpatialEncoder(features).eval()
    torch.testing.assert_close(pixels_net(still), features_net(still))
    assert not torch.allclose(pixels_net(moving), features_net(moving), atol=1e-4)


def test_motion_sees_differences_only() -> None:
    frames = random(2, 6, 32, 32, 3) * 200
    torch.testing.assert_close(motion_input(frames, 16), motion_input(frames + 30, 16))
    still = frames[:, :1].expand(-1, 6, -1, -1, -1)
    assert motion_input(still, None).abs().max() == 0


def test_telescoped_pooling_knows_only_first_and_last() -> None:
    config = EncoderConfig(width=16, video_scale=0.125, motion_pooling="telescoped")
    net = VideoTemporalEncoder(config).eval()
    motion = random(1, 9, 16, 16, 3) - 0.5
    steps = net.convolutions(motion.permute(0, 4, 1, 2, 3)).mean(dim=(3, 4))
    ends = (steps[:, :, -1] - steps[:, :, 0]) / (steps.shape[2] - 1)
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(net(motion), unit(ends, dim=1) @ unit(net.weight, dim=1).T)


def test_shrink_averages_squares() -> None:
    frames = torch.arange(16.0).reshape(1, 1, 4, 4, 1).expand(1, 1, 4, 4, 3)
    small = shrink(frames, 2) * 255
    assert small[0, 0, :, :, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_flow_is_in_shares_of_the_height() -> None:
    frames = torch.zeros(1, 3, 32, 32, 3, dtype=torch.uint8)
    flow = torch.full((1, 2, 32, 32, 2), 8.0)
    motion = motion_input(frames, 16, flow)
    assert motion.shape == (1, 2, 16, 16, 5)
    assert motion[..., 3:].unique().tolist() == [0.25]


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("build", [SensorTemporalEncoder, Imu2Clip, Primus, CavMae])
def test_centred_motion_ignores_a_sensors_bias(
    build: Callable[[int, EncoderConfig], nn.Module], centre: bool
) -> None:
    """The rivals are given what pays for the method."""
    config = EncoderConfig(width=32, sensor_scale=0.125, video_scale=0.125, centre_motion=centre)
    net = build(3, config).eval()
    embed = getattr(net, "encode_sensors", net)
    x = random(2, 128, 3)
    shifted = x + torch.tensor([5.0, -2.0, 1.0])
    same = (torch.allclose(*pair, atol=1e-3) for pair in zip(embed(x), embed(shifted), strict=True))
    assert all(same) is centre


@pytest.mark.parametrize(("layers", "parameters"), [(18, 11_176_512), (50, 23_508_032)])
def test_residual_networks_have_the_published_sizes(layers: Layers, parameters: int) -> None:
    network = ResNet(layers)  # 11,689,512 and 25,557,032 with their classifier of 1000 classes
    classifier = network.width * 1000 + 1000
    count = sum(p.numel() for p in network.parameters())
    assert count == parameters
    assert count + classifier == {18: 11_689_512, 50: 25_557_032}[layers]


@pytest.mark.parametrize(("layers", "size"), [(18, (64, 64)), (18, (112, 100)), (50, (64, 48))])
def test_residual_networks_divide_the_picture_by_32(layers: Layers, size: tuple[int, int]) -> None:
    network = ResNet(layers).eval()
    maps = network(random(2, 3, *size))
    assert maps.shape == (2, network.width, -(-size[0] // 32), -(-size[1] // 32))
    assert torch.isfinite(maps).all()
    assert (maps >= 0).all()


@pytest.mark.parametrize("size", [64, 112])
def test_residual_networks_watch_places_and_clips(size: int) -> None:
    config = EncoderConfig(width=16, video_scale=0.125, video="resnet18")
    frames = random(2, 3, size, size, 3)
    assert VideoSpatialEncoder(config).eval()(frames).shape == (2, 16)
    tower = video_tower(config, 32, None).eval()
    assert tower(frames).shape == (2, 32)
    assert isinstance(video_tower(EncoderConfig(), 32, None), GlobalVideoEncoder)


def test_a_clip_is_the_mean_of_its_frames() -> None:
    network = ResNetClips(18, 8).eval()
    frames = random(1, 4, 3, 32, 32)
    torch.testing.assert_close(network(frames), network(frames.flip(1)))
    alone = torch.stack([network(frames[:, i : i + 1]) for i in range(4)]).mean(dim=0)
    torch.testing.assert_close(network(frames), alone)
