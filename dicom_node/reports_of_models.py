"""Print models, replays and comparisons, as text for people or JSON for machines."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final

from rich.console import Console
from rich.text import Text

from dicom_node.config import NodeSettings
from dicom_node.ledger_models import ModelUse
from dicom_node.ledger_shadows import ShadowState
from dicom_node.model_store import InstalledModel, ModelKind
from dicom_node.replay import Plan, Planned
from dicom_node.reports import print_json
from dicom_node.shadow_page import sentences
from dicom_node.shadow_report import Comparison

_MEANING: Final = {
    Plan.REPLAY: "is measured again and delivered",
    Plan.SILENT: "is measured silently",
    Plan.SAME: "was measured by this model and software already",
    Plan.NOT_ENDED: "is on its way still",
    Plan.RELEASED: "has no images any more",
    Plan.CORRECTION: "is a reader's segmentation",
}


def print_models(
    models: Mapping[InstalledModel, Sequence[str]],
    uses: Sequence[ModelUse],
    shadows: Mapping[str, Mapping[ShadowState, int]],
    settings: NodeSettings,
    *,
    as_json: bool,
) -> None:
    """Print what is installed, what is in use, and what measures silently."""
    active = {use.kind: use.model for use in uses if use.withdrawn_at is None}
    if as_json:
        print_json(
            {
                "installed": [
                    asdict(model) | {"changed_files": list(changed)}
                    for model, changed in models.items()
                ],
                "in_use": {kind: active.get(kind) for kind in ModelKind},
                "shadows": list(settings.shadow.models),
                "silent_measurements": shadows,
                "history": [asdict(use) for use in uses],
            }
        )
        return
    console = _console()
    for kind in ModelKind:
        console.print(f"{kind.value:<13} {active.get(kind) or _of_settings(kind, settings)}")
    for key in settings.shadow.models:
        counts = shadows.get(key, {})
        console.print(f"shadow        {key}: {counts.get(ShadowState.MEASURED, 0)} measured")
    console.print("\ninstalled" if models else "\nnothing is installed: psoas model add FOLDER")
    for model, changed in models.items():
        line = Text(f"  {model.key}  {model.kind.value}  sha256 {model.sha256}")
        if changed:
            line.append(f"  DAMAGED: {', '.join(changed)}", "bold red")
        console.print(line)
    if uses:
        console.print("\nput to use (UTC)")
    for use in uses:
        withdrawn = f", withdrawn by {use.withdrawn_by}" if use.withdrawn_at else ""
        because = f": {use.because}" if use.because else ""
        console.print(
            f"  {use.used_at:%Y-%m-%d %H:%M:%S}  {use.model} by {use.used_by}{withdrawn}{because}"
        )


def print_installed(model: InstalledModel, *, as_json: bool) -> None:
    """Print a model that was installed."""
    if as_json:
        print_json(asdict(model))
    else:
        _console().print(f"{model.key} is installed; psoas model use {model.key} uses it")


def print_used(active: Mapping[ModelKind, str], settings: NodeSettings, *, as_json: bool) -> None:
    """Print what is in use now."""
    if as_json:
        print_json({kind: active.get(kind) for kind in ModelKind})
        return
    for kind in ModelKind:
        named = active.get(kind) or _of_settings(kind, settings)
        _console().print(f"{kind.value:<13} {named}")


def print_plan(planned: Sequence[Planned], *, as_json: bool, dry_run: bool) -> None:
    """Print what becomes of each series."""
    if as_json:
        series = [
            {"series_instance_uid": one.series.series_instance_uid, "plan": one.plan.value}
            for one in planned
        ]
        print_json({"dry_run": dry_run, "series": series})
        return
    console = _console()
    for one in planned:
        console.print(f"{one.series.series_instance_uid} {_MEANING[one.plan]}")
    counts = Counter(one.plan for one in planned)
    total = counts[Plan.REPLAY] + counts[Plan.SILENT]
    verb = "would be" if dry_run else "will be"
    console.print(f"{total} of {len(planned)} series {verb} measured again")


def print_comparison(comparison: Comparison, *, as_json: bool) -> None:
    """Print how two models agree, and every series whose verdict changes."""
    if as_json:
        agreement = comparison.agreement
        found = agreement and asdict(agreement) | {"limits_cm2": agreement.limits_cm2}
        print_json(
            asdict(comparison)
            | {"agreement": found, "changed": len(comparison.changed)}
            | {"notice": "research use only, not for diagnosis"}
        )
        return
    console = _console()
    for sentence in sentences(comparison):
        console.print(sentence)
    for pair in comparison.changed:
        console.print(
            f"  {pair.series_instance_uid}: {pair.active.verdict} -> {pair.shadow.verdict}"
        )
    console.print("research use only, not for diagnosis")


def _of_settings(kind: ModelKind, settings: NodeSettings) -> str:
    worker = settings.worker
    folders = {
        ModelKind.SEGMENTER: worker.segmenter,
        ModelKind.LEVEL_FINDER: worker.level_finder,
        ModelKind.CLASSIFIER: worker.classifier,
    }
    if folders[kind] is not None:
        return f"{folders[kind]}, as the settings say"
    return "none, no second opinions" if kind is ModelKind.CLASSIFIER else "the shipped one"


def _console() -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True)
