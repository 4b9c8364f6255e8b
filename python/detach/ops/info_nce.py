"""Weighted InfoNCE: one loss of which most contrastive losses are cases. Plain torch."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from detach.ops.info_nce_checks import (
    check_features,
    check_options,
    check_pairs,
    check_temperature,
)

HardnessForm = Literal["hcl", "additive"]

BLOCK_NUMBERS = 1 << 22
"""Logits above which rows go in blocks, whose temporaries the gradient computes again."""
STEEPEST = 60.0
"""Exponent up to which the gradient of a zero weight is told exactly; float32 ends at 88."""


def weighted_info_nce(
    query: Tensor,
    key: Tensor,
    weight: Tensor | None = None,
    *,
    temperature: float | Tensor,
    positive: float = 1.0,
    debias: float = 0.0,
    hardness: float = 0.0,
    hardness_form: HardnessForm = "hcl",
    extra_keys: Tensor | None = None,
    extra_weight: Tensor | None = None,
    mask: Tensor | None = None,
    symmetric: bool = False,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Tensor:
    r"""Contrastive loss with any weights: row i of ``query`` belongs to row i of ``key``.

    With l_ij = query_i key_j / temperature_i, and the negatives of row i being all other keys that
    are not masked and all extra keys, M_i of them::

        loss_i = log(positive exp(l_ii) + G_i) - l_ii
        S_i = sum_j W_ij v_ij exp(l_ij)
        G_i = S_i                                                                  debias = 0
        G_i = max((S_i - debias M_i exp(l_ii)) / (1 - debias), M_i exp(-1 / temperature_i))
        v_ij = exp(hardness l_ij) / mean_k exp(hardness l_ik)                      form "hcl"
        v_ij = exp(hardness query_i key_j), a constant to the gradient             form "additive"

    where the mean is over the M_i negatives, whatever their weights. Cases:

    - InfoNCE: nothing but ``temperature``; CLIP's loss: ``symmetric``.
    - Decoupled (DCL, Yeh et al. 2022): ``positive=0``.
    - Debiased (Chuang et al. 2020): ``debias`` their tau+; on unit vectors, as the floor supposes.
    - HCL (Robinson et al. 2021): ``debias`` and ``hardness`` their beta.
    - HN-NCE (Radenovic et al. 2023): ``positive`` their alpha, ``hardness`` their beta.
    - Soft-InfoNCE, or 0/1 weights that drop likely false negatives: ``weight``.
    - Additive hardness (LLaVE, EmbeddingGemma): ``hardness_form="additive"``.
    - Queue (MoCo): ``extra_keys``. DETACH: ``weight`` its W.

    Gradients flow to both features, the extra keys, the weights and a temperature that is a tensor.
    Computed in float32 for half types; above `BLOCK_NUMBERS` logits in O(rows in a block x N)
    memory, but under `torch.func`, where nothing can be computed again. A row without negatives has
    loss log(positive), and 0 where ``positive`` is 0.

    Args:
        query: [N, d], N >= 1; float32, float64, float16 or bfloat16. Nothing is normalised.
        key: [N, d]; all tensors share device and, but for ``mask``, dtype.
        weight: W >= 0, [N, N]; its diagonal does not count. None is 1. On a CPU a negative weight
            is refused; on a GPU, where looking would wait for it, it counts as 0.
        temperature: > 0: a number, a tensor of one element, or one a row, [N]. On a GPU a tensor's
            values are not looked at.
        positive: How much the positive counts among its rivals, >= 0.
        debias: Share of negatives that are positives in truth, in [0, 1).
        hardness: >= 0; 0 is none.
        hardness_form: "hcl" or "additive".
        extra_keys: More negatives for every row, [Q, d].
        extra_weight: Theirs, [N, Q]; None is 1.
        mask: Bool [N, N], True where a pair is no negative; the diagonal does not count.
        symmetric: Mean of this loss and that of ``key`` against ``query``, which takes the
            transposed weight and mask; not with ``extra_keys``, which belong to one direction.
        reduction: "mean", "sum", or "none": [N].

    Returns:
        [] or [N]; float64 for float64 and otherwise float32.

    Raises:
        TypeError: Something is no tensor or number, or of another dtype.
        ValueError: A shape, device, number or word is out of range.
    """
    check_options(positive, debias, hardness, hardness_form, reduction)
    check_features(query, key, extra_keys)
    check_pairs(query, extra_keys, weight, extra_weight, mask)
    check_temperature(temperature, query)
    if symmetric and extra_keys is not None:
        raise ValueError("symmetric must be False where there are extra_keys: they have no queries")
    form = _Form(positive, debias, hardness, hardness_form)
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    with torch.autocast(query.device.type, enabled=False):
        query, key = query.to(dtype), key.to(dtype)
        if not isinstance(temperature, Tensor):
            temperature = query.new_tensor(float(temperature))
        temperature = temperature.to(dtype).reshape(-1, 1)
        side = _Side(query, key, weight, temperature, extra_keys, extra_weight, mask)
        loss = _losses(side, form)
        if symmetric:
            weight, mask = (None if x is None else x.T for x in (weight, mask))
            back = _Side(key, query, weight, temperature, None, None, mask)
            loss = 0.5 * (loss + _losses(back, form))
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()


class _Form(NamedTuple):
    positive: float
    debias: float
    hardness: float
    hardness_form: HardnessForm


class _Side(NamedTuple):
    """One direction: rows of ``query`` against all of ``key`` and the extra keys."""

    query: Tensor
    key: Tensor
    weight: Tensor | None
    temperature: Tensor
    extra_keys: Tensor | None
    extra_weight: Tensor | None
    mask: Tensor | None

    def rows(self, first: int, last: int) -> "_Side":
        """The same for some of its rows."""
        span = slice(first, last)
        per_row = len(self.temperature) > 1
        return self._replace(
            query=self.query[span],
            weight=None if self.weight is None else self.weight[span],
            temperature=self.temperature[span] if per_row else self.temperature,
            extra_weight=None if self.extra_weight is None else self.extra_weight[span],
            mask=None if self.mask is None else self.mask[span],
        )


def _losses(side: _Side, form: _Form) -> Tensor:
    n = len(side.query)
    columns = n + (0 if side.extra_keys is None else len(side.extra_keys))
    if n * columns <= BLOCK_NUMBERS:
        return _block(0, form, *side)
    step = max(1, BLOCK_NUMBERS // columns)
    blocks = ((first, side.rows(first, min(first + step, n))) for first in range(0, n, step))
    return torch.cat([_again_for_gradient(first, form, rows) for first, rows in blocks])


def _again_for_gradient(first: int, form: _Form, rows: _Side) -> Tensor:
    """Keeps only what the block is made from."""
    if torch._C._are_functorch_transforms_active():  # noqa: SLF001 -- no public name
        return _block(first, form, *rows)
    loss: Tensor = checkpoint(
        _block, first, form, *rows, use_reentrant=False, preserve_rng_state=False
    )
    return loss


def _block(first: int, form: _Form, *tensors: Tensor | None) -> Tensor:
    """Losses [C] of C rows, whose positives start at column ``first``."""
    rows = _Side(*tensors)  # type: ignore[arg-type]
    similar = rows.query @ rows.key.T
    if rows.extra_keys is not None:
        similar = torch.cat([similar, rows.query @ rows.extra_keys.to(similar.dtype).T], dim=1)
    logits = similar / rows.temperature
    positive = logits.diagonal(first)
    negative = _negatives(first, similar.shape[1], rows)
    count = negative.sum(dim=1).to(logits.dtype)
    exponent = logits + _tilt(similar, logits, negative, count, form)
    total, shift = _weighted_sum(exponent, _weight(rows, exponent), negative, positive)
    if form.debias == 0.0:
        lower, alone = _plain(total, shift, positive, form.positive)
    else:
        floor = count.log() - rows.temperature.reciprocal().squeeze(1)
        lower = _debiased(total, shift, positive, floor, count, form)
        alone = count == 0
    loss = lower - positive
    return loss if form.positive else loss.masked_fill(alone, 0.0)


def _negatives(first: int, columns: int, rows: _Side) -> Tensor:
    """Bool [C, N + Q]: all but each row's own key and what is masked."""
    negative = torch.ones(len(rows.query), columns, dtype=torch.bool, device=rows.query.device)
    if rows.mask is not None:
        negative[:, : len(rows.key)] = ~rows.mask
    negative.diagonal(first).fill_(False)
    return negative


