"""What training minimises."""

from monai.losses.dice import DiceLoss
from torch import Tensor
from torch.nn import functional


def dice_cross_entropy(logits: Tensor, fractions: Tensor, weights: Tensor) -> Tensor:
    """Dice with squared terms plus cross entropy, both against area fractions.

    Squared terms make a fraction that is predicted exactly the optimum; without them soft targets
    are pushed to 0 or 1 (Milletari et al., V-Net, 2016).

    Parameters
    ----------
    logits, fractions : Tensor, shape (B, compartments, ...)
    weights : Tensor, shape (B,)

    Returns
    -------
    Tensor, shape ()
    """
    dice = DiceLoss(
        softmax=True, squared_pred=True, smooth_nr=0.0, smooth_dr=1e-6, reduction="none"
    )
    overlap = dice(logits, fractions).flatten(1).mean(1)
    entropy = functional.cross_entropy(logits, fractions, reduction="none").flatten(1).mean(1)
    total: Tensor = (weights * (overlap + entropy)).sum() / weights.sum()
    return total
