"""Trained classifiers turned into a model folder that the node loads."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.networks.classifier import CLASSES
from training import checkpoint
from training.members import shared_network, write_members
from training.store import write_text


def export_classifier(
    checkpoints: Sequence[Path],
    name_version: tuple[str, str],
    threshold: float,
    folder: Path,
    report: str = "",
) -> dict[str, Any]:
    """Write a model folder with one member for each checkpoint.

    Parameters
    ----------
    checkpoints : sequence of Path
        Of runs with the same network and preprocessing; the best weights of validation count.
    name_version : tuple of str
    threshold : float
        Probability from which muscle counts as low, between 0 and 1.
    folder : Path
    report : str
        What was measured, for the model card.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    ValueError
        If the checkpoints differ in network or preprocessing.
    """
    states = [checkpoint.load(path) for path in checkpoints]
    recipes = [state["recipe"] for state in states]
    network, arguments, preprocess = shared_network(states)
    files = write_members(folder, [state["best"] or state["network"] for state in states])
    manifest = {
        "name": name_version[0],
        "version": name_version[1],
        "software_version": version("psoas"),
        "network": {"name": network, "arguments": arguments},
        "preprocess": preprocess,
        "files": files,
        "labels": list(CLASSES),
        "extra": {"threshold": float(threshold)},
        "data": {
            "held_out": [list(r["held_out"]) for r in recipes],
            "published": [Path(r["published"]).name for r in recipes],
            "class_weights": [list(s["class_weights"]) for s in states],
        },
    }
    write_text(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    write_text(folder / "MODEL_CARD.md", "\n".join(_card(manifest, report)) + "\n")
    return manifest


def _card(manifest: Mapping[str, Any], report: str) -> list[str]:
    data = manifest["data"]
    return [
        f"# {manifest['name']} {manifest['version']}: is the muscle of a slice low",
        "",
        "**Research use only. Not for diagnostic use.** Advisory: it never changes a verdict.",
        "",
        f"- network: {manifest['network']['name']}, {len(manifest['files'])} members",
        f"- start: {', '.join(sorted(set(data['published']))) or 'fresh weights'}",
        f"- low from a probability of {manifest['extra']['threshold']:g}",
        f"- software: psoas {manifest['software_version']}",
        "",
        report or "Not measured: these weights were exported without an evaluation.",
    ]
