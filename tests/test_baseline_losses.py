"""Losses of the rivals against their papers' formulas, written out here in plain float64.

Most networks are stood in for by ones that pass on the first numbers they are given, so that a
formula knows each feature. N windows, P patches, Q keys.
"""

from collections import deque
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detach.baseline_config import CavMaeConfig, ComodoConfig, PrimusConfig
from detach.baselines import comodo
from detach.baselines.batch import Batch
from detach.baselines.cav_mae import CavMae, Tokens
from detach.baselines.comodo import Comodo
from detach.baselines.imu2clip import Imu2Clip
from detach.baselines.primus import Memory, Primus
from detach.baselines.whole import Global
from detach.config import EncoderConfig
from detach.key_queue import KeyQueue

WIDTH = 32
CONFIG = EncoderConfig(width=WIDTH // 2, video_scale=0.125, sensor_scale=0.125, centre_motion=False)
COUNT = 5
COLDEST = 0.01
Number = Tensor | float
Terms = dict[str, Tensor]


class First(nn.Module):
    """The first numbers of whatever comes."""

    def forward(self, x: Tensor) -> Tensor:
        return first(x)


def first(x: Tensor) -> Tensor:
    return x.flatten(1)[:, :WIDTH]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch(**changes: Any) -> Batch:
    """Windows 0 to 4, whose samples and pictures are alike, though not the same."""
    generator = torch.Generator().manual_seed(0)
    samples, video = drawn(COUNT, 20, 3, seed=1), drawn(COUNT, 4, 16, 16, 3, seed=2)
    video.flatten(1)[:, :WIDTH] += 0.2 * first(samples)
    clean = samples + 1
    samples.requires_grad_()
    video.requires_grad_()
    return replace(Batch(torch.arange(COUNT), samples, clean, video, generator, 0), **changes)


def stand_in(model: nn.Module, *names: str) -> None:
    for name in names:
        model.add_module(name, First())


def twin(x: Tensor) -> Tensor:
    """The same in float64, for the formula to differentiate."""
    return x.detach().double().requires_grad_()


def unit(x: Tensor) -> Tensor:
    return x / x.square().sum(dim=1, keepdim=True).sqrt()


def one_way(query: Tensor, key: Tensor, temperature: Number, more: Number = 0.0) -> Tensor:
    """-log of the share that a query's own key has among all, and ``more`` [N] beside them."""
    likeness = (unit(query) @ unit(key).T / temperature).exp()
    return -(likeness.diagonal() / (likeness.sum(dim=1) + more)).log().mean()


def both_ways(a: Tensor, b: Tensor, temperature: Number) -> Tensor:
    return (one_way(a, b, temperature) + one_way(b, a, temperature)) / 2


def agree(terms: Terms, expected: Terms, *pairs: tuple[Tensor, Tensor]) -> None:
    """Terms are those expected, and so are the gradients of their sum by either of each pair."""
    assert terms.keys() == expected.keys()
    for name, term in terms.items():
        torch.testing.assert_close(term.double(), expected[name], rtol=2e-5, atol=1e-6)
    torch.stack(list(terms.values())).sum().backward()
    torch.stack(list(expected.values())).sum().backward()
    for leaf, judge in pairs:
        assert leaf.grad is not None
        assert judge.grad is not None
        assert judge.grad.abs().max() > 1e-4
        torch.testing.assert_close(leaf.grad.double(), judge.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 0.1, 0.001])
def test_imu2clip_is_two_cross_entropies_at_a_learned_temperature(temperature: float) -> None:
    model = Imu2Clip(3, CONFIG)
    stand_in(model, "sensor", "video")
    model.temperature.data.fill_(temperature)
    b = batch()
    samples, video, learned = twin(b.samples), twin(b.video), twin(model.temperature)
    logits = unit(first(samples)) @ unit(first(video)).T / learned.clamp(min=COLDEST)
    own = torch.arange(COUNT)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    pairs = [(b.samples, samples), (b.video, video), (model.temperature, learned)]
    agree(model.losses(b), {"contrast": expected}, *pairs[: 3 if temperature > COLDEST else 2])


def test_global_alignment_is_two_cross_entropies_of_both_halves() -> None:
    model = Global(3, CONFIG)
    stand_in(model, "sensor", "video")
    b = batch()
    samples, video = twin(b.samples), twin(b.video)
    halves = (first(x).chunk(2, dim=1) for x in (samples, video))
    felt, seen = (torch.cat([unit(one), unit(other)], dim=1) for one, other in halves)
    expected = {"contrast": both_ways(felt, seen, 0.2)}
    agree(model.losses(b, 0.2), expected, (b.samples, samples), (b.video, video))


