"""Unusual experiments with stand-ins for three generations of cruijff_kit's script: passed or refused."""

import itertools
from pathlib import Path

import pytest

from support.experiments import change
from support.kit_generations import GENERATIONS, kit
from support.sampling import spread
from support.unlike_experiments import UNLIKE, ends, holds


@pytest.fixture(autouse=True)
def _user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "ada")


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "generation"), spread(itertools.product(UNLIKE, GENERATIONS), every=3 * len(GENERATIONS) + 1)
)
def test_an_unusual_experiment_passes_or_is_refused_before_anything_is_written(
    tmp_path: Path, name: str, generation: str
) -> None:
    holds(tmp_path, name, generation, kit(tmp_path / "kit", generation))


def test_each_kind_of_run_is_tried_and_not_only_the_first(tmp_path: Path) -> None:
    script = kit(tmp_path / "kit", "december")
    tries = tmp_path / "tries"
    main = "def main() -> None:\n"
    change(script, main, f"{main}    open({str(tries)!r}, 'a').write('x')\n")
    unlike = UNLIKE["a model that the script gives four GPUs where one is asked for"]
    problems, _ = ends(tmp_path, unlike, "december", script)
    assert problems == {("value-mismatch", "gpus"), ("wrong-recipe", "gpus")}
    assert tries.read_text() == "x" * 3  # one call for the options, one trial with each model
