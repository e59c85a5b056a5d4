"""The validate stage for further job settings: QOS, mail, typed GPUs, Weights & Biases, offline, resume."""

from typing import Final

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.models import PlannedRun
from scaffold_torchtune.validate import validate_run
from support.good_files import CONFIG, GOOD_CONFIG, GOOD_SLURM, RUN, SLURM, files_of, planned, replaced

# ruff: noqa: E501 - the table of cases has one case a line


ASKED: Final[dict[str, Scalar]] = {
    "gpu_type": "a100",
    "qos": "high",
    "reservation": "maintenance",
    "exclude": "gpu[01-03],node7",
    "requeue": True,
    "mail_user": "ada@example.org",
    "mail_type": "END,FAIL",
    "comment": "second # try",
    "offline": True,
    "wandb_entity": "team",
    "wandb_group": "sweep",
    "wandb_tags": "lora,words",
    "resume_from_checkpoint": True,
}
STATE = "/scratch/me/out/capitals/ck-out-rank8_lr1e-5/recipe_state/recipe_state.pt"
RESUME = f"resume=true\n[ -e {STATE} ] || resume=false\n"
OFFLINE = (
    "export HF_HUB_OFFLINE=1\nexport HF_DATASETS_OFFLINE=1\nexport TRANSFORMERS_OFFLINE=1\nexport WANDB_MODE=offline\n"
)
GOOD: Final = {
    CONFIG: replaced(
        GOOD_CONFIG,
        "  name: ${my_wandb_run_name}\n",
        "  name: ${my_wandb_run_name}\n  entity: team\n  group: sweep\n  tags: [lora, words]\n",
        "resume_from_checkpoint: false",
        "resume_from_checkpoint: true",
    ),
    SLURM: replaced(
        GOOD_SLURM,
        "--gres=gpu:1",
        "--gres=gpu:a100:1",
        "##SBATCH --account=<ACT>\n",
        "#SBATCH --qos=high\n#SBATCH --reservation=maintenance\n#SBATCH --exclude=gpu[01-03],node7\n#SBATCH --requeue\n"
        '#SBATCH --mail-user=ada@example.org\n#SBATCH --mail-type=END,FAIL\n#SBATCH --comment="second # try"\n',
        "mkdir",
        f"{OFFLINE}{RESUME}mkdir",
        "--config finetune.yaml",
        '--config finetune.yaml "resume_from_checkpoint=$resume"',
    ),
}
SCRIPT = GOOD[SLURM]

Found = list[tuple[str, str, str | None]]


def found(run: PlannedRun, config: str, slurm: str, *, bundled: bool = True) -> Found:
    files = files_of(run, config, slurm)
    return [(f.code, str(f.severity), f.field) for f in validate_run(run, files, bundled=bundled)]


def test_planned_job_settings_have_no_finding() -> None:
    assert found(planned(ASKED), GOOD[CONFIG], SCRIPT) == []