def distilled(said: Tensor, mine: Tensor, keys: Tensor, teacher: float, student: float) -> Tensor:
    """-sum p log q over the keys, window by window."""
    losses = []
    for x, v in zip(unit(said), mine, strict=True):
        p, q = ((keys @ z / t).exp() for z, t in ((v, teacher), (x, student)))
        losses.append(-(p / p.sum() * (q / q.sum()).log()).sum())
    return torch.stack(losses).mean()


@pytest.mark.parametrize(("teacher", "student"), [(0.1, 0.05), (0.4, 0.7)])
def test_the_student_of_comodo_likens_as_its_teacher_does(teacher: float, student: float) -> None:
    settings = ComodoConfig(teacher_temperature=teacher, student_temperature=student, output=WIDTH)
    model = Comodo(3, CONFIG, settings)
    stand_in(model, "sensor", "student_head")
    taught = unit(drawn(30, WIDTH, seed=3) + 1)
    queue = KeyQueue(9, WIDTH)
    queue.push(taught[20:26], torch.arange(20, 26))
    remembered = deque(range(20, 26), maxlen=9)
    for step, window in enumerate((torch.arange(COUNT), torch.tensor([4, 11, 12, 13, 0]))):
        felt = drawn(COUNT, 20, 3, seed=10 + step).requires_grad_()
        b = batch(window=window, samples=felt)
        remembered.extend(window.tolist())  # its own targets are among the keys
        samples, mine, keys = twin(felt), taught[window].double(), taught[[*remembered]].double()
        expected = distilled(first(samples), mine, keys, teacher, student)
        agree(model.losses(b, taught, queue), {"distil": expected}, (felt, samples))


def test_comodo_teaches_and_does_not_learn_from_the_student() -> None:
    model = Comodo(3, CONFIG, ComodoConfig(hidden=8, output=16))
    features = model.video(drawn(24, 4, 16, 16, 3, seed=4)).detach()
    model.freeze_teacher(features)
    scaled = (features - features.mean(dim=0)).double() / features.std(dim=0).double()
    wide, bias, narrow, end = (p.double() for p in model.teacher_head.parameters())
    expected = unit(F.gelu(scaled @ wide.T + bias) @ narrow.T + end)
    assert not model.teach(model.video(batch().video.detach())).requires_grad
    vectors = model.teach(features)
    torch.testing.assert_close(vectors.double(), expected, rtol=0, atol=1e-5)
    queue = comodo.start_queue(model, vectors, seed=0)
    held = {int(w): key for w, key in zip(queue.window, queue.keys, strict=True)}
    assert all(torch.equal(key, vectors[w]) for w, key in held.items())
    model.losses(batch(), vectors, queue)["distil"].backward()
    learning = [name for name, p in model.named_parameters() if p.grad is not None]
    assert {name.partition(".")[0] for name in learning} == {"sensor", "student_head"}


def test_the_teacher_of_comodo_first_tells_clips_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comodo, "RECOLOURED", 0.0)
    model = Comodo(3, CONFIG, ComodoConfig(teacher_temperature=0.3))
    stand_in(model, "video")
    b = batch()
    video = twin(b.video)
    expected = both_ways(first(video[:, 0::2]), first(video[:, 1::2]), 0.3)
    agree(model.teacher_losses(b), {"views": expected}, (b.video, video))


class PrimusScene:
    """A model whose views are the window and its reverse, and a queue filled by hand."""

    share = 0.3

    def __init__(self, *temperatures: float, **changes: Any) -> None:
        settings = PrimusConfig(views=("reverse",), self_share=self.share, queue=8, **changes)
        self.model = Primus(3, CONFIG, settings)
        stand_in(self.model, "sensor", "video")
        self.model.temperature.data = torch.tensor(temperatures or (0.2, 0.5))
        self.memory = Memory(self.model, 24)
        self.learned = twin(self.model.temperature)
        self.of_video, self.of_views = self.learned.clamp(min=COLDEST)
        self.samples, self.video = twin(batch().samples), twin(batch().video)
        self.felt, self.seen = self.head("to_video", self.samples), first(self.video)
        self.one = self.head("to_views", self.samples)
        self.other = self.head("to_views", self.samples.flip(1))
        self.owners: list[int] = []
        self.keys = torch.zeros(0, 2 * WIDTH)

    def head(self, name: str, x: Tensor) -> Tensor:
        weight, bias = (self.model.get_parameter(f"{name}.{p}") for p in ("weight", "bias"))
        return first(x) @ weight.detach().double().T + bias.detach().double()

    def fill(self) -> None:
        """Windows 3 and 1 would find themselves, 0 and 2 find one of the copies of window 20."""
        seen = first(batch().video.detach())
        twenty = seen[0] + seen[2]
        videos = [seen[3], seen[1], twenty, 0.9 * twenty + 0.5, *drawn(3, WIDTH, seed=5)]
        self.owners = [3, 1, 20, 20, 21, 22, 23]  # one key stays empty
        self.keys = torch.cat([torch.stack(videos), drawn(7, WIDTH, seed=6)], dim=1)
        self.memory.queue.push(self.keys, torch.tensor(self.owners))

    def nearest(self) -> list[int]:
        """Which key is nearest to each window that is not its own."""
        likeness = unit(first(batch().video)) @ unit(self.keys[:, :WIDTH]).T
        found = []
        for window, row in enumerate(likeness.tolist()):
            others = [k for k, owner in enumerate(self.owners) if owner != window]
            found.append(max(others, key=row.__getitem__))
        return found

    def others(self, barred: list[set[int]]) -> Tensor:
        """Sum of likenesses to the videos of other windows than those barred, [N]."""
        keys = unit(self.keys[:, :WIDTH].double())
        likeness = (unit(self.felt) @ keys.T / self.of_video).exp()
        free = torch.tensor([[owner not in row for owner in self.owners] for row in barred])
        total: Tensor = (likeness * free).sum(dim=1)
        return total

    def agrees(self, contrast: Tensor, views: Tensor) -> None:
        b = batch()
        expected = {"contrast": (1 - self.share) * contrast, "views": self.share * views}
        found = self.model.losses(b, self.memory)
        pairs = [(b.samples, self.samples), (b.video, self.video)]
        agree(found, expected, *pairs, (self.model.temperature, self.learned))


