"""Settings of which series are measured, by whom, and what muscle is compared with."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dicom_node.config.values import Section


class RulesSettings(Section):
    """Which series are analysed."""

    file: Path | None = None
    """Rule file, relative to the settings file; without one every eligible series is analysed."""


class WorkerSettings(Section):
    """The process that measures."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """Compute device; `auto` takes a GPU when there is one."""
    segmenter: Path | None = None
    """Folder of the segmentation model; the shipped one when absent."""
    level_finder: Path | None = None
    """Folder of the model that finds L3; the shipped one when absent."""
    classifier: Path | None = None
    """Folder of the classifier for a second opinion; none when absent."""
    time_limit_s: Annotated[float, Field(gt=1)] = 600.0
    """A series that takes longer is stopped and tried again."""
    memory_limit_mib: int = Field(default=16384, ge=0)
    """A series that needs more fails for lack of memory and is tried again; 0 for no limit."""
    attempts: int = Field(default=3, ge=1)
    """After this many lost attempts a series is quarantined."""
    queue_ahead: int = Field(default=4, ge=1)
    """Series that wait at the workers' door; the others wait where urgent ones overtake them."""
    events: bool = False
    """Tell Celery's monitors, such as `psoas flower`, of workers and tasks; by UIDs only."""


class ShadowSettings(Section):
    """Models that measure silently beside the active one, for comparison."""

    models: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")], ...] = ()
    """Keys of installed models (`psoas model list`); their results are never delivered."""
    at_once: int = Field(default=1, ge=1)
    """Silent measurements that are handed to workers while no series waits for one."""


class MeasurementSettings(Section):
    """What muscle is compared with; the profiles stand in `pipeline/cutoffs.toml`."""

    cutoffs: str = "paper"
    """Profile of the area or the index: `paper` (144 and 92 cm2), `derstine2018_sma`, ..."""
    attenuation_cutoffs: str | None = None
    """Profile of the mean attenuation, such as `derstine2018_attenuation`; none when absent."""
    cutoff_file: Path | None = None
    """A file of the site's own profiles, in the form of the shipped one."""
