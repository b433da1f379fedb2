import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.classify import load_classifier, second_opinion
from tests.training.classify.people import RECIPE, write_people
from training.__main__ import main
from training.classify.cases import read_classed
from training.classify.evaluate import PatientRow, compare, read_areas, report_lines
from training.classify.scores import (
    area_under_curve,
    balanced_accuracy,
    choose_threshold,
    confusion,
    exact_interval,
)
from training.split import folds, read_people
from training.table import fold_words


def flags(*values: int) -> np.ndarray:
    return np.array(values, dtype=bool)


def test_counts_give_sensitivity_and_specificity() -> None:
    counted = confusion(flags(1, 1, 1, 0, 0), flags(1, 1, 0, 0, 1))
    assert (counted.found, counted.overlooked, counted.cleared, counted.alarmed) == (2, 1, 1, 1)
    assert counted.sensitivity == pytest.approx(2 / 3)
    assert counted.specificity == 0.5
    assert balanced_accuracy(flags(1, 1), flags(1, 0)) == 0.5


def test_all_of_sixteen_leave_a_fifth_open() -> None:
    # The paper's 100 % of 16 scans.
    low, high = exact_interval(16, 16)
    assert low == pytest.approx(0.794, abs=1e-3)
    assert high == 1.0
    assert exact_interval(0, 0) == (0.0, 1.0)


def test_area_under_the_curve_counts_ties_half() -> None:
    assert area_under_curve(flags(1, 0, 0), np.array([0.5, 0.5, 0.1])) == pytest.approx(0.75)
    assert area_under_curve(flags(0, 0), np.array([0.5, 0.1])) == 0.5


def test_threshold_keeps_the_sensitivity() -> None:
    low = flags(1, 1, 1, 1, 0)
    probability = np.array([0.9, 0.8, 0.7, 0.2, 0.6])
    assert choose_threshold(low, probability, 0.75) == pytest.approx(0.7)
    assert choose_threshold(low, probability, 0.95) == pytest.approx(0.2)
    assert choose_threshold(flags(0), np.array([0.3]), 0.95) == 0.5


ROWS = [
    PatientRow("a", low=True, probability=0.9),
    PatientRow("b", low=True, probability=0.2),
    PatientRow("c", low=False, probability=0.1),
    PatientRow("d", low=False, probability=0.05),
]
SEXES = dict.fromkeys("abcd", "F")


def test_each_threshold_is_chosen_by_the_other_patients() -> None:
    compared = compare(ROWS, {}, {})
    assert [row.threshold for row in compared.rows] == pytest.approx([0.2, 0.9, 0.2, 0.2])
    assert compared.threshold == pytest.approx(0.2)
    assert [row.called_low for row in compared.rows] == [True, False, False, False]


def test_report_puts_sensitivity_first_and_names_who_was_overlooked() -> None:
    areas = {"a": 95.0, "b": 80.0, "c": 120.0, "d": 130.0}
    lines = report_lines(compare(ROWS, areas, SEXES))
    text = "\n".join(lines)
    assert lines[4].startswith("| branch | sensitivity | overlooked |")
    assert "| classifier | 50 % (1 of 2; 1 to 99) | 1 | 100 %" in text
    assert "| area against cut-off | 50 % (1 of 2; 1 to 99) | 1 | 100 %" in text
    assert "- a: area (probability 0.90, threshold 0.20, 95.0 cm2)" in text
    assert "- b: classifier (probability 0.20, threshold 0.90, 80.0 cm2)" in text
    assert "agree on 2 of 4 patients" in text
    assert "the classifier is right 1 times, the area 1 times" in text
    assert "not for diagnosis" in text
    assert "branches are not compared" in "\n".join(report_lines(compare(ROWS, {}, {})))


def test_areas_are_read_from_either_evaluation(tmp_path: Path) -> None:
    slices = [
        {"patient": "a", "measured_cm2": 90.0},
        {"patient": "a", "measured_cm2": 94.0},
        {"patient": "b", "measured_cm2": 120.0},
    ]
    (tmp_path / "slices.json").write_text(json.dumps(slices))
    (tmp_path / "evaluation.json").write_text(json.dumps({"pretrained": {"slices": slices}}))
    for name in ("slices.json", "evaluation.json"):
        assert read_areas(tmp_path / name) == {"a": 92.0, "b": 120.0}


def test_folds_are_trained_compared_and_exported_into_what_the_node_loads(tmp_path: Path) -> None:
    cases = write_people(tmp_path, thick=2, thin=2)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    data = ["--data", str(tmp_path)]
    words = ["classify", "train", str(tmp_path / "recipe.toml"), *data, "--cases", str(cases)]
    # What ``classify folds`` runs, in this process.
    for name, run in fold_words(folds(read_people(cases), 2, 1), words).items():
        main([*run, "--out", str(tmp_path / "folds" / name)])
    main(
        ["classify", "evaluate", str(tmp_path / "folds"), *data, "--out", str(tmp_path / "report")]
    )
    content = json.loads((tmp_path / "report" / "classification.json").read_text())
    assert sorted(row["patient"] for row in content["patients"]) == ["p0", "p1", "p2", "p3"]
    assert "| classifier |" in (tmp_path / "report" / "classification.md").read_text()
    words = ["classify", "export", str(tmp_path / "folds" / "fold_01"), "--version", "3"]
    evaluated = ["--evaluation", str(tmp_path / "report"), "--out", str(tmp_path / "model")]
    main([*words, *evaluated])
    loaded = load_classifier(tmp_path / "model", torch.device("cpu"))
    opinion = second_opinion(loaded, read_classed(tmp_path, cases)[0].volume, 1)
    assert opinion.threshold == pytest.approx(content["threshold"])
    assert opinion.model.version == "3"
    assert 0 < opinion.probability < 1
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    assert "fresh weights" in card
    assert "| classifier |" in card
