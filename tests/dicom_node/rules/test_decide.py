from typing import Any

import pytest

from dicom_node.routes import Priority
from dicom_node.rules.book import RuleBook
from dicom_node.rules.decide import decide
from dicom_node.rules.rank import rank_of
from dicom_node.rules.traits import SeriesTraits, kernel_is_soft, traits_of
from tests.phantoms import TorsoPhantom

PHANTOM = TorsoPhantom(shape=(12, 16, 16), slice_mm=5.0)


def traits(phantom: TorsoPhantom = PHANTOM, **attributes: Any) -> SeriesTraits:
    datasets = list(phantom.datasets())
    for dataset in datasets:
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
    return traits_of(datasets, "CT1_ROOM2")


def fires(condition: dict[str, Any], **attributes: Any) -> bool:
    book = RuleBook.model_validate({"rules": [{"name": "r", "when": [condition]}]})
    return decide(traits(**attributes), book).route is not None


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        ({"attribute": "BodyPartExamined", "equals": "abdomen"}, True),
        ({"attribute": "BodyPartExamined", "equals": "HEAD"}, False),
        ({"attribute": "BodyPartExamined", "equals": "HEAD", "not": True}, True),
        ({"attribute": "BodyPartExamined", "one_of": ["HEAD", "ABDOMEN"]}, True),
        ({"attribute": "ImageType", "one_of": ["AXIAL"]}, True),
        ({"attribute": "StudyDescription", "contains": "staging"}, True),
        ({"attribute": "StudyDescription", "matches": "^ct .* ABD"}, True),
        ({"attribute": "StudyDescription", "present": False}, False),
        ({"attribute": "ContrastBolusAgent", "present": False}, True),
        ({"attribute": "KVP", "at_least": 100, "at_most": 120}, True),
        ({"attribute": "KVP", "at_least": 121}, False),
        ({"attribute": "KVP", "equals": 120}, True),
        ({"geometry": "slices", "equals": 12}, True),
        ({"geometry": "slice_spacing_mm", "at_most": 5}, True),
        ({"geometry": "coverage_mm", "at_least": 56}, False),
        ({"geometry": "soft_tissue", "equals": 1}, True),
    ],
)
def test_condition(condition: dict[str, Any], fits: bool) -> None:
    found = fires(
        condition,
        BodyPartExamined="ABDOMEN",
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        StudyDescription="CT staging Abd",
        KVP="120",
        ConvolutionKernel="Br40d",
    )
    assert found is fits


def test_commonest_value_of_the_slices_counts_not_the_first() -> None:
    datasets = list(PHANTOM.datasets())
    for index, dataset in enumerate(datasets):
        dataset.BodyPartExamined = "HEAD" if index == 0 else "ABDOMEN"
    assert traits_of(datasets, "CT1").values("BodyPartExamined") == ("ABDOMEN",)


def test_first_rule_that_fits_decides_and_every_rule_says_why() -> None:
    book = RuleBook.model_validate(
        {
            "rules": [
                {"name": "other room", "sources": ["CT9*"]},
                {
                    "name": "head",
                    "when": [{"attribute": "BodyPartExamined", "equals": "HEAD"}],
                },
                {"name": "stat", "sources": ["CT1*"], "priority": "stat", "destinations": ["p"]},
                {"name": "never reached"},
            ]
        }
    )
    decision = decide(traits(BodyPartExamined="ABDOMEN"), book)
    assert decision.route is not None
    assert (decision.route.rule, decision.route.priority) == ("stat", Priority.STAT)
    assert decision.route.destinations == ("p",)
    assert [reason.message for reason in decision.trail] == [
        "rule other room does not fit: the source is CT1_ROOM2, not CT9*",
        "rule head does not fit: BodyPartExamined is ABDOMEN",
        "rule stat fits",
    ]


def test_refusal_has_a_sentence() -> None:
    rule = {"name": "no heads", "action": "skip", "because": "heads have no L3"}
    decision = decide(traits(), RuleBook.model_validate({"rules": [rule]}))
    assert decision.refusal is not None
    assert decision.refusal.message == "rule no heads: heads have no L3"


def test_series_that_no_rule_fits_is_refused() -> None:
    rule = {"name": "r", "sources": ["X"]}
    decision = decide(traits(), RuleBook.model_validate({"rules": [rule]}))
    assert decision.refusal is not None
    assert decision.refusal.code == "NO_RULE_FITS"


def test_free_text_is_not_quoted() -> None:
    rule = {"name": "r", "when": [{"attribute": "StudyDescription", "equals": "x"}]}
    decision = decide(
        traits(StudyDescription="call Dr Who"), RuleBook.model_validate({"rules": [rule]})
    )
    assert "Who" not in "".join(reason.message for reason in decision.trail)


@pytest.mark.parametrize(
    ("kernel", "soft"),
    [
        *(("B30f", True), ("Br40d", True), ("I31f\\3", True), ("B70f", False), ("Bl57d", False)),
        *(("STANDARD", True), ("SOFT", True), ("LUNG", False), ("BONEPLUS", False)),
        *(("B", True), ("YC", False), ("FC13", True), ("FC52", False), ("FC30", False)),
        *(("", None), ("MYSTERY", None)),
    ],
)
def test_kernels_of_vendors(kernel: str, soft: bool | None) -> None:
    assert kernel_is_soft(kernel) is soft


def best(*candidates: dict[str, Any]) -> int:
    ranks = []
    for candidate in candidates:
        phantom = TorsoPhantom(shape=(12, 16, 16), slice_mm=candidate.pop("spacing", 5.0))
        thickness = candidate.pop("SliceThickness", None)
        ranks.append(rank_of(traits(phantom, SliceThickness=thickness, **candidate))[0])
    return ranks.index(min(ranks))


def test_best_series_is_thin_soft_and_of_the_abdomen() -> None:
    soft, sharp = {"ConvolutionKernel": "Br40d"}, {"ConvolutionKernel": "Br60d"}
    assert best(soft | {"SliceThickness": 5}, soft | {"SliceThickness": 1}) == 1
    assert best(soft | {"SliceThickness": 5}, sharp | {"SliceThickness": 1}) == 0
    chest = {"BodyPartExamined": "CHEST", "SliceThickness": 1}
    assert best(soft | chest, soft | {"BodyPartExamined": "ABDOMEN", "SliceThickness": 5}) == 1
    assert best(soft | {"spacing": 2.0}, soft | {"spacing": 5.0}) == 0


def test_damaged_attribute_raises_nothing() -> None:
    assert traits(KVP=None).values("KVP") == ()
