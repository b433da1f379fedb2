"""How rates, temperatures and momenta change over a run; all are functions of the step."""

import math

from training.config import PretrainRecipe


def warmup_cosine(step: int, steps: int, warmup_steps: int) -> float:
    """Linear rise over the warm-up, then a cosine down to zero; 0 to 1."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def teacher_temperature(step: int, recipe: PretrainRecipe, *, patch: bool) -> float:
    """Linear rise from the low to the high temperature.

    For whole images it begins with the run, for patches it may begin later.
    """
    low, high = recipe.teacher_temperature
    begin = recipe.patch_temperature_start if patch else 0.0
    risen = (step / recipe.steps - begin) / recipe.temperature_rise
    return low + (high - low) * min(1.0, max(0.0, risen))


def teacher_share(step: int, recipe: PretrainRecipe) -> float:
    """How far the teacher moves towards the student in a step: falls to 0 as a cosine.

    The step is that of the whole run, not of an epoch.
    """
    return (1 - recipe.teacher_momentum) * (math.cos(math.pi * step / recipe.steps) + 1) / 2