@pytest.mark.parametrize("case", ["filled", "empty", "no neighbours", "cold"])
def test_primus_is_its_four_agreements(case: str) -> None:
    cold = (0.001, 0.5) if case == "cold" else ()
    scene = PrimusScene(*cold, neighbours=case != "no neighbours")
    contrast = both_ways(scene.felt, scene.seen, scene.of_video)
    views = both_ways(scene.one, scene.other, scene.of_views)
    if case != "empty":
        scene.fill()
    if case in {"filled", "cold"}:
        chosen = scene.nearest()
        assert [scene.owners[k] for k in (chosen[0], chosen[2])] == [20, 20]
        near_video, near_sensor = scene.keys[chosen].double().chunk(2, dim=1)
        contrast = contrast + both_ways(scene.felt, near_video, scene.of_video)
        views = views + both_ways(scene.other, near_sensor, scene.of_views)
    scene.agrees(contrast, views)


@pytest.mark.parametrize("neighbours", [False, True])
def test_no_negative_of_primus_is_of_a_positive_window(neighbours: bool) -> None:
    scene = PrimusScene(negatives="queue", neighbours=neighbours)
    scene.fill()
    felt, seen, warmth = scene.felt, scene.seen, scene.of_video
    own = [{window} for window in range(COUNT)]
    there = one_way(felt, seen, warmth, scene.others(own))
    contrast = (there + one_way(seen, felt, warmth)) / 2
    views = both_ways(scene.one, scene.other, scene.of_views)
    if neighbours:
        chosen = scene.nearest()
        near_video, near_sensor = scene.keys[chosen].double().chunk(2, dim=1)
        barred = [{window, scene.owners[k]} for window, k in enumerate(chosen)]
        there = one_way(felt, near_video, warmth, scene.others(barred))
        contrast = contrast + (there + one_way(near_video, felt, warmth)) / 2
        views = views + both_ways(scene.other, near_sensor, scene.of_views)
    scene.agrees(contrast, views)


def test_primus_remembers_the_video_and_the_unwarped_window() -> None:
    scene = PrimusScene()
    b = batch(window=torch.arange(10, 10 + COUNT))
    scene.memory.remember(b)
    held = scene.memory.queue.window >= 0
    assert scene.memory.queue.window[held].tolist() == [10, 11, 12, 13, 14]
    expected = torch.cat([first(b.video).double(), scene.head("to_views", b.clean.double())], dim=1)
    torch.testing.assert_close(scene.memory.queue.keys[held].double(), expected, rtol=0, atol=1e-5)