def _weight(rows: _Side, like: Tensor) -> Tensor | None:
    """W [C, N + Q] of both kinds of keys; None where all are 1."""
    if rows.weight is None and rows.extra_weight is None:
        return None
    whole = [like.new_ones(len(like), len(rows.key)) if rows.weight is None else rows.weight]
    if rows.extra_weight is not None:
        whole.append(rows.extra_weight)
    elif rows.extra_keys is not None:
        whole.append(like.new_ones(len(like), len(rows.extra_keys)))
    return torch.cat(whole, dim=1).to(like.dtype).clamp(min=0.0)


def _tilt(
    similar: Tensor, logits: Tensor, negative: Tensor, count: Tensor, form: _Form
) -> Tensor | float:
    """Log v, [C, N + Q]."""
    if form.hardness == 0.0:
        return 0.0
    if form.hardness_form == "additive":
        return form.hardness * similar.detach()
    steep = form.hardness * logits
    some = (count > 0)[:, None]  # a row of -inf alone would have no gradient
    whole = steep.masked_fill(~negative & some, -torch.inf).logsumexp(dim=1, keepdim=True)
    return steep - whole + count.clamp(min=1)[:, None].log()


def _weighted_sum(
    exponent: Tensor, weight: Tensor | None, negative: Tensor, positive: Tensor
) -> tuple[Tensor, Tensor]:
    """(total, shift) [C] each: the sum over negatives is total exp(shift)."""
    counted = negative if weight is None else negative & (weight != 0)
    shift = exponent.detach().masked_fill(~counted, -torch.inf).amax(dim=1)
    shift = torch.where(counted.any(dim=1), shift, positive.detach())
    terms = (exponent - shift[:, None]).clamp(max=STEEPEST).exp().masked_fill(~negative, 0.0)
    return (terms if weight is None else weight * terms).sum(dim=1), shift


def _plain(total: Tensor, shift: Tensor, positive: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Logarithm of the denominator, and where nothing is in it."""
    if share:
        top = torch.maximum(shift, positive.detach())
        total, shift = share * (positive - top).exp() + total * (shift - top).exp(), top
    nothing = total == 0
    return shift + total.masked_fill(nothing, 1.0).log(), nothing


def _debiased(
    total: Tensor, shift: Tensor, positive: Tensor, floor: Tensor, count: Tensor, form: _Form
) -> Tensor:
    """The same, less what positives among the negatives add."""
    top = torch.maximum(shift, positive.detach())
    expected = form.debias * count * (positive - top).exp()
    rest = (total * (shift - top).exp() - expected) / (1.0 - form.debias)
    low = rest <= (floor.detach() - top).exp()
    lower = torch.where(low, floor, top + rest.masked_fill(low, 1.0).log())
    return torch.logaddexp(positive + math.log(form.positive), lower) if form.positive else lower
