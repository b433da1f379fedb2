import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.phantoms import TorsoPhantom
from training.config import PretrainRecipe
from training.distributed import Workers
from training.pretrain import pretrain
from training.runfolder import read_metrics
from training.unlabelled import Unlabelled

# Without stochastic depth, which is drawn by each process for its own images.
RECIPE = PretrainRecipe(
    name="tiny", network="smit_test", arguments={"drop_path": 0.0}, steps=2, batch=2, accumulate=2,
    region=96, crop=64, hidden=16, bottleneck=8, prototypes=32, checkpoint_steps=1,
    warmup_steps=1, freeze_steps=1,
)  # fmt: skip


def train(out: Path) -> None:
    """The same run, whatever number of processes does it."""
    volumes = tuple(TorsoPhantom(shape=(2, 100, 120), fat_mm=f).volume() for f in (15.0, 30.0))
    pretrain(RECIPE, Unlabelled(volumes, np.array([0.5, 0.5])), out, resume=False)


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path: Path, repository: Path) -> None:
    train(tmp_path / "alone")
    script = tmp_path / "train.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from tests.training.test_distributed import train\ntrain(Path(sys.argv[1]))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(script), str(tmp_path / "together")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    assert json.loads((tmp_path / "together" / "run.json").read_text())["processes"] == 2
    alone, together = (read_metrics(tmp_path / name) for name in ("alone", "together"))
    assert len(alone) == len(together) == 2
    for name in ("image", "patch", "global"):
        first, second = ([row[name] for row in rows] for rows in (alone, together))
        assert np.allclose(first, second, rtol=1e-3), name


def test_batch_that_cannot_be_dealt_out_is_refused() -> None:
    workers = Workers(1, 2, torch.device("cpu"))
    assert workers.share(4) == [1, 3]
    with pytest.raises(ValueError, match="3 cannot be dealt to 2"):
        workers.share(3)
