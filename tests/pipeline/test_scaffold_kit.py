"""Scaffolds by three generations of an external setup_finetune.py: each plan fits, or names the rejected setting."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from scaffold_torchtune.findings import Finding, errors_in
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import ScaffoldResult
from support.experiments import change, log, make_experiment
from support.kit_generations import GENERATIONS, kit
from support.new_experiments import finetune
from support.sampling import mostly_long
from support.scaffolding import refusal, scaffold
from support.wording import absent

pytestmark = pytest.mark.long

RUN = "rank8_lr1e-5"
CHAT = {"**Epochs:** 2": "**Epochs:** 2\n- **Dataset type:** chat_completion"}


def setup_yaml(experiment: Path, run: str) -> dict[str, Any]:
    """Return the content of setup_finetune.yaml of a run."""
    read: dict[str, Any] = yaml.safe_load((experiment / run / "setup_finetune.yaml").read_text())
    return read


@pytest.fixture(autouse=True)
def _user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "ada")


def experiment(folder: Path, generation: str, replace: dict[str, str] | None = None) -> Path:
    more = CHAT if generation == "august" else {}
    return make_experiment(folder / "sweep", replace={**more, **(replace or {})})


def done(folder: Path, generation: str, replace: dict[str, str] | None = None) -> ScaffoldResult:
    script = str(kit(folder / "kit", generation))
    return scaffold(experiment(folder, generation, replace), setup_script=script)


def refused(folder: Path, generation: str, replace: dict[str, str]) -> list[Finding]:
    script = str(kit(folder / "kit", generation))
    directory = experiment(folder, generation, replace)
    before = {path.name for path in directory.iterdir()}
    found = refusal(steps.scaffold, directory, setup_script=script)
    assert {path.name for path in directory.iterdir()} - {"scaffold.log"} == before
    return list(found.problems)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_each_generation_scaffolds_to_a_passed_validation(tmp_path: Path, generation: str) -> None:
    result = done(tmp_path, generation)
    assert result.ok
    found = [f for run in result.validation.runs for f in run.findings if f.severity != "info"]
    assert [f.sentence() for f in found] == []
    assert "SCAFFOLD_TORCHTUNE_COMPLETE" in log(tmp_path / "sweep")


@pytest.mark.parametrize("generation", mostly_long(GENERATIONS, "august"))
def test_directives_added_by_the_script_are_reported_once_for_all_runs(tmp_path: Path, generation: str) -> None:
    result = done(tmp_path, generation)
    assert [f.code for run in result.validation.runs for f in run.findings] == []
    told = {f.field: f for f in result.validation.findings if absent(f.message, "all 4 runs:") == []}
    assert {"mail-type", "mail-user"} <= told.keys()
    assert {str(f.severity) for f in told.values()} == {"info"}
    assert ("partition" in told) == (generation == "december")
    assert ("custom_recipe" in told) == (generation == "august")


def with_directive(folder: Path, line: str) -> str:
    """Return the stand-in of December 2025 with one more directive in its template."""
    script = kit(folder / "kit", "december")
    change(script.parent / "templates" / "finetune_template.slurm", "##SBATCH --acc", f"#SBATCH {line}\n##SBATCH --acc")
    return str(script)


def test_an_unknown_directive_of_the_script_is_a_warning(tmp_path: Path) -> None:
    result = scaffold(experiment(tmp_path, "december"), setup_script=with_directive(tmp_path, "--qos=short"))
    assert result.ok
    found = [
        f for f in result.validation.findings if f.severity == "warning" and f.code not in {"not-seen", "long-warmup"}
    ]
    assert [f.field for f in found] == ["qos"]


def test_a_directive_that_changes_the_job_is_refused(tmp_path: Path) -> None:
    script = with_directive(tmp_path, "--array=0-9")
    refused = refusal(steps.scaffold, experiment(tmp_path, "december"), setup_script=script)
    assert [(problem.code, problem.field) for problem in refused.problems] == [("unplanned-value", "array")]


@pytest.mark.parametrize("generation", mostly_long(GENERATIONS, "november"))
def test_each_generation_receives_only_the_keys_that_it_accepts(tmp_path: Path, generation: str) -> None:
    assert done(tmp_path, generation).ok
    given = setup_yaml(tmp_path / "sweep", RUN)
    assert given.keys() <= GENERATIONS[generation]["options"].keys()
    assert "modules" not in given  # the script loads its own modules; with this key it would drop the environment
    assert ("torchtune_model_name" in given) == (generation != "november")


def test_outputs_follow_the_rule_of_the_version_below_the_same_base(tmp_path: Path) -> None:
    result = done(tmp_path, "august")
    place = f"/scratch/gpfs/LAB/ada/ck-outputs/cap_4L_lora_lr_sweep/{RUN}/artifacts"
    assert finetune(tmp_path / "sweep", RUN)["output_dir"].rstrip("/") == place
    fixed, told = (f.message for f in result.plan.warnings if f.code == "script-writes")
    assert "/scratch/gpfs/LAB/ada/ck-outputs/cap_4L_lora_lr_sweep/RUN/artifacts" in told
    assert absent(fixed, "lora_attn_modules", "apply_lora_to_mlp", "`wandb_mode: offline`") == []


@pytest.mark.parametrize("generation", mostly_long(GENERATIONS, "december"))
@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("- **LoRA attention modules:** q_proj, k_proj", "lora_attn_modules"),
        ("- **Apply LoRA to MLP:** no", "apply_lora_to_mlp"),
        ("- **Apply LoRA to output:** yes", "apply_lora_to_output"),
        ("- **W&B mode:** online", "wandb_mode"),
    ],
)
def test_no_version_accepts_lora_modules_or_the_wandb_mode(
    tmp_path: Path, generation: str, line: str, field: str
) -> None:
    (problem,) = refused(tmp_path, generation, {"- **Epochs:** 2": f"- **Epochs:** 2\n{line}"})
    assert (problem.code, problem.field, problem.file) == ("untaken-setting", field, "experiment_summary.md")
    assert absent(problem.fix, "--setup-script bundled") == []


@pytest.mark.parametrize("generation", mostly_long(GENERATIONS, "december"))
def test_documents_may_state_the_values_that_every_version_writes(tmp_path: Path, generation: str) -> None:
    said = "- **Target modules:** q_proj, v_proj, o_proj, gate_proj, up_proj, down_proj\n- **W&B mode:** offline"
    result = done(tmp_path, generation, {"- **Epochs:** 2": f"- **Epochs:** 2\n{said}"})
    assert result.ok
    assert result.validation.tracking.endswith("/logs/wandb/offline-run-*")


def test_a_data_set_that_a_version_misreads_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, "august", {"chat_completion": "instruct_dataset"})
    assert problem.code == "setup-would-fail"
    assert absent(problem.message, RUN, "KeyError: 'data_dir'") == []


def test_a_value_that_the_script_would_change_is_refused_at_its_line(tmp_path: Path) -> None:
    script = kit(tmp_path / "kit", "december")
    script.write_text(script.read_text().replace('"lora_rank": given.lora_rank,', '"lora_rank": 64,'))
    found = refusal(steps.scaffold, experiment(tmp_path, "december"), setup_script=str(script))
    assert {(p.code, p.field, p.file) for p in found.problems} == {
        ("value-mismatch", "lora_rank", "experiment_summary.md"),
        ("name-mismatch", "lora_rank", "experiment_summary.md"),
    }


def test_a_script_that_writes_its_working_directory_is_refused(tmp_path: Path) -> None:
    script = kit(tmp_path / "kit", "december")
    text = script.read_text()
    assert '"lora_rank": given.lora_rank,' in text
    script.write_text(
        text.replace('"lora_rank": given.lora_rank,', '"lora_rank": given.lora_rank, "cache": os.getcwd(),')
    )
    found = refusal(steps.scaffold, experiment(tmp_path, "december"), setup_script=str(script))
    assert "working directory" in {problem.field for problem in found.problems}


def test_fixed_values_of_a_version_are_planned_and_reported(tmp_path: Path) -> None:
    result = done(tmp_path, "november")
    defaults = result.plan.defaults
    assert {"seed": 1234, "packed": True, "weight_decay": 0.01, "log_every_n_steps": 5}.items() <= defaults.items()
    (told,) = [f for f in result.plan.warnings if f.code == "script-writes"]
    assert "`seed: 1234`" in told.message
    assert "seed" not in setup_yaml(tmp_path / "sweep", RUN)


def test_a_planned_value_equal_to_the_fixed_one_is_accepted(tmp_path: Path) -> None:
    assert done(tmp_path, "november", {"**Epochs:** 2": "**Epochs:** 2\n- **Seed:** 1234"}).ok


@pytest.mark.parametrize(
    ("generation", "old", "new", "code", "field", "told"),
    [
        ("november", "**Epochs:** 2", "**Epochs:** 2\n- **Seed:** 7", "untaken-setting", "seed", "1234"),
        ("december", "**Epochs:** 2", "**Epochs:** 2\n- **Seed:** 7", "untaken-setting", "seed", "1234"),
        ("november", "Llama-3.2-1B-Instruct", "Llama-3.2-3B-Instruct", "untaken-setting", "torchtune_model_name", "1B"),
        ("december", "**Epochs:** 2", "**Epochs:** 2\n- **Max steps per epoch:** 5\n- **Batch size val:** 2",
         "untaken-setting", "batch_size_val", "batch_size_val"),
        ("december", "**Epochs:** 2", "**Epochs:** 2\n- **LoRA alpha:** 16",
         "untaken-setting", "lora_alpha", "32"),
        ("december", "anaconda3/2025.6", "gcc/12", "untaken-setting", "modules", "conda"),
        ("august", "\n- **Dataset type:** chat_completion", "", "missing-field", "dataset_type", "dataset_type"),
    ],
)  # fmt: skip
def test_a_setting_that_a_version_rejects_is_refused_with_its_name(
    tmp_path: Path, generation: str, old: str, new: str, code: str, field: str, told: str
) -> None:
    (problem, *_) = errors_in(refused(tmp_path, generation, {old: new}))
    assert (problem.code, problem.field) == (code, field)
    assert told in problem.message
    assert problem.file


def of_a_lab(folder: Path, seed: int) -> str:
    """Return a script with options of the kit that has its own template, with its own seed and no packing."""
    script = kit(folder / "lab", "november")
    options = '"torchtune_model_name": "Llama-3.2-1B-Instruct", "model_checkpoint": null, '
    change(script.parent / "generation.json", '"my_wandb_project"', f'{options}"my_wandb_project"')
    own = script.parent / "lab.yaml"
    (script.parent / "templates" / "finetune_template.yaml").rename(own)
    change(own, "seed: 1234", f"seed: {seed}")
    change(script, 'HERE / "templates" / "finetune_template.yaml"', 'HERE / "lab.yaml"')
    change(script, '"packed": True', '"packed": False')
    return str(script)


def test_a_script_of_other_origin_does_not_get_the_values_of_the_kit(tmp_path: Path) -> None:
    script = of_a_lab(tmp_path, seed=14)
    result = scaffold(experiment(tmp_path, "november"), setup_script=script)
    assert result.ok
    (told,) = [f for f in result.plan.warnings if f.code == "script-writes"]
    assert (told.severity, absent(told.message, "seed", "lora_alpha")) == ("warning", [])
    assert "1234" not in told.message
    assert {"seed", "packed"}.isdisjoint(result.plan.defaults)
    codes = {f.code for run in result.validation.runs for f in run.findings}
    assert "default-differs" not in codes
    assert finetune(tmp_path / "sweep", RUN)["seed"] == 14


def test_a_setting_without_an_option_of_such_a_script_is_removed_by_the_fix(tmp_path: Path) -> None:
    script = of_a_lab(tmp_path, seed=14)
    directory = experiment(tmp_path, "november", {"**Epochs:** 2": "**Epochs:** 2\n- **Seed:** 14"})
    (problem,) = refusal(steps.plan, directory, setup_script=script).problems
    assert (problem.code, problem.field, problem.expected) == ("untaken-setting", "seed", None)
    assert absent(problem.fix, "remove seed from experiment_summary.md") == []
    change(directory / "experiment_summary.md", "\n- **Seed:** 14", "")
    assert steps.plan(Request(directory, setup_script=script)).runs


def test_values_of_the_kit_are_read_from_its_template(tmp_path: Path) -> None:
    script = kit(tmp_path / "kit", "december")
    change(script.parent / "templates" / "finetune_template.yaml", "seed: 1234", "seed: 77")
    change(script.parent / "templates" / "finetune_template.yaml", "weight_decay: 0.01", "weight_decay: 0.1")
    result = scaffold(experiment(tmp_path, "december"), setup_script=str(script))
    assert result.ok
    assert {"seed": 77, "weight_decay": 0.1}.items() <= result.plan.defaults.items()
    assert "default-differs" not in {f.code for run in result.validation.runs for f in run.findings}


def test_a_value_that_no_option_can_change_has_a_fix_that_changes_it(tmp_path: Path) -> None:
    script = kit(tmp_path / "kit", "december")
    change(script, 'getattr(given, "seed", TEMPLATE["seed"])', "5")
    result = scaffold(experiment(tmp_path, "december"), setup_script=str(script))
    found = [f for f in result.validation.findings if f.field == "seed"]
    found += [f for run in result.validation.runs for f in run.findings if f.field == "seed"]
    assert {(f.code, f.expected, f.actual) for f in found} == {("default-differs", 1234, 5)}
    assert all(absent(f.fix, "--setup-script bundled") == [] for f in found)
