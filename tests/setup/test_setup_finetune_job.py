"""The bundled setup_finetune with QOS, mail, typed GPUs, Weights & Biases, offline nodes and resuming."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.setup_texts import config_of, problems_of, script_of, text_of

ASKED: dict[str, Any] = {
    "gpus": 2,
    "gpu_type": "a100",
    "qos": "high",
    "reservation": "maintenance",
    "exclude": "gpu[01-03],n7",
    "requeue": True,
    "mail_user": "ada@example.org",
    "mail_type": "END,FAIL",
    "comment": "second # try; of (two)",
}
STATE = "ck-out-rank8_lr1e-5/recipe_state/recipe_state.pt"


def test_each_option_is_a_directive_before_every_command() -> None:
    lines = script_of(**ASKED).splitlines()
    wanted = [
        "--gres=gpu:a100:2",
        "--qos=high",
        "--reservation=maintenance",
        "--exclude=gpu[01-03],n7",
        "--mail-user=ada@example.org",
        "--mail-type=END,FAIL",
        '--comment="second # try; of (two)"',
        "--requeue",
    ]
    found = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
    assert [line for line in found if line in wanted] == wanted
    last = max(i for i, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert all(line.startswith("#") for line in lines[: last + 1])


def test_requeue_is_a_directive_only_if_set() -> None:
    assert "#SBATCH --no-requeue\n" in script_of(requeue=False)
    assert "requeue" not in script_of()


def test_the_logger_has_entity_group_and_tags() -> None:
    logger = config_of(wandb_entity="team", wandb_group="sweep", wandb_tags="lora,4 letters,true")["metric_logger"]
    assert (logger["entity"], logger["group"], logger["tags"]) == ("team", "sweep", ["lora", "4 letters", "true"])
    assert config_of()["metric_logger"].keys() == {"_component_", "project", "name", "log_dir", "mode"}


TOOLS = """\
conda() { if [ "$1" = shell.bash ]; then echo 'conda() { :; }'; fi; }
tune() { echo "tune $*"; env | grep -E '^(HF_|TRANSFORMERS_|WANDB_)' | sort; }
"""


def ran(script: str, folder: Path) -> list[str]:
    """Return the arguments and variables of the training when the job starts in a folder."""
    (folder / "tools.sh").write_text(TOOLS)
    (folder / "finetune.slurm").write_text(script)
    (folder / "finetune.yaml").write_text("a: 1\n")
    done = subprocess.run(
        ["/bin/bash", "finetune.slurm"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "BASH_ENV": "tools.sh"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_an_offline_job_sets_the_variables_of_every_library(tmp_path: Path) -> None:
    assert ran(script_of(offline=True, output_dir_base=str(tmp_path)), tmp_path) == [
        "tune run lora_finetune_single_device --config finetune.yaml",
        "HF_DATASETS_OFFLINE=1",
        "HF_HUB_OFFLINE=1",
        "TRANSFORMERS_OFFLINE=1",
        "WANDB_MODE=offline",
    ]
    assert script_of(offline=False) == script_of()


def test_a_job_resumes_if_there_is_a_state(tmp_path: Path) -> None:
    script = script_of(resume_from_checkpoint=True, epochs=2, output_dir_base=str(tmp_path / "my outputs"))
    start = "tune run lora_finetune_single_device --config finetune.yaml resume_from_checkpoint"
    assert ran(script, tmp_path) == [f"{start}=false"]
    state = tmp_path / "my outputs" / STATE
    state.parent.mkdir()
    state.touch()
    assert ran(script, tmp_path) == [f"{start}=true"]
    assert config_of(resume_from_checkpoint=True)["resume_from_checkpoint"] is True


@pytest.mark.parametrize(
    "line",
    [
        "qos: high --wrap=id",
        "reservation: a, b",
        "exclude: gpu[01",
        "mail_user: ada",
        "mail_user: ada@x --wrap=id",
        "mail_type: end",
        "mail_type: END, FAIL",
        "mail_type: SOMETIMES",
        "gpu_type: a100:2",
        "requeue: 1",
        "offline: 'on'",
        "resume_from_checkpoint: epoch_1",
        'comment: "a\\n#SBATCH --wrap=id"',
        "comment: 'say \"hi\"'",
        "comment: ' a'",
        "comment: $(id)",
        "wandb_entity: a/b",
        "wandb_group: ${x}",
        "wandb_tags: a, b",
        "wandb_tags: [a, b]",
    ],
)
def test_an_invalid_value_is_refused_with_its_key(line: str) -> None:
    key = line.partition(":")[0]
    assert problems_of(text_of(**{key: ...}) + line + "\n") == [("invalid-value", key)]


def test_full_fine_tuning_cannot_resume() -> None:
    text = text_of(resume_from_checkpoint=True, custom_recipe="full_finetune_single_device", epochs=2)
    assert problems_of(text) == [("unsupported-setting", "resume_from_checkpoint")]
