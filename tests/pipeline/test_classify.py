import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from pipeline.classify import LoadedClassifier, classifier_image, load_classifier, second_opinion
from pipeline.errors import ModelError
from pipeline.preprocess import PreprocessSpec, prepare
from pipeline.quality import check_agreement
from pipeline.types import Assessment, ModelIdentity, SecondOpinion, Verdict
from tests.models import write_tiny_classifier
from tests.phantoms import TorsoPhantom

PHANTOM = TorsoPhantom((3, 96, 96), 4.0)
SPEC = PreprocessSpec(spacing_mm=(4.0, 4.0), side_multiple=64, smallest_side=64)
IDENTITY = ModelIdentity("classifier", "1", "ab" * 32)


class Fixed(nn.Module):
    """Gives the images that it sees back, and a logit for each."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = logits
        self.seen: list[Tensor] = []

    @override
    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return torch.tensor([[0.0, logit] for logit in self.logits])


def loaded(*networks: nn.Module) -> LoadedClassifier:
    return LoadedClassifier(IDENTITY, SPEC, 0.5, networks, torch.device("cpu"))


def test_opinion_is_the_mean_over_members_and_mirrored_views() -> None:
    first, second = Fixed(0.0, 100.0), Fixed(-100.0, -100.0)
    opinion = second_opinion(loaded(first, second), PHANTOM.volume(), 1)
    assert opinion.probability == pytest.approx((0.5 + 1.0 + 0.0 + 0.0) / 4)
    assert not opinion.is_low
    plain, mirrored = first.seen[0]
    assert torch.equal(plain.flip(1), mirrored)
    prepared = prepare(PHANTOM.volume(), 1, SPEC).image
    assert np.array_equal(plain.numpy(), classifier_image(prepared, SPEC))


def test_body_wider_than_the_square_is_cut_around_its_middle() -> None:
    image = np.zeros((1, 128, 64), dtype=np.float32)
    image[0, 32:96] = np.arange(64)
    cut = classifier_image(image, SPEC)
    assert np.array_equal(cut, image[:, 32:96])
    assert cut.flags.c_contiguous


def test_folder_is_loaded_and_gives_an_opinion(tmp_path: Path) -> None:
    classifier = load_classifier(write_tiny_classifier(tmp_path), torch.device("cpu"))
    opinion = second_opinion(classifier, PHANTOM.volume(), 1)
    assert 0 < opinion.probability < 1
    assert opinion.model.name == "tiny_classifier"
    assert opinion.threshold == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["low", "not_low"]}, "tells"),
        ({"extra": {"threshold": 1.0}}, "threshold 1.0"),
        ({"network": {"name": "resnet50", "arguments": {"scaling": "grey"}}}, "scaling"),
        ({"network": {"name": "densenet121", "arguments": {}}}, "do not fit"),
    ],
)
def test_folder_of_something_else_is_refused(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    folder = write_tiny_classifier(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(ModelError, match=message):
        load_classifier(folder, torch.device("cpu"))


@pytest.mark.parametrize(
    ("verdict", "probability", "disagrees"),
    [
        (Verdict.BELOW_CUTOFF, 0.1, True),
        (Verdict.BELOW_CUTOFF, 0.9, False),
        (Verdict.ABOVE_CUTOFF, 0.1, False),
        (Verdict.ABOVE_CUTOFF, 0.5, True),
        (Verdict.INDETERMINATE, 0.9, False),
        (Verdict.NOT_ASSESSED, 0.1, False),
    ],
)
def test_disagreement_of_the_branches_is_flagged_and_an_open_verdict_disagrees_with_nothing(
    verdict: Verdict, probability: float, disagrees: bool
) -> None:
    opinion = SecondOpinion(probability, 0.5, IDENTITY)
    assessment = Assessment(verdict, None, "")
    flags = check_agreement(assessment, opinion)
    assert [flag.code for flag in flags] == ["CLASSIFIER_DISAGREES"] * disagrees
    assert check_agreement(dataclasses.replace(assessment, reason="x"), opinion) == flags
