from pathlib import Path

import pytest

from training.split import PAPER_SHARES, Person, folds, parts, read_people, read_split, write_split

# 79 people, as in the paper: 40 women, 39 men, 18 of them below the cut-off.
PEOPLE = [
    Person(f"p{i:02d}", "F" if i < 40 else "M", 60.0 if i % 40 < 9 else 200.0) for i in range(79)
]


def test_every_patient_is_in_one_fold() -> None:
    dealt = folds(PEOPLE, 10, seed=1)
    assert sorted(p for patients in dealt.values() for p in patients) == [p.patient for p in PEOPLE]


def test_folds_resemble_each_other_in_sex_and_label() -> None:
    by_name = {person.patient: person for person in PEOPLE}
    for patients in folds(PEOPLE, 10, seed=1).values():
        people = [by_name[p] for p in patients]
        assert len(people) in {7, 8}
        assert 3 <= sum(p.sex == "F" for p in people) <= 5
        assert 1 <= sum(p.muscle_cm2 < 92 for p in people) <= 2


def test_paper_parts_have_the_paper_sizes() -> None:
    sizes = {name: len(p) for name, p in parts(PEOPLE, PAPER_SHARES, seed=3).items()}
    assert sizes == {"train": 47, "validation": 16, "test": 16}


def test_seed_decides() -> None:
    assert folds(PEOPLE, 10, seed=1) == folds(PEOPLE[::-1], 10, seed=1)
    assert folds(PEOPLE, 10, seed=1) != folds(PEOPLE, 10, seed=2)


def test_more_folds_than_patients_are_refused() -> None:
    with pytest.raises(ValueError, match="2 patients"):
        folds(PEOPLE[:2], 3, seed=1)


def test_split_is_written_and_read(tmp_path: Path) -> None:
    split = parts(PEOPLE, PAPER_SHARES, seed=3)
    write_split(tmp_path / "split.json", split, 3)
    assert read_split(tmp_path / "split.json") == split


def test_cases_of_one_person_are_one_patient(tmp_path: Path) -> None:
    lines = ['[[case]]\nname="a"\npatient="x"\nsex="F"\nmuscle_cm2=80.0\n'] * 2
    (tmp_path / "cases.toml").write_text("".join(lines))
    assert read_people(tmp_path / "cases.toml") == [Person("x", "F", 80.0)]
