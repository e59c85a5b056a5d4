"""The validate stage with files of an external script."""

import pytest

from scaffold_torchtune.findings import errors_in
from scaffold_torchtune.validate import validate_run
from support.good_files import (
    EXTERNAL_CONFIG,
    EXTERNAL_SLURM,
    GOOD_CONFIG,
    GOOD_SLURM,
    SETUP,
    files_of,
    planned,
    replaced,
    setup_of,
)
from support.wording import absent


def test_defaults_of_an_external_script_are_warnings_only() -> None:
    run = planned()
    config = replaced(EXTERNAL_CONFIG, "weight_decay: 0.01", "weight_decay: 0.1", "seed: 14\n", "")
    found = [f for f in validate_run(run, files_of(run, config, EXTERNAL_SLURM), bundled=False) if f.severity != "info"]
    assert {(f.code, f.severity, f.field) for f in found} == {
        ("default-differs", "warning", "weight_decay"),
        ("default-differs", "warning", "seed"),
    }


def test_an_external_script_may_not_change_planned_values() -> None:
    run = planned()
    config = replaced(EXTERNAL_CONFIG, "lora_rank: 8", "lora_rank: 64")
    found = errors_in(validate_run(run, files_of(run, config, EXTERNAL_SLURM), bundled=False))
    assert {(f.code, f.field) for f in found} == {("value-mismatch", "lora_rank"), ("name-mismatch", "lora_rank")}


def test_the_known_fault_of_deleted_conda_lines_is_explained() -> None:
    run = planned({"modules": "gcc/12"})
    slurm = replaced(EXTERNAL_SLURM, "conda activate tuning\n", "", "anaconda3/2025.6", "gcc/12")
    found = errors_in(validate_run(run, files_of(run, EXTERNAL_CONFIG, slurm), bundled=False))
    assert [(f.code, f.field) for f in found] == [("missing-value", "conda_env")]
    assert absent(found[0].message, "setup_finetune.py", "'conda'", "modules") == []


def test_a_recipe_of_an_external_script_is_reported() -> None:
    run = planned()
    own = "kit.recipes.lora_finetune_single_device_nightly.__main__"
    slurm = replaced(EXTERNAL_SLURM, "lora_finetune_single_device", own)
    found = validate_run(run, files_of(run, EXTERNAL_CONFIG, slurm), bundled=False)
    assert not errors_in(found)
    assert "wrong-recipe" in {f.code for f in found}
    slurm = replaced(EXTERNAL_SLURM, "lora_finetune_single_device", own.replace("single_device", "distributed"))
    found = validate_run(run, files_of(run, EXTERNAL_CONFIG, slurm), bundled=False)
    assert [f.code for f in errors_in(found)] == ["wrong-recipe"]


def test_external_components_and_arguments() -> None:
    run = planned()
    config = replaced(
        EXTERNAL_CONFIG, "loss.CEWithChunkedOutputLoss", "loss.Newer", "  fused: true", "  fused: true\n  fast: true"
    )
    config += "extra:\n  _component_: other.package.thing\n"
    found = validate_run(run, files_of(run, config, EXTERNAL_SLURM), bundled=False)
    assert not errors_in(found)
    assert {(f.field, str(f.severity)) for f in found if f.field} >= {
        ("loss._component_", "warning"), ("optimizer.fast", "warning"), ("extra._component_", "info"),
    }  # fmt: skip
    config = replaced(EXTERNAL_CONFIG, "get_cosine", "get_linear")
    run = planned({"lr_scheduler": "get_linear_schedule_with_warmup"})
    errors = errors_in(validate_run(run, files_of(run, config, EXTERNAL_SLURM), bundled=False))
    assert [f.field for f in errors] == ["lr_scheduler._component_"]


@pytest.mark.parametrize("value", ["null", "''", "{}"])
def test_an_empty_key_that_nothing_reads_is_ignored(value: str) -> None:
    run, config = planned(), f"{GOOD_CONFIG}nobodys: {value}\n"
    assert validate_run(run, files_of(run, config), bundled=False) == ()
    assert [f.field for f in validate_run(run, files_of(run, config), bundled=True)] == ["nobodys"]


