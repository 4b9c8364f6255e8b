"""Residual networks of 18 and 50 layers (He et al., CVPR 2016, arXiv 1512.03385), without weights.

The second form of the 50 layers, which takes its stride in the 3 x 3 convolution, as everybody's
does today. From scratch, like every video encoder here: 11.2 and 23.5 million parameters without
the classifier. N pictures, H W pixels, d feature width.
"""

from typing import Literal

from torch import Tensor, nn

Layers = Literal[18, 50]
BLOCKS: dict[Layers, tuple[int, int, int, int]] = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
WIDTHS = (64, 128, 256, 512)
WIDENED = 4
"""How much wider a bottleneck is outside than within."""


class ResNet(nn.Module):
    """[N, 3, H, W] -> [N, width, H / 32, W / 32], rounded up; ``width`` is 512 or 2048."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        deep = layers >= 50
        self.start = nn.Sequential(
            *_convolution(3, WIDTHS[0], kernel=7, stride=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        inputs, stages = WIDTHS[0], []
        for stage, (count, within) in enumerate(zip(BLOCKS[layers], WIDTHS, strict=True)):
            blocks = []
            for i in range(count):
                stride = 2 if stage and i == 0 else 1
                blocks.append(_Residual(inputs, within, stride, deep=deep))
                inputs = within * (WIDENED if deep else 1)
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.width = inputs
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pictures: Tensor) -> Tensor:
        """Feature maps."""
        return self.stages(self.start(pictures))  # type: ignore[no-any-return]


class ResNetClips(nn.Module):
    """A clip as the mean of its frames: [N, F, 3, H, W] in [0, 1] -> [N, d]."""

    def __init__(self, layers: Layers, width: int) -> None:
        super().__init__()
        self.frames = ResNet(layers)
        self.project = nn.Linear(self.frames.width, width)

    def forward(self, frames: Tensor) -> Tensor:
        """One feature a window."""
        maps = self.frames(frames.flatten(0, 1))
        clips = maps.mean(dim=(2, 3)).unflatten(0, frames.shape[:2])
        return self.project(clips.mean(dim=1))  # type: ignore[no-any-return]


class _Residual(nn.Module):
    """Two convolutions, or three where ``deep``, and a way round them."""

    def __init__(self, inputs: int, within: int, stride: int, *, deep: bool) -> None:
        super().__init__()
        outputs = within * (WIDENED if deep else 1)
        if deep:
            layers = [
                *_convolution(inputs, within, kernel=1),
                nn.ReLU(),
                *_convolution(within, within, kernel=3, stride=stride),
                nn.ReLU(),
                *_convolution(within, outputs, kernel=1),
            ]
        else:
            layers = [
                *_convolution(inputs, within, kernel=3, stride=stride),
                nn.ReLU(),
                *_convolution(within, outputs, kernel=3),
            ]
        self.through = nn.Sequential(*layers)
        same = stride == 1 and inputs == outputs
        past = [] if same else _convolution(inputs, outputs, kernel=1, stride=stride)
        self.past = nn.Sequential(*past)

    def forward(self, maps: Tensor) -> Tensor:
        """[N, inputs, h, w] -> [N, outputs, h / stride, w / stride]."""
        return (self.through(maps) + self.past(maps)).relu()  # type: ignore[no-any-return]


def _convolution(inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]
