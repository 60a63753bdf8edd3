"""T5's span corruption (Raffel et al. 2020, 3.1.4): random spans of a text are replaced by sentinels,
and the model predicts what stood there."""
from collections.abc import Sequence

import torch
from torch import Tensor


def corrupt(ids: Tensor, generator: torch.Generator, *, sentinels: Sequence[int], share: float = 0.15,
            span: float = 3.0) -> tuple[Tensor, Tensor]:
    """(inputs [n_in], targets [n_out]) of one text [n], all int64: random spans of it replaced by sentinels,
    and what stood there.  No end tokens.

    share of the tokens are masked, in spans of that mean length.  Lesson: notebooks/06_imagen.ipynb"""
    spans = masked_spans(len(ids), generator, share=share, span=span, most=len(sentinels) - 1)
    return cut_out(ids, spans, sentinels)


def cut_out(ids: Tensor, spans: Sequence[tuple[int, int]], sentinels: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(inputs [n_in], targets [n_out]) of one text [n], all int64: each span (start, end) replaced by a
    sentinel of its own; each sentinel with its span behind it, and one more to end with.

    "Thank you <X> me to your party <Y> week", "<X> for inviting <Y> last <Z>" (T5 Fig. 2)."""
    inputs, targets, last = [], [], 0
    for (start, end), sentinel in zip(spans, ids.new_tensor(sentinels).split(1)):
        inputs += [ids[last:start], sentinel]
        targets += [sentinel, ids[start:end]]
        last = end
    closing = ids.new_tensor([sentinels[len(spans)]])
    return torch.cat([*inputs, ids[last:]]), torch.cat([*targets, closing])


def masked_spans(n: int, generator: torch.Generator, *, share: float, span: float,
                 most: int) -> list[tuple[int, int]]:
    """Random spans (start, end) of a text of n tokens, which do not touch; all ways of laying them are
    equally likely.

    Both numbers are rounded, so a caption of 14 tokens has one span of 2.  T5's own code lets the last span
    end the text, always: in a line of 512 tokens that is no matter,
    in a caption it would hide the background and nothing else."""
    if n == 0:
        return []
    masked = min(max(round(share * n), 1), n)
    parts = min(max(round(masked / span), 1), n - masked + 1, most)
    lengths = _split(masked, parts, generator)
    # those before the first span and behind the last are one too long
    gaps = _split(n - masked + 2, parts + 1, generator)
    ends = (gaps[:-1] + lengths).cumsum(0) - 1
    return list(zip((ends - lengths).tolist(), ends.tolist()))


def _split(total: int, parts: int, generator: torch.Generator) -> Tensor:
    """Random lengths [parts] int64 from 1 that add up to total, all ways equally likely."""
    cuts = torch.randperm(total - 1, generator=generator)[:parts - 1].sort().values + 1
    return torch.diff(cuts, prepend=torch.tensor([0]), append=torch.tensor([total]))
