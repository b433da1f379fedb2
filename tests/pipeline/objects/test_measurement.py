import dataclasses
import json

import pytest

from pipeline.errors import TooFewSlicesError
from pipeline.objects.measurement import measurement_json, not_measured_json
from pipeline.types import ModelIdentity, SecondOpinion
from tests.phantoms import TorsoPhantom, phantom_analysis

PHANTOM = TorsoPhantom((5, 64, 64), 6.0, height_m=2.0)


def test_the_measurement_has_the_promised_keys_and_values() -> None:
    analysis = phantom_analysis(PHANTOM)
    found = json.loads(json.dumps(measurement_json(analysis, "9.9")))
    area = analysis.composition.of("skeletal_muscle").area_cm2
    assert found["status"] == "measured"
    assert found["series_instance_uid"] == PHANTOM.series_instance_uid
    assert found["level"]["name"] == "L3"
    assert found["level"]["sop_instance_uid"] == PHANTOM.sop_instance_uid(2)
    assert found["level"]["slice_index_from_inferior"] == 2
    assert found["level"]["z_mm"] == -340.0
    assert found["level"]["confidence"] == 0.9
    assert found["skeletal_muscle_area_cm2"] == pytest.approx(area, abs=1e-4)
    assert found["interval_cm2"]["lower"] < area < found["interval_cm2"]["upper"]
    assert found["interval_cm2"]["coverage"] == 0.9
    assert found["mean_attenuation_hu"] == 50.0
    assert found["skeletal_muscle_index_cm2_m2"] == pytest.approx(area / 4, abs=1e-4)
    assert found["assessment"]["verdict"] == "above_cutoff"
    assert found["assessment"]["cutoff"] == 92.2
    assert found["assessment"]["reason"]
    assert found["quality"] == [
        {"code": "CONTRAST", "severity": "info", "message": "Contrast agent was given."}
    ]
    assert found["model"] == {"name": "segmenter", "version": "1.0", "sha256": "ab" * 32}
    assert found["software_version"] == "9.9"
    assert found["research_use_only"] is True


def test_what_is_unknown_is_null() -> None:
    analysis = phantom_analysis(dataclasses.replace(PHANTOM, height_m=None))
    found = measurement_json(dataclasses.replace(analysis, interval=None), "9.9")
    assert found["interval_cm2"] is None
    assert found["skeletal_muscle_index_cm2_m2"] is None


def test_second_opinion_is_named_with_its_model() -> None:
    analysis = phantom_analysis(PHANTOM)
    assert measurement_json(analysis, "9.9")["second_opinion"] is None
    opinion = SecondOpinion(0.51, 0.5, ModelIdentity("densenet", "3", "ef" * 32))
    found = measurement_json(dataclasses.replace(analysis, second_opinion=opinion), "9.9")
    assert json.loads(json.dumps(found["second_opinion"])) == {
        "probability_of_low": 0.51,
        "threshold": 0.5,
        "low": True,
        "model": {"name": "densenet", "version": "3", "sha256": "ef" * 32},
    }


def test_a_refusal_has_a_code_and_a_reason() -> None:
    found = not_measured_json(TooFewSlicesError("the series has 3 axial slices"), "1.2.3", "9.9")
    assert found["status"] == "not_measured"
    assert found["code"] == "TOO_FEW_SLICES"
    assert found["reason"] == "the series has 3 axial slices"
    assert found["series_instance_uid"] == "1.2.3"