# The file and the replacement; the code and the field of the only error; a part of its line.
FAULTS: Final = [
    (SLURM, "--qos=high", "--qos=low", "value-mismatch", "qos", "--qos"),
    (SLURM, "--qos=high", "--qos=HIGH", "value-mismatch", "qos", "--qos"),
    (SLURM, "#SBATCH --qos=high\n", "", "missing-value", "qos", ""),
    (SLURM, "--reservation=maintenance", "--reservation=other", "value-mismatch", "reservation", "--res"),
    (SLURM, "gpu[01-03],node7", "gpu[01-04],node7", "value-mismatch", "exclude", "--exclude"),
    (SLURM, "#SBATCH --requeue\n", "", "missing-value", "requeue", ""),
    (SLURM, "#SBATCH --requeue\n", "#SBATCH --no-requeue\n", "value-mismatch", "requeue", "--no-requeue"),
    (SLURM, "#SBATCH --requeue\n", "#SBATCH --requeue --no-requeue\n", "value-mismatch", "requeue", "--no-requeue"),
    (SLURM, "#SBATCH --mail-user=ada@example.org\n", "", "missing-value", "mail_user", ""),
    (SLURM, "ada@example.org", "ada@example.com", "value-mismatch", "mail_user", "--mail-user"),
    (SLURM, "END,FAIL", "END", "value-mismatch", "mail_type", "--mail-type"),
    (SLURM, "END,FAIL", "ALL", "value-mismatch", "mail_type", "--mail-type"),
    (SLURM, '"second # try"', "second # try", "value-mismatch", "comment", "--comment"),
    (SLURM, "--comment=", "--comment ", None, None, ""),
    (SLURM, "gpu:a100:1", "gpu:h100:1", "value-mismatch", "gpu_type", "--gres"),
    (SLURM, "gpu:a100:1", "gpu:1", "value-mismatch", "gpu_type", "--gres"),
    (SLURM, "gpu:a100:1", "gpu:a100:2", "value-mismatch", "gpus", "--gres"),
    (SLURM, "gpu:a100:1", "gpu:a100:1,shard:0", None, None, ""),
    (SLURM, "--gres=gpu:a100:1", "--gpus=h100:1", "value-mismatch", "gpu_type", "--gpus"),
    (SLURM, "--gres=gpu:a100:1", "--gpus=a100:1", None, None, ""),
    (SLURM, "END,FAIL", "fail,END", None, None, ""),
    (SLURM, "export HF_HUB_OFFLINE=1\n", "", "missing-value", "offline", ""),
    (SLURM, "export HF_HUB_OFFLINE=1\n", "HF_HUB_OFFLINE=1\n", "missing-value", "offline", ""),
    (SLURM, "HF_DATASETS_OFFLINE=1", "HF_DATASETS_OFFLINE=0", "value-mismatch", "offline", "DATASETS"),
    (SLURM, "WANDB_MODE=offline", "WANDB_MODE=online", "value-mismatch", "offline", "WANDB_MODE"),
    (SLURM, "tune run", "HF_HUB_OFFLINE=0 tune run", "value-mismatch", "offline", "tune run"),
    (SLURM, OFFLINE, f"export {OFFLINE.replace('export ', '').replace(chr(10), ' ')}\n", None, None, ""),
    (SLURM, ' "resume_from_checkpoint=$resume"', "", "missing-value", "resume_from_checkpoint", "tune run"),
    (SLURM, STATE, STATE.replace("lr1e-5", "lr5e-5"), "value-mismatch", "resume_from_checkpoint", "[ -e"),
    (SLURM, "[ -e", "[ -d", "missing-value", "resume_from_checkpoint", "[ -d"),
    (SLURM, RESUME, f"resume=true\n[ -e {STATE} ] || echo new\n", "missing-value", "resume_from_checkpoint", "tune run"),
    (SLURM, RESUME, "resume=true\nresume=false\n", "missing-value", "resume_from_checkpoint", "tune run"),
    (CONFIG, "resume_from_checkpoint: true", "resume_from_checkpoint: false", "value-mismatch", "resume_from_checkpoint", "resume"),
    (CONFIG, "resume_from_checkpoint: true", "resume_from_checkpoint: 'true'", "wrong-type", "resume_from_checkpoint", "resume"),
    (CONFIG, "entity: team", "entity: other", "value-mismatch", "wandb_entity", "entity"),
    (CONFIG, "  entity: team\n", "", "missing-value", "wandb_entity", "metric_logger:"),
    (CONFIG, "group: sweep", "group: swap", "value-mismatch", "wandb_group", "group"),
    (CONFIG, "[lora, words]", "[words, mine]", "value-mismatch", "wandb_tags", "tags"),
    (CONFIG, "[lora, words]", "lora,words", "wrong-type", "wandb_tags", "tags"),
    (CONFIG, "  tags: [lora, words]\n", "", "missing-value", "wandb_tags", "metric_logger:"),
]  # fmt: skip


def lines_with(text: str, part: str) -> set[int | None]:
    return {number for number, line in enumerate(text.split("\n"), 1) if part in line} if part else {None}


@pytest.mark.parametrize(("file", "old", "new", "code", "field", "part"), FAULTS)
def test_each_fault_is_reported_at_its_line(
    file: str, old: str, new: str, code: str | None, field: str | None, part: str
) -> None:
    run, files = planned(ASKED), {**files_of(planned(ASKED)), **GOOD}
    files[file] = text = replaced(GOOD[file], old, new)
    errors = validate_run(run, files, bundled=True)
    assert [(f.code, f.severity, f.field, f.file) for f in errors] == (
        [(code, "error", field, f"{RUN}/{file}")] if code else []
    )
    assert all(f.line in lines_with(text, part) for f in errors)


# Unplanned directives, each with its field.
UNPLANNED: Final = [
    ("#SBATCH --qos=high\n", "qos"),
    ("#SBATCH --reservation=maintenance\n", "reservation"),
    ("#SBATCH --requeue\n", "requeue"),
    ("#SBATCH --mail-user=ada@example.org\n", "mail-user"),
    ("#SBATCH --mail-type=END,FAIL\n", "mail-type"),
    ("#SBATCH --comment=x\n", "comment"),
    ("#SBATCH --exclude=gpu01\n", "exclude"),
]