@pytest.mark.parametrize(("bundled", "severity"), [(True, "error"), (False, "warning")])
def test_unusual_checkpoint_files_are_only_a_warning_for_an_external_script(severity: str, *, bundled: bool) -> None:
    run = planned()
    for name, reported in (("mine.safetensors", True), ("consolidated.00.pth", False), ("pytorch_model.bin", False)):
        config = replaced(GOOD_CONFIG, "[model.safetensors]", f"[{name}]")
        found = validate_run(run, files_of(run, config), bundled=bundled)
        assert [(f.severity, f.actual) for f in found] == ([(severity, name)] if reported else [])


@pytest.mark.parametrize("bundled", [True, False])
@pytest.mark.parametrize(
    ("recipe", "gpus", "field"),
    [
        ("mine.lora_distributed", 1, "custom_recipe"),
        ("mine.lora_single_device", 2, "custom_recipe"),
        ("mine.lora_distributed", 2, None),
        ("mine.lora_single_device", 1, None),
        ("mine.train", 1, None),
        ("mine.train", 2, None),
        ("lora_finetune_distributed", 1, "gpus"),
        ("lora_finetune_single_device", 2, "gpus"),
    ],
)
def test_a_planned_recipe_must_fit_the_gpus(recipe: str, gpus: int, field: str | None, *, bundled: bool) -> None:
    run = planned({"custom_recipe": recipe, "gpus": gpus})
    processes = f"--nproc_per_node {gpus} " if gpus > 1 else ""
    slurm = replaced(
        GOOD_SLURM, "gpu:1", f"gpu:{gpus}", "tune run lora_finetune_single_device", f"tune run {processes}{recipe}"
    )
    found = validate_run(run, files_of(run, slurm=slurm), bundled=bundled)
    assert [f.field for f in found if f.code == "wrong-recipe"] == ([field] if field else [])


def test_a_torchtune_recipe_is_not_a_package() -> None:
    slurm = replaced(GOOD_SLURM, "single_device", "single_device.__main__")
    found = errors_in(validate_run(planned(), files_of(planned(), slurm=slurm), bundled=True))
    assert [(f.code, f.field) for f in found] == [("wrong-recipe", "gpus")]


IN_SUMMARY, NO_ACTION = "in the summary", "no action"


@pytest.mark.parametrize(
    ("old", "new", "field", "severity", "advice"),
    [
        ("torch.optim.AdamW", "torch.optim.SGD", "optimizer._component_", "error", []),
        ("torch.optim.AdamW", "torch.optim.Adam", "optimizer._component_", "error", []),
        ("torch.optim.AdamW", "bitsandbytes.optim.PagedAdamW8bit", "optimizer._component_", "error", []),
        ("torch.optim.AdamW", "lion_pytorch.Lion", "optimizer._component_", "error", []),
        ("torchtune.modules.loss.CEW", "mylab.losses.FocalLossW", "loss._component_", "warning", [NO_ACTION]),
        ("shuffle: true", "shuffle: false", "shuffle", "error", []),
        ("max_steps_per_epoch: null", "max_steps_per_epoch: 5", "max_steps_per_epoch", "error", [IN_SUMMARY]),
        ("compile: false", "compile: true", "compile", "warning", [NO_ACTION]),
        ("fused: true", "fused: true\n  betas: [0.9, 0.95]", "optimizer.betas", "warning", [NO_ACTION]),
        ("fused: true", "fused: true\n  eps: 1.0e-6", "optimizer.eps", "warning", [NO_ACTION]),
        ("mlp: true", "mlp: false", "model.apply_lora_to_mlp", "warning", [NO_ACTION, IN_SUMMARY]),
        ("packed: false\n", "packed: false\n  split: test\n", "dataset_ext", "error", []),
    ],
)
def test_the_fix_for_a_value_of_the_script_names_the_summary_only_if_a_document_can_set_it(
    old: str, new: str, field: str, severity: str, advice: list[str]
) -> None:
    run = planned()
    found = validate_run(run, files_of(run, replaced(GOOD_CONFIG, old, new)), bundled=False)
    (one,) = [f for f in found if f.field == field]
    assert str(one.severity) == severity
    assert [text for text in (NO_ACTION, IN_SUMMARY) if text in one.fix] == advice