class CavMaeScene:
    """A model that is watched, and whose patches are drawn again as ``again`` says."""

    settings = CavMaeConfig(
        depth=1, samples=64, window=16, bins=16, sensor_mask=0.5, video_mask=0.75,
        masked_weight=0.7, contrast_weight=0.3, temperature=0.2,
    )  # fmt: skip

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = CavMae(3, CONFIG, self.settings)
        self.parts = {"sensor": self.model.sensor, "video": self.model.video}
        self.again = {
            "sensor": drawn(COUNT, 4, 3 * 64, seed=7).requires_grad_(),
            "video": drawn(COUNT, 8, 3 * 2 * 64, seed=8).requires_grad_(),
        }
        self.saw: dict[str, Tensor] = {}
        for name, part in self.parts.items():
            self._watch(name, part)
        self.model.into_decoder.register_forward_hook(lambda _, __, y: self._note("shown", y))
        self.model.decoder[0].register_forward_pre_hook(lambda _, x: self._note("decoder", x[0]))

    def _watch(self, name: str, part: Tokens) -> None:
        part.blocks[0].register_forward_pre_hook(lambda _, x: self._note(name, x[0]))
        part.again.register_forward_hook(lambda *_: self.again[name])
        # Embeddings of untrained networks are all alike: that wrong pairs be told from right ones.
        end = self.model.ends[name]
        end.register_forward_hook(lambda _, __, y: 9 * (y - y.mean(dim=(0, 1))))
        end.register_forward_hook(lambda _, __, y: self._note(f"end of {name}", y))

    def _note(self, name: str, x: Tensor) -> None:
        self.saw[name] = x.detach().double()

    def losses(self) -> Terms:
        return self.model.losses(batch())

    def patches(self, name: str) -> tuple[Tensor, Tensor]:
        source = batch().samples if name == "sensor" else batch().video
        return self.model._patches("sensor" if name == "sensor" else "video", source)

    def left(self, name: str) -> Tensor:
        """Which patches the encoder was shown, [N, p], told by its tokens."""
        patches, place = self.patches(name)
        part = self.parts[name]
        every = part.embed(patches) + place + part.kind
        gap = (self.saw[name][:, :, None] - every[:, None]).abs().amax(dim=3)
        assert gap.amin(dim=2).max() < 1e-5
        assert (gap < 1e-5).sum() == gap.shape[0] * gap.shape[1]
        found: Tensor = gap.argmin(dim=2)
        return found

    def hidden(self, name: str) -> Tensor:
        """Which were hidden, bool [N, P]."""
        hidden = torch.ones(self.again[name].shape[:2], dtype=torch.bool)
        hidden[torch.arange(COUNT)[:, None], self.left(name)] = False
        return hidden

    def error(self, name: str) -> Tensor:
        """Mean square error of the patches that were hidden, each by its own mean and scale."""
        patches = self.patches(name)[0].detach().double()
        mean = patches.mean(dim=2, keepdim=True)
        variance = (patches - mean).square().mean(dim=2, keepdim=True)
        target = (patches - mean) / (variance + 1e-4).sqrt()
        errors = (self.again[name].detach().double() - target).square().mean(dim=2)
        return errors[self.hidden(name)].mean()


def test_a_masked_autoencoder_is_judged_by_what_was_hidden_alone() -> None:
    scene = CavMaeScene()
    before = scene.losses()["masked"]
    expected = 0.7 * (scene.error("sensor") + scene.error("video"))
    torch.testing.assert_close(before.double(), expected)
    before.backward()
    for name, again in scene.again.items():
        hidden = scene.hidden(name)
        assert hidden.sum(dim=1).unique().tolist() == [{"sensor": 2, "video": 6}[name]]
        assert again.grad is not None
        assert torch.equal(again.grad.abs().amax(dim=2) > 0, hidden)
        for changed in (False, True):
            with torch.no_grad():
                again[hidden == changed] += 5.0
            after = scene.losses()["masked"]
            assert torch.equal(after, before) is not changed
            before = after


def test_a_masked_autoencoder_draws_from_what_it_was_shown_alone() -> None:
    scene = CavMaeScene()
    scene.losses()
    drawn_from = scene.saw["decoder"]
    width = drawn_from.shape[2]
    start, shown = 0, scene.saw["shown"].split([2, 2], dim=1)
    for name, tokens in zip(("sensor", "video"), shown, strict=True):
        place = scene.patches(name)[1][:, :width].double()
        expected = scene.model.hidden.detach().double().expand(COUNT, len(place), -1).clone()
        for window, (places, row) in enumerate(zip(scene.left(name), tokens, strict=True)):
            expected[window, places] = row
        expected = expected + place + scene.parts[name].decoder_kind.detach().double()
        torch.testing.assert_close(
            drawn_from[:, start : start + len(place)], expected, rtol=0, atol=1e-5
        )
        start += len(place)
    assert start == drawn_from.shape[1]


def test_cav_mae_contrasts_each_clip_with_all_sensors() -> None:
    scene = CavMaeScene()
    found = scene.losses()["contrast"]
    ends = [scene.saw[f"end of {name}"] for name in ("video", "sensor")]
    assert [tokens.shape[1] for tokens in ends] == [2, 2]  # those of what was shown
    seen, felt = (tokens.mean(dim=1) for tokens in ends)
    torch.testing.assert_close(found.double(), 0.3 * one_way(seen, felt, 0.2))
    for wrong in (one_way(felt, seen, 0.2), one_way(seen, felt.roll(1, 0), 0.2)):
        assert abs(0.3 * wrong - found) > 1e-3
