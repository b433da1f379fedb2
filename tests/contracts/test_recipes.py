import tomllib
from pathlib import Path

import pytest

from pipeline.networks import build_network
from training.config import CASES_FOLDER, read_finetune_recipe, read_pretrain_recipe

RECIPES = Path(CASES_FOLDER).parent / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("smit_l3_*.toml")), ids=lambda path: path.stem)
def test_recipe_loads_and_names_a_network_that_exists(path: Path) -> None:
    recipe = read_finetune_recipe(path)
    build_network(recipe.network, {**recipe.arguments, "out_channels": 5})
    patients = {case["patient"] for case in tomllib.loads(recipe.case_list.read_text())["case"]}
    assert set(recipe.held_out) < patients


def test_recipe_of_pretraining_loads_and_keeps_labelled_patients_out() -> None:
    recipe = read_pretrain_recipe(RECIPES / "smit_pretrain.toml")
    build_network(recipe.network, recipe.arguments)
    images = [entry["path"] for entry in tomllib.loads(recipe.image_list.read_text())["images"]]
    labelled = tomllib.loads((CASES_FOLDER / "labelled_l3.toml").read_text())["case"]
    assert not any(Path(c["images"]).is_relative_to(path) for c in labelled for path in images)


@pytest.mark.parametrize("name", ["paper", "site", "t12", "mid_thigh"])
def test_recipe_for_a_site_loads(name: str) -> None:
    recipe = read_finetune_recipe(RECIPES / f"{name}.toml")
    assert recipe.epochs > 0 or recipe.steps > 0
    build_network(recipe.network, {**recipe.arguments, "out_channels": 5})


@pytest.mark.parametrize("name", ["pretrain_compact", "pretrain_full"])
def test_recipe_of_pretraining_for_a_site_loads(name: str) -> None:
    assert read_pretrain_recipe(RECIPES / f"{name}.toml").name


def test_misspelt_field_of_a_recipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text('name = "odd"\nstep = 3\n')
    with pytest.raises(TypeError, match="step"):
        read_finetune_recipe(tmp_path / "odd.toml")