WANDB = {"wandb_group": "x", "wandb_entity": "mylab", "wandb_tags": "a,b", "wandb_mode": "online"}
NO_MODE = ("  mode: offline\n", "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", []),
        ("group: x", []),
        ("group: null", []),
        ("group: ''", []),
        ("group: y", [("value-mismatch", "wandb_group", "x", "y")]),
        ("entity: mylab", []),
        ("entity: someone", [("value-mismatch", "wandb_entity", "mylab", "someone")]),
        ("tags: [a, b]", []),
        ("tags: []", [("value-mismatch", "wandb_tags", "a,b", "[]")]),
        ("tags: [a]", [("value-mismatch", "wandb_tags", "a,b", "[a]")]),
        ("tags: a", [("wrong-type", "wandb_tags", "a,b", "a")]),
        ("mode: online", []),
        ("mode: offline", [("value-mismatch", "wandb_mode", "online", "offline")]),
    ],
)
def test_a_file_may_repeat_what_the_submit_line_passes_but_not_override_it(
    line: str, expected: list[tuple[str, str, str, str]]
) -> None:
    run = planned(dict(WANDB)).model_copy(update={"submitted": tuple(WANDB)})
    config = replaced(GOOD_CONFIG, *NO_MODE, "metric_logger:\n", f"metric_logger:\n  {line}\n")
    files = files_of(run, config) | {SETUP: setup_of(planned())}
    run = run.model_copy(update={"unwritten": tuple(WANDB)})
    found = validate_run(run, files, bundled=False)
    assert [(f.code, f.field, f.expected, f.actual) for f in found] == expected
    assert {str(f.severity) for f in found} <= {"error"}


STAGED = "/home/me/sweep/.scaffold/staging/0123456789abcdef/rank8_lr1e-5"


@pytest.mark.parametrize("bundled", [True, False])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mkdir", f"cd {STAGED}\nmkdir"),
        ("mkdir", f"export A=x:{STAGED}/a\nmkdir"),
        ("#SBATCH --output=slurm-%j.out", f"#SBATCH --output={STAGED}/slurm-%j.out"),
    ],
)
def test_a_path_in_the_staging_directory_is_an_error_in_the_job(old: str, new: str, *, bundled: bool) -> None:
    slurm = replaced(GOOD_SLURM, old, new)
    found = errors_in(validate_run(planned(), files_of(planned(), slurm=slurm), bundled=bundled))
    (one,) = (f for f in found if f.field == "working directory")
    assert (one.code, one.file) == ("unplanned-value", f"{planned().directory}/finetune.slurm")
    assert STAGED in slurm.splitlines()[(one.line or 0) - 1]
    assert STAGED in str(one.actual)
    assert absent(one.message, "os.getcwd()") == []


def test_a_path_in_the_staging_directory_is_an_error_in_the_configuration() -> None:
    config = replaced(EXTERNAL_CONFIG, "log_every_n_steps", f"cache_dir: {STAGED}\nlog_every_n_steps")
    found = errors_in(validate_run(planned(), files_of(planned(), config), bundled=False))
    assert [(f.code, f.field, f.actual) for f in found] == [("unplanned-value", "working directory", STAGED)]
    for comment in (f"# made in {STAGED}\n", f"  # {STAGED}\n"):
        files = files_of(planned(), EXTERNAL_CONFIG + comment, EXTERNAL_SLURM + comment)
        assert errors_in(validate_run(planned(), files, bundled=False)) == []