@pytest.mark.parametrize(("line", "field"), UNPLANNED)
def test_an_unplanned_directive_is_reported(line: str, field: str) -> None:
    script = replaced(GOOD_SLURM, "##SBATCH --account=<ACT>\n", line)
    assert found(planned(), GOOD_CONFIG, script) == [("unplanned-value", "error", field)]
    severity = "info" if field in {"mail-user", "mail-type", "comment"} else "warning"
    assert found(planned(), GOOD_CONFIG, script, bundled=False) == [("unplanned-value", severity, field)]


@pytest.mark.parametrize("offline", [{}, {"offline": False}])
def test_unplanned_exports_are_reported(offline: dict[str, Scalar]) -> None:
    script = replaced(GOOD_SLURM, "mkdir", f"{OFFLINE}mkdir")
    assert found(planned(offline), GOOD_CONFIG, script) == [("unplanned-value", "error", "offline")] * 4
    external = found(planned(offline), GOOD_CONFIG, script, bundled=False)
    assert external == [("unplanned-value", "info", "offline")] * 4


def test_exports_after_the_training_are_ignored() -> None:
    script = GOOD_SLURM + OFFLINE
    assert found(planned({"offline": True}), GOOD_CONFIG, script) == [("missing-value", "error", "offline")] * 4
    assert found(planned(), GOOD_CONFIG, script) == []


def test_an_argument_of_the_training_is_not_an_export() -> None:
    script = replaced(SCRIPT, "--config finetune.yaml", "--config finetune.yaml HF_HUB_OFFLINE=0")
    assert found(planned(ASKED), GOOD[CONFIG], script) == [("unplanned-value", "error", "HF_HUB_OFFLINE")]


def test_an_unplanned_resume_is_reported() -> None:
    script = replaced(GOOD_SLURM, "--config finetune.yaml", "--config finetune.yaml resume_from_checkpoint=$resume")
    assert found(planned(), GOOD_CONFIG, script) == [("unplanned-value", "error", "resume_from_checkpoint")]


def test_no_requeue_can_be_planned() -> None:
    plan = planned({"requeue": False})
    script = replaced(GOOD_SLURM, "##SBATCH --account=<ACT>\n", "#SBATCH --no-requeue\n")
    assert found(plan, GOOD_CONFIG, script) == []
    assert found(plan, GOOD_CONFIG, GOOD_SLURM) == [("missing-value", "error", "requeue")]


def test_settings_of_the_submit_line_are_not_required_in_the_files() -> None:
    submitted = {name: value for name, value in ASKED.items() if name != "resume_from_checkpoint"}
    run = planned(submitted).model_copy(update={"submitted": tuple(submitted), "unwritten": tuple(submitted)})
    files = files_of(planned(), GOOD_CONFIG, GOOD_SLURM)
    assert validate_run(run, files, bundled=False) == ()
    # the submit line overrides the script
    files[SLURM] = replaced(GOOD_SLURM, "##SBATCH --account=<ACT>\n", "#SBATCH --qos=low --requeue --mail-user=me@x\n")
    assert [f for f in validate_run(run, files, bundled=False) if f.severity is not Severity.INFO] == []


def test_a_missing_resume_argument_is_reported_only_for_the_bundled_setup() -> None:
    run, files = planned(ASKED), {**files_of(planned(ASKED)), **GOOD}
    files[SLURM] = replaced(SCRIPT, ' "resume_from_checkpoint=$resume"', "")
    assert not [f for f in validate_run(run, files, bundled=False) if f.field == "resume_from_checkpoint"]
    (reported,) = validate_run(run, files, bundled=True)
    assert reported.expected is True
    nowhere = planned(ASKED, without="output_dir_base")  # which has a separate finding
    assert not [f for f in validate_run(nowhere, files, bundled=True) if f.field == "resume_from_checkpoint"]


def test_untyped_gpus_are_reported_without_a_found_type() -> None:
    files = {**files_of(planned(ASKED)), **GOOD, SLURM: replaced(SCRIPT, "gpu:a100:1", "gpu:1")}
    (reported,) = validate_run(planned(ASKED), files, bundled=True)
    assert (reported.expected, reported.actual) == ("a100", None)


@pytest.mark.parametrize(("given", "actual"), [("gpu:h100:1", "h100"), ("gpu:1", None), ("gpu", None)])
def test_a_different_gpu_type_is_reported(given: str, actual: str | None) -> None:
    run, slurm = planned({"gpu_type": "a100"}), replaced(GOOD_SLURM, "gpu:1", given)
    (error,) = validate_run(run, files_of(run, slurm=slurm), bundled=True)
    assert (error.field, error.expected, error.actual) == ("gpu_type", "a100", actual)
