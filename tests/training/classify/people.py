"""Phantom patients with low muscle and without, as a case list on disk."""

from pathlib import Path

from tests.phantoms import TorsoPhantom
from training import store


def write_people(folder: Path, thick: int = 3, thin: int = 2) -> Path:
    """Write volumes and ``cases.toml``; thin walls of muscle are low. Cases name their slice."""
    lines = []
    for number in range(thick + thin):
        low = number >= thick
        thickness = (10.0 if low else 32.0) + number
        phantom = TorsoPhantom(shape=(3, 64, 64), pixel_mm=6.0, thickness_mm=thickness)
        store.write_volume(folder / "volumes" / f"{number}.npy", phantom.volume())
        lines += [
            "[[case]]", f'name = "case_{number}"', f'patient = "p{number}"', 'sex = "F"',
            f'images = "volumes/{number}.npy"', "slice = 1", f"low = {str(low).lower()}",
            f"muscle_cm2 = {phantom.muscle_area_cm2:.1f}",
        ]  # fmt: skip
    path = folder / "cases.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


RECIPE = """
name = "tiny"
network = "densenet121"
epochs = 1
batch = 2
[preprocess]
spacing_mm = [6.0, 6.0]
side_multiple = 64
smallest_side = 64
"""
