"""The finder of L3: two views of the spine, probabilities of every vertebra's place, a decision."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import LevelNotCoveredError, LevelUncertainError, ModelError
from pipeline.level.numbering import S1_NUMBER, Positions, find_chain, locate
from pipeline.level.projections import ROW_MM, SpineImages, project
from pipeline.networks.level import LEVEL_CLASSES, LevelNet, front_channels, side_channels
from pipeline.types import AnatomicLevel, CTVolume, ModelIdentity
from pipeline.weights import MODELS_FOLDER, choose_device, load_networks, read_manifest

L3_FINDER: Final = "l3_finder"
L3_NUMBER: Final = 15
LAST_RIB_NUMBER: Final = 12
_NAMES: Final = (*(f"T{i}" for i in range(1, 13)), *(f"L{i}" for i in range(1, 6)), "S1", "S2")
_FEWEST_VERTEBRAE: Final = 3
_LEAST_CONFIDENCE: Final = 0.6
_COVERED: Final = 0.5
_NEAR_MM: Final = 10.0
"""A centre within this distance is the same vertebra; neighbours are at least twice as far away."""

_LEAST_MARGIN_MM: Final = 6.0
"""Nearer to the end of the volume a middle cannot be told from the middle of what is left."""

_BODY_SHARE: Final = 0.8
"""Height of a vertebral body with its end plates as a share of the distance of two centres."""


_LUMBAR_VERTEBRAE: Final = 5
_END_ROWS: Final = 10.0 / ROW_MM
"""Nearer than this to T12 or S1 a body is that vertebra itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What the networks see in one volume.

    Parameters
    ----------
    views : SpineImages
    chain : NDArray[np.float64], shape (vertebrae,)
        Rows of what looks like vertebral bodies, ascending, whatever their numbers.
    positions : Positions
        Where each vertebra lies.
    """

    views: SpineImages
    chain: NDArray[np.float64]
    positions: Positions


@dataclass(frozen=True, slots=True, eq=False)
class L3Finder:
    """Finds L3 with trained networks, or says why it cannot.

    Parameters
    ----------
    identity : ModelIdentity
    networks : tuple of LevelNet
        Members of an ensemble, in evaluation mode.
    device : torch.device
    """

    identity: ModelIdentity
    networks: tuple[LevelNet, ...]
    device: torch.device

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        """The weights of the networks."""
        return (self.identity,)

    def find(self, volume: CTVolume) -> AnatomicLevel:
        """Find the middle of L3.

        Parameters
        ----------
        volume : CTVolume

        Raises
        ------
        LevelNotCoveredError
            There is no lumbar spine, or L3 lies above or below the volume.
        LevelUncertainError
            The numbering of the vertebrae is open.
        """
        return decide(self.read(volume), volume)

    def read(self, volume: CTVolume) -> Reading:
        """Draw the views of ``volume`` and locate its vertebrae."""
        views = project(volume)
        centres, side, front = self._predict(views)
        strength = centres.max(axis=1)
        return Reading(views, find_chain(strength), locate(strength, (side, front)))

    def _predict(self, views: SpineImages) -> tuple[NDArray[np.float64], ...]:
        """Mean probabilities of the ensemble: centres, levels by side, levels by front."""
        side = side_channels(torch.from_numpy(views.side).to(self.device)[None])
        front = front_channels(torch.from_numpy(views.front).to(self.device)[None])
        outputs: list[tuple[Tensor, Tensor, Tensor]] = []
        with torch.inference_mode():
            for network in self.networks:
                centres, side_levels, front_levels = network(side, front)
                # Anatomy is nearly symmetric: the mirrored front view is a second opinion.
                mirrored = network.front(front.flip(3))[1]
                levels = (front_levels.softmax(1) + mirrored.softmax(1)) / 2
                outputs.append((centres.sigmoid(), side_levels.softmax(1), levels))
        means = [torch.stack(parts).mean(dim=0)[0] for parts in zip(*outputs, strict=True)]
        return tuple(mean.double().cpu().numpy() for mean in means)


def load_level_finder(folder: Path | None, device: torch.device | None = None) -> L3Finder:
    """Load the finder of L3.

    Parameters
    ----------
    folder : Path or None
        ``None`` takes the weights that come with the package.
    device : torch.device or None
        ``None`` takes the best there is.

    Raises
    ------
    ModelError
        If anything is missing, altered, or made for other code.
    """
    folder = folder or MODELS_FOLDER / L3_FINDER
    manifest = read_manifest(folder)
    if manifest.labels != LEVEL_CLASSES:
        raise ModelError(f"{folder.name} knows {manifest.labels}, wanted {LEVEL_CLASSES}")
    device = device or choose_device()
    networks = load_networks(manifest, device)
    kept = tuple(network for network in networks if isinstance(network, LevelNet))
    if len(kept) != len(networks):
        raise ModelError(f"{folder.name} is no finder of levels but {manifest.network!r}")
    return L3Finder(manifest.identity, kept, device)


def decide(reading: Reading, volume: CTVolume) -> AnatomicLevel:
    """Turn a reading into the slice of L3, or refuse.

    Parameters
    ----------
    reading : Reading
    volume : CTVolume
        The volume that was read.

    Raises
    ------
    LevelNotCoveredError, LevelUncertainError
    """
    if len(reading.chain) < _FEWEST_VERTEBRAE:
        raise LevelNotCoveredError(
            f"{len(reading.chain)} vertebral bodies seen in {_height_mm(reading):.0f} mm, "
            f"L3 needs {_FEWEST_VERTEBRAE} in a row to be counted"
        )
    covered = reading.positions.covered(L3_NUMBER)
    if covered < _COVERED:
        raise LevelNotCoveredError(
            f"the volume shows {_seen(reading)}, L3 lies outside (probability {1 - covered:.2f})"
        )
    row, probability = reading.positions.best_row(L3_NUMBER, _NEAR_MM)
    margin_mm = min(row, len(reading.views.slice_of_row) - 1 - row) * ROW_MM
    if margin_mm < _LEAST_MARGIN_MM:
        raise LevelNotCoveredError(
            f"the middle of L3 would lie {margin_mm:.0f} mm from the end of the volume, which cuts "
            f"the vertebra"
        )
    if probability < _LEAST_CONFIDENCE:
        raise LevelUncertainError(
            f"the middle of L3 lies at z = {_z_mm(reading, volume, row):.0f} mm with a probability "
            f"of {probability:.2f} only, in the volume with {covered:.2f}"
        )
    return _level(reading, volume)


def _level(reading: Reading, volume: CTVolume) -> AnatomicLevel:
    row, probability = reading.positions.best_row(L3_NUMBER, _NEAR_MM)
    half_rows = _half_height_rows(reading, row)
    slices = np.interp(
        [row - half_rows, row, row + half_rows],
        np.arange(len(reading.views.slice_of_row)),
        reading.views.slice_of_row,
    )
    first, middle, last = np.clip(np.rint(slices).astype(int), 0, volume.hu.shape[0] - 1)
    return AnatomicLevel(
        "L3",
        int(middle),
        confidence=probability,
        extent=(int(first), int(last)),
        evidence=_evidence(reading, volume),
        variant_suspected=_variant_suspected(reading),
    )


def _half_height_rows(reading: Reading, row: float) -> float:
    """Half the height of L3, from the distances to those of its neighbours that are covered."""
    gaps = [
        abs(reading.positions.best_row(number, _NEAR_MM)[0] - row)
        for number in (L3_NUMBER - 1, L3_NUMBER + 1)
        if reading.positions.covered(number) > _COVERED
    ]
    return _BODY_SHARE / 2 * float(np.mean(gaps or np.diff(reading.chain)))


def _variant_suspected(reading: Reading) -> bool:
    """Whether ribs and sacrum are seen and the bodies between them are not five."""
    ends = []
    for number in (S1_NUMBER, LAST_RIB_NUMBER):
        row, probability = reading.positions.best_row(number, _NEAR_MM)
        if probability < _COVERED:
            return False
        ends.append(row)
    between = (reading.chain > ends[0] + _END_ROWS) & (reading.chain < ends[1] - _END_ROWS)
    return int(np.count_nonzero(between)) != _LUMBAR_VERTEBRAE


def _evidence(reading: Reading, volume: CTVolume) -> tuple[str, ...]:
    gaps_mm = np.diff(reading.chain) * ROW_MM
    _, probability = reading.positions.best_row(L3_NUMBER, _NEAR_MM)
    elsewhere = max(0.0, reading.positions.covered(L3_NUMBER) - probability)
    sentences = [
        f"{len(reading.chain)} vertebral bodies in a row, {gaps_mm.min():.0f} to "
        f"{gaps_mm.max():.0f} mm apart; the volume shows {_seen(reading)}",
        f"L3 is here with a probability of {probability:.2f}, at another height of the volume with "
        f"{elsewhere:.2f}",
    ]
    for number, what in (
        (S1_NUMBER, "the sacrum"),
        (LAST_RIB_NUMBER, "T12, the last vertebra with ribs,"),
    ):
        if reading.positions.covered(number) > _COVERED:
            row, _ = reading.positions.best_row(number, _NEAR_MM)
            sentences.append(f"{what} lies at z = {_z_mm(reading, volume, row):.0f} mm")
    return tuple(sentences)


def _seen(reading: Reading) -> str:
    """Name the vertebrae whose centres the volume covers."""
    numbers = [n for n in range(1, S1_NUMBER + 1) if reading.positions.covered(n) > _COVERED]
    if not numbers:
        return "no vertebra that can be named"
    return f"{_NAMES[numbers[0] - 1]} to {_NAMES[numbers[-1] - 1]}"


def _z_mm(reading: Reading, volume: CTVolume, row: float) -> float:
    return volume.slice_z_mm(round(float(reading.views.slice_of_row[round(row)])))


def _height_mm(reading: Reading) -> float:
    return len(reading.views.slice_of_row) * ROW_MM
