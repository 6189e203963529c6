"""What training makes small."""

from __future__ import annotations

import torch
from torch import nn

#: Temperature of InfoNCE (van den Oord et al. 2018, arXiv:1807.03748) between pictures and texts.
TEMPERATURE = 0.07


def mask_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy and Dice loss (Milletari et al. 2016, arXiv:1606.04797) of masks, each a mean over regions.

    A region that is absent has an empty mask: its Dice term falls to 0 as its predicted mask empties.

    Parameters
    ----------
    logits, masks : (N, R, S, S); masks 0 or 1.
    """
    cross_entropy = nn.functional.binary_cross_entropy_with_logits(logits, masks)
    predicted = logits.sigmoid().flatten(2)
    wanted = masks.flatten(2)
    overlap = (predicted * wanted).sum(-1)
    dice = 1 - (2 * overlap + 1) / (predicted.sum(-1) + wanted.sum(-1) + 1)
    return cross_entropy + dice.mean()


def info_nce(first: torch.Tensor, second: torch.Tensor, temperature: float = TEMPERATURE) -> torch.Tensor:
    """Each of `first` finds its partner in `second` among all of the batch, and the other way round.

    Parameters
    ----------
    first, second : (N, D), any lengths; row i of one belongs to row i of the other.
    """
    similarity = nn.functional.normalize(first, dim=-1) @ nn.functional.normalize(second, dim=-1).T / temperature
    labels = torch.arange(len(first), device=first.device)
    cross_entropy = nn.functional.cross_entropy
    return (cross_entropy(similarity, labels) + cross_entropy(similarity.T, labels)) / 2
