"""Test that good experiments of every kind scaffold without a finding in any run."""

from itertools import product
from pathlib import Path

import pytest

from support.experiments import TO_RECIPES, make_experiment
from support.scaffolding import scaffold

PATH = "/scratch/gpfs/LAB/ada/data/capitalization/words_4L_80P_300.json"
PATHS = {"JSON": PATH, "Parquet": "/scratch/gpfs/LAB/ada/data/capitalization/words.parquet"}
DATA_SETS = ["instruct_dataset", "chat_dataset", "text_completion_dataset"]
EXTRAS = [
    "- **Packed:** true\n- **Max seq len:** 512",
    "- **LR scheduler:** get_cosine_schedule_with_warmup\n- **Weight decay:** 0.1",
    "- **Train on input:** true",
    "- **Gradient accumulation steps:** 4\n- **Seed:** 7",
]


@pytest.mark.parametrize("gpus", [1, 2])
@pytest.mark.parametrize(("data_set", "form"), list(product(DATA_SETS, PATHS)))
def test_no_kind_of_data_set_has_a_finding(tmp_path: Path, gpus: int, data_set: str, form: str) -> None:
    given = f"- **Dataset type:** {data_set}"
    assert findings(tmp_path, gpus, given, {PATH: PATHS[form], "**Format:** JSON": f"**Format:** {form}"}) == []


@pytest.mark.parametrize("gpus", [1, 2])
@pytest.mark.parametrize("given", EXTRAS)
def test_more_settings_have_no_finding(tmp_path: Path, gpus: int, given: str) -> None:
    assert findings(tmp_path, gpus, given, {}) == []


def findings(folder: Path, gpus: int, given: str, replace: dict[str, str]) -> list[str]:
    """Return the findings in the runs of an experiment with LoRA and full fine-tuning."""
    if "text_completion" in given:  # which rejects a system prompt
        replace = replace | {'- **System prompt:** "Capitalize the given word"\n': ""}
    more = {"**GPUs:** 1": f"**GPUs:** {gpus}", "**Epochs:** 2": f"**Epochs:** 2\n{given}"}
    result = scaffold(make_experiment(folder / "good", replace={**TO_RECIPES, **more, **replace}))
    assert result.ok
    return [found.sentence() for run in result.validation.runs for found in run.findings]
