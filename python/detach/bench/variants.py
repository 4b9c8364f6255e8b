"""Every way to compute the contrastive loss that is timed, and whether they agree."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from detach import equations, ops
from detach.bench import eager, rivals
from detach.bench.eager import LAMBDA_HARD, TAU, Features, Loss, features
from detach.bench.options import Options
from detach.bench.table import skipped
from detach.bench.timing import Body
from detach.errors import DetachError
from detach.ops.contrast import Memory

WEIGHTED, UNWEIGHTED = "weighted", "unweighted"
OURS = "detach"


@dataclass(frozen=True)
class Variant:
    """One way to compute one of the two losses."""

    name: str
    group: str
    loss: Loss
    compiled: bool = False
    native: bool = False
    """Takes half types itself; others run under autocast."""

    def tolerance(self, options: Options) -> float:
        """How far results may be from float64's, in relation to them."""
        if options.dtype != "float32":
            return 0.1
        return 1e-2 if options.on.type == "cuda" else 1e-4  # TF32


class Call:
    """Forward, and unless ``forward_only`` backward, of one variant on its inputs."""

    def __init__(self, variant: Variant, inputs: Features, options: Options) -> None:
        self.inputs = inputs
        self._loss, self._forward_only = variant.loss, options.forward_only
        cast = options.dtype != "float32" and not variant.native
        device, dtype = options.on.type, options.torch_dtype
        self._cast = partial(torch.autocast, device, dtype) if cast else contextlib.nullcontext

    def __call__(self) -> Tensor:
        """The loss; gradients are in the inputs."""
        with self._cast(), torch.set_grad_enabled(not self._forward_only):
            for leaf in self.inputs.learning:
                leaf.grad = None
            loss = self._loss(self.inputs)
        if not self._forward_only:
            loss.backward()
        return loss


def variants(options: Options) -> tuple[list[Variant], list[str]]:
    """All that can run here, ours first, and a line for each that cannot."""
    found = [
        Variant(OURS, WEIGHTED, _ours, native=True),
        Variant(f"{OURS}, recompute", WEIGHTED, partial(_ours, memory="recompute"), native=True),
    ]
    forms = {"literal": eager.literal, "lse": eager.log_sum_exp, "tuned": eager.tuned}
    found += [Variant(f"eager, {name}", WEIGHTED, form) for name, form in forms.items()]
    found += [
        Variant(f"torch.compile, {name}", WEIGHTED, _compiled(form), compiled=True)
        for name, form in forms.items()
    ]
    found.append(Variant(f"{OURS}, W = 1", UNWEIGHTED, _ours_unweighted, native=True))
    lacking = []
    others: list[tuple[str, Callable[[], Loss]]] = [
        ("open_clip ClipLoss", lambda: rivals.open_clip_loss(options.open_clip)),
        ("torch linear_cross_entropy", rivals.linear_cross_entropy),
        ("Inf-CL", lambda: rivals.inf_cl(options.on)),
    ]
    for name, make in others:
        try:
            found.append(Variant(name, UNWEIGHTED, make()))
        except DetachError as error:
            if options.open_clip is not None and name.startswith("open_clip"):
                raise
            lacking.append(skipped(name, error))
    if options.forward_only:  # without a gradient nothing is kept for it
        found = [v for v in found if not v.name.endswith("recompute")]
    return found, lacking


def body(name: str, options: Options, n: int) -> Body:
    """One variant by name, bound to inputs of ``n`` windows."""
    variant = next(v for v in variants(options)[0] if v.name == name)
    return bound(variant, n, options)


def agreeing(
    found: list[Variant], options: Options, n: int, say: Callable[[str], None]
) -> tuple[list[Variant], list[str]]:
    """Those that compute what the equations do in float64, and a line for each that does not."""
    kept, lines, worst = [], [], 0.0
    for variant in found:
        try:
            error = difference(variant, options, n)
        except Exception as failure:  # noqa: BLE001 -- somebody else's code, or no C++ compiler
            lines.append(skipped(variant.name, str(failure).partition("\n")[0]))
            continue
        if error <= variant.tolerance(options):
            kept.append(variant)
            worst = max(worst, error)
        else:
            lines.append(skipped(variant.name, f"its result is off by {error:.1e}"))
    say(f"{len(kept)} variants agree with the equations in float64 to {worst:.1e}, at N = {n}")
    return kept, lines


def difference(variant: Variant, options: Options, n: int) -> float:
    """Relative error of loss and gradients against the equations in float64, the worst."""
    truth = features(n, options.width, torch.device("cpu"), torch.float64)
    expected = _reference(truth, variant.group)
    call = bound(variant, n, options)
    got = [(call().detach(), expected.detach())]
    if not options.forward_only:
        expected.backward()
        for ours, theirs in zip(call.inputs.learning, truth.learning, strict=True):
            if ours.grad is None or theirs.grad is None:
                return float("inf")
            got.append((ours.grad, theirs.grad))
    off = [(a.double().cpu() - b).norm() / b.norm() for a, b in got]
    return float(torch.stack(off).nan_to_num(torch.inf).max())


def _reference(f: Features, group: str) -> Tensor:
    if group == WEIGHTED:
        return equations.weighted_contrastive_loss(
            *f, temperature=TAU, lambda_hard=LAMBDA_HARD, normalize=False
        )
    apart = 1.0 - torch.eye(len(f.video_spatial), dtype=f.video_spatial.dtype)
    return equations.contrast_loss(*f.joined, apart, temperature=TAU)


def _ours(f: Features, memory: Memory = "auto") -> Tensor:
    return ops.weighted_contrastive_loss(
        *f, temperature=TAU, lambda_hard=LAMBDA_HARD, normalize=False, memory=memory
    )


def _ours_unweighted(f: Features) -> Tensor:
    return ops.weighted_contrastive_loss(
        *f[:4], temperature=TAU, lambda_hard=1.0, temporal="none", normalize=False
    )


def _compiled(form: Loss) -> Loss:
    @cache
    def compiled() -> Loss:  # at the first call: the compiler takes seconds to import
        return torch.compile(form, dynamic=False)

    def call(f: Features) -> Tensor:
        return compiled()(f)

    return call


def bound(variant: Variant, n: int, options: Options, seed: int = 0) -> Call:
    """A variant with inputs of ``n`` windows."""
    dtype = options.torch_dtype if variant.native else torch.float32
    return Call(variant, features(n, options.width, options.on, dtype, seed), options)
