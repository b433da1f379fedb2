"""The model card of exported weights, filled from what was measured and nothing else."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.store import write_text

_NOT_MEASURED = "Not measured: these weights were exported without an evaluation."


def write_card(
    folder: Path,
    manifest: Mapping[str, Any],
    states: Sequence[Mapping[str, Any]],
    evaluation: Mapping[str, Any] | None,
) -> None:
    """Write ``MODEL_CARD.md`` beside a manifest.

    Parameters
    ----------
    folder : Path
    manifest : Mapping
        As it stands in the folder.
    states : sequence of Mapping
        Checkpoints of the members.
    evaluation : Mapping or None
        One entry of ``evaluation.json``; ``None`` leaves the results out and says so.
    """
    lines = [
        f"# {manifest['name']} {manifest['version']}: skeletal muscle on one axial CT slice",
        "",
        "**Research use only. Not for diagnostic use.** CT muscle area alone does not diagnose "
        "sarcopenia.",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in _facts(manifest, states).items()),
        "",
        "## Data and labels",
        "",
        *(f"- {name}: {value}" for name, value in _data(manifest["data"]).items()),
        "",
        "## Results",
        "",
        *(_results(evaluation) if evaluation else [_NOT_MEASURED]),
        "",
        "## Limits",
        "",
        "Valid for what the data above shows, not measured on anything else. Axial slices only.",
    ]
    write_text(folder / "MODEL_CARD.md", "\n".join(lines) + "\n")


def _facts(manifest: Mapping[str, Any], states: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    spec = manifest["preprocess"]
    recipe = states[0]["recipe"]
    extra = manifest["extra"]
    calibration = extra["calibration"]
    spacing = " x ".join(f"{mm:g}" for mm in spec["spacing_mm"])
    window = spec["window"]
    return {
        "network": f"{manifest['network']['name']}, {len(states)} members in half precision",
        "input": f"{spacing} mm, {window['lower_hu']:g} to {window['upper_hu']:g} HU",
        "output": ", ".join(manifest["labels"]),
        "start": "pre-trained encoder" if recipe.get("pretrained") else "fresh weights",
        "steps": ", ".join(str(_steps(state)) for state in states),
        "batch, learning rate, seeds": (
            f"{recipe['batch']} x {recipe.get('accumulate', 1)}, {recipe['learning_rate']:g}, "
            + ", ".join(str(state["recipe"]["seed"]) for state in states)
        ),
        "muscle threshold": f"{extra['threshold']:g}",
        "interval": (
            f"calibrated by {calibration['patients']} patients" if calibration else "not calibrated"
        ),
        "software": f"psoas {manifest['software_version']}",
    }


def _steps(state: Mapping[str, Any]) -> int:
    """Step of the weights that were exported: the best one, when validation chose one."""
    return int(state["best_score"][0] if state.get("best_score") else state["step"])


def _data(data: Mapping[str, Any]) -> dict[str, str]:
    plain = {}
    for name, value in data.items():
        shown = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
        plain[name.replace("_", " ")] = shown if not isinstance(value, dict) else json.dumps(value)
    return plain


def _results(evaluation: Mapping[str, Any]) -> list[str]:
    lines = [
        "Every patient was measured with a run that had not seen that patient, slice given, at the "
        "threshold that the other patients chose.",
        "",
        "| left out | slices | Dice | mean absolute error of the area | worst slice | bias |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    summary = evaluation["summary"]
    rows = {f"all {summary['patients']} patients": summary}
    rows |= evaluation.get("by_patient", {})
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['slices']} | {row['dice']:.3f} "
            f"| {row['absolute_error_percent']:.1f} % | {row['worst_error_percent']:.1f} % "
            f"| {row['bias_percent']:+.1f} % |"
        )
    low, high = summary["limits_percent"]
    lines += ["", f"Bland-Altman limits over slices: {low:+.1f} to {high:+.1f} %."]
    return lines
