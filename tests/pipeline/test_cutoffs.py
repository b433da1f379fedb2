"""Cut-off profiles are data, each with its source."""

from pathlib import Path

import pytest

import pipeline.cutoffs
from pipeline.cutoffs import DEFAULT_PROFILE, find_profile, read_profiles
from pipeline.errors import CutoffProfileError
from pipeline.sarcopenia import DENSITY_MEASURES, SIZE_MEASURES
from pipeline.types import Sex, Subject

SHIPPED = read_profiles(Path(pipeline.cutoffs.__file__).with_name("cutoffs.toml"))

OWN = """
[ours]
measure = "area_cm2"
citation = "Our own"
population = "Ours"
cutoffs = [{ sex = "M", below = 150.0 }, { sex = "F", below = 100.0 }]
"""


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_every_profile_says_where_it_comes_from(name: str) -> None:
    profile = SHIPPED[name]
    assert profile.citation
    assert profile.population
    assert {row.sex for row in profile.rows} == set(Sex)


def test_default_is_the_paper() -> None:
    rows = find_profile(DEFAULT_PROFILE, SIZE_MEASURES).rows
    assert {row.sex: row.below for row in rows} == {Sex.MALE: 144.0, Sex.FEMALE: 92.0}


def test_age_chooses_the_row() -> None:
    profile = SHIPPED["westenberg2023"]
    rows = profile.rows_for(Subject(age_years=45.0), Sex.FEMALE)
    assert [row.below for row in rows] == [32.8]
    assert profile.rows_for(Subject(age_years=85.0), Sex.FEMALE) == ()
    assert len(profile.rows_for(Subject(), Sex.FEMALE)) == 6


def test_body_mass_index_chooses_the_row() -> None:
    heavy = Subject(height_m=1.80, weight_kg=90.0)
    assert [r.below for r in SHIPPED["martin2013"].rows_for(heavy, Sex.MALE)] == [53.0]
    light = Subject(height_m=1.80, weight_kg=70.0)
    assert [r.below for r in SHIPPED["martin2013"].rows_for(light, Sex.MALE)] == [43.0]


def test_site_can_have_its_own_profile(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    profile = find_profile("ours", SIZE_MEASURES, path)
    assert [row.below for row in profile.rows] == [150.0, 100.0]
    assert find_profile("paper", SIZE_MEASURES, path).name == "paper"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("area_cm2", "volume_cm3"), "malformed"),
        (('sex = "F"', 'sex = "M"'), "rows for M and F"),
        (("citation", "source"), "malformed"),
        (("[ours]", "[ours"), "cannot be read"),
        (("below = 150.0", "below = 150.0, age_years = [30, 20]"), "malformed"),
    ],
)
def test_malformed_profile_is_refused(change: tuple[str, str], words: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace(*change))
    with pytest.raises(CutoffProfileError, match=words):
        find_profile("ours", SIZE_MEASURES, path)


def test_profile_of_another_measure_is_refused() -> None:
    with pytest.raises(CutoffProfileError, match="attenuation"):
        find_profile("derstine2018_attenuation", SIZE_MEASURES)
    assert find_profile("derstine2018_attenuation", DENSITY_MEASURES)
    with pytest.raises(CutoffProfileError, match="known are"):
        find_profile("none", SIZE_MEASURES)
