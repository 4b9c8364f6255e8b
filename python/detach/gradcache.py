"""Contrastive steps on large batches with the activations of a small one: gradient caching.

A contrastive loss needs all embeddings of a batch at once, but not all activations. So: embed every
piece of the batch without a graph, take the loss and its gradient at the embeddings, then run each
piece again with a graph and hand it its part of that gradient (Gao et al., "Scaling Deep
Contrastive Learning Batch Size under Memory Limited Setup", 2021). Costs one more forward pass.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

Piece = TypeVar("Piece")


def cached_backward(
    encode: Callable[[Piece], Tensor | tuple[Tensor, ...]],
    pieces: Sequence[Piece],
    loss: Callable[..., Tensor],
    *,
    modules: Iterable[nn.Module] = (),
    generators: Iterable[torch.Generator] = (),
) -> Tensor:
    """Adds to ``.grad`` what ``loss(*embeddings).backward()`` on the whole batch would.

    Each embedding handed to ``loss`` is that of all pieces, concatenated. Both passes see the same
    random numbers, so that dropout and augmentation are the same. Call it inside autocast where the
    encoders run in autocast, and let ``loss`` leave it where it must (the losses of `detach.ops` do
    by themselves). With a gradient scaler let ``loss`` return what the scaler made of it.

    The result is that of the whole batch for whatever treats windows apart: convolutions, attention
    within a window, layer and group norm. Batch norm in training mode does not: its means are then
    those of a piece. Name its modules in ``modules`` so that at least running statistics move once
    a piece and not twice.

    Args:
        encode: Gives one embedding, or several, of a piece, [n, d] each, the same way each time.
        pieces: What the batch is made of; at least one.
        loss: Gives a scalar from as many embeddings [N, d] as ``encode`` returns. Parameters it
            uses itself, like a learnable temperature, get their gradient too.
        modules: Networks whose buffers the pass without a graph must leave alone.
        generators: Whose random numbers ``encode`` uses, besides torch's own.

    Returns:
        The loss, without a graph.

    Raises:
        ValueError: There are no pieces.
    """
    if not pieces:
        raise ValueError("pieces must hold at least one piece, got none")
    sources = [*_default_generators(), *generators]
    states, found = [], []
    with torch.no_grad(), _buffers_kept(modules):
        for piece in pieces:
            states.append(_states(sources))
            found.append(_as_tuple(encode(piece)))
    value, gradients = _at_embeddings(loss, found)
    states.append(_states(sources))
    del found
    torch.clear_autocast_cache()  # in it are weights that were cast without a graph
    for piece, state, own in zip(pieces, states[:-1], gradients, strict=True):
        _restore(sources, state)
        _backward(_as_tuple(encode(piece)), own)
    _restore(sources, states[-1])
    return value


def _at_embeddings(
    loss: Callable[..., Tensor], found: Sequence[tuple[Tensor, ...]]
) -> tuple[Tensor, list[tuple[Tensor | None, ...]]]:
    """The loss, and its gradient at each piece's embeddings."""
    gradients = []
    several = list(zip(*found, strict=True))
    whole = [torch.cat(parts).requires_grad_() for parts in several]
    with torch.enable_grad():
        value = loss(*whole)
        value.backward()
    for x, parts in zip(whole, several, strict=True):
        sizes = [len(part) for part in parts]
        gradients.append([None] * len(parts) if x.grad is None else x.grad.split(sizes))
    return value.detach(), list(zip(*gradients, strict=True))


def _backward(embeddings: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]) -> None:
    """Sends the gradients on, where an embedding is learned and the loss looked at it."""
    pairs = zip(embeddings, gradients, strict=True)
    live = [(x, g) for x, g in pairs if x.requires_grad and g is not None]
    if live:
        torch.autograd.backward([x for x, _ in live], [g for _, g in live])


def _as_tuple(embeddings: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (embeddings,) if isinstance(embeddings, Tensor) else tuple(embeddings)


def _default_generators() -> list[torch.Generator]:
    gpus = torch.cuda.default_generators if torch.cuda.is_initialized() else ()
    return [torch.default_generator, *gpus]


def _states(sources: Sequence[torch.Generator]) -> list[Tensor]:
    return [source.get_state() for source in sources]


def _restore(sources: Sequence[torch.Generator], states: Sequence[Tensor]) -> None:
    for source, state in zip(sources, states, strict=True):
        source.set_state(state)


@contextlib.contextmanager
def _buffers_kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Running statistics are afterwards as they were before."""
    buffers = [buffer for module in modules for buffer in module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, old in zip(buffers, before, strict=True):
            buffer.copy_(old)
