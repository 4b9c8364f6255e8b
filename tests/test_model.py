"""The model: what its frozen halves hold."""

import pytest
import torch

from detach.config import PRESETS, EncoderConfig, override, preset
from detach.equations import sensor_embedding
from detach.model import Detach

SMALL = override(preset("recommended"), {"encoders": {"width": 16, "video_scale": 0.1}}).encoders
SAMPLES = torch.randn(12, 60, 5, generator=torch.Generator().manual_seed(0))
FRAMES = torch.rand(12, 4, 32, 32, 3, generator=torch.Generator().manual_seed(1))


def model(**changes: object) -> Detach:
    torch.manual_seed(0)
    made = Detach(5, 3, EncoderConfig(**{**SMALL.__dict__, **changes}))
    made.centroids.copy_(torch.randn(3, 16))
    return made.eval()


@torch.no_grad()
def test_both_modalities_name_the_same_places() -> None:
    detach = model()
    for half in (detach.place_of_sensors(SAMPLES), detach.place_of_video(FRAMES)):
        assert half.shape == (12, 3)
        torch.testing.assert_close(half.square().sum(dim=1), torch.ones(12))
    features = detach.sensor_spatial(SAMPLES)
    cosine = torch.nn.functional.cosine_similarity(features[:, None], detach.centroids, dim=2)
    assert torch.equal(detach.nearest(detach.place_of_sensors(SAMPLES)), cosine.argmax(dim=1))
    expected = (cosine / 0.1).softmax(dim=1).sqrt()
    torch.testing.assert_close(detach.place_of_sensors(SAMPLES), expected)


@torch.no_grad()
def test_features_are_what_the_encoders_make() -> None:
    detach = model(spatial="features")
    spatial, temporal = detach.encode_sensors(SAMPLES)
    assert spatial.shape == temporal.shape == (12, 16)
    assert torch.equal(spatial, detach.sensor_spatial(SAMPLES))
    assert torch.equal(detach.place_of_video(FRAMES), detach.video_spatial(FRAMES))
    assert torch.equal(detach.nearest(spatial), model().nearest(model().place_of_sensors(SAMPLES)))


@torch.no_grad()
@pytest.mark.parametrize("spatial", ["places", "features"])
def test_a_head_may_see_the_embedding_and_place_features_that_are_not_in_it(spatial: str) -> None:
    detach = model(spatial=spatial)
    half, embedding, more = detach.describe(SAMPLES)
    own, motion = detach.encode_sensors(SAMPLES)
    assert torch.equal(half, own)
    assert torch.equal(embedding, sensor_embedding(own, motion))
    assert embedding.shape[1] == detach.embedding_width
    if spatial == "features":
        assert more.shape == (12, 0)
    else:
        features = detach.sensor_spatial(SAMPLES)
        torch.testing.assert_close(more, features / features.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_only_the_recommended_preset_shares_places(name: str) -> None:
    assert (preset(name).encoders.spatial == "places") == (name == "recommended")  # type: ignore[arg-type]
