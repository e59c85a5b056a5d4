"""Further job settings in documents: QOS, mail, typed GPUs, Weights & Biases, offline nodes, resuming."""

import pytest

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.models import SourceKind
from support.documents import LOCAL, SUMMARY, local_md, parsed, planned, refusal, summary

REQUIRED = {"conda_env": "tune", "my_wandb_project": "words", "output_dir_base": "/scratch/out"}


def environment(section: str) -> dict[str, Scalar]:
    """Return the settings of a claude.local.md in addition to the required ones."""
    experiment = parsed(local=f"{local_md()}\n{section}")
    found = {name: setting.value for name, setting in experiment.environment.items()}
    assert {name: found.pop(name) for name in REQUIRED} == REQUIRED
    assert [f.code for f in experiment.warnings] == []
    return found


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("## SLURM Defaults\n- **QOS**: `gpu-test`\n- Reservation: a, b\n", {"qos": "gpu-test", "reservation": "a,b"}),
        ("## SLURM\n- Quality of service: high\n- Exclude nodes: gpu[01-03], n7\n",
         {"qos": "high", "exclude": "gpu[01-03],n7"}),
        ("## SLURM\n- Mail: ada@example.org\n- Mail type: end, fail\n",
         {"mail_user": "ada@example.org", "mail_type": "END,FAIL"}),
        ("## SLURM\n- Notify: ada+jobs@mail.example.org\n- Notify on: ALL\n",
         {"mail_user": "ada+jobs@mail.example.org", "mail_type": "ALL"}),
        ("## SLURM\n### Email\n- Email: ada@example.org\n", {"mail_user": "ada@example.org"}),
        ("## SLURM\n- Email: <ada@example.org>\n", {"mail_user": "ada@example.org"}),
        ("## SLURM\n- Email: `<your_mail>`\n- Mail type: (none)\n", {}),
        ("## Anything\n- mail-user: ada@example.org\n- mail_type: BEGIN\n",
         {"mail_user": "ada@example.org", "mail_type": "BEGIN"}),
        ("## Contacts\n- Email: ada@example.org\n- Mail: bob@example.org\n", {}),
        ("## Email\n- Email: ada@example.org\n", {}),
        ("- Email: ada@example.org\n", {}),
        ("## SLURM\n- Default GPUs: `a100:2` \n", {"gpus": 2, "gpu_type": "a100"}),
        ("## SLURM\n- Gres: gpu:1g.10gb:1\n", {"gpus": 1, "gpu_type": "1g.10gb"}),
        ("## SLURM\n- gres: gpu:2\n- GPU type: h100\n", {"gpus": 2, "gpu_type": "h100"}),
        ('## SLURM\n- Requeue: yes\n- Comment: "second try (of #2)"\n',
         {"requeue": True, "comment": "second try (of #2)"}),
        ("## SLURM\n- Requeue: no\n- Job comment: Ada: words\n", {"requeue": False, "comment": "Ada: words"}),
        ("## SLURM\n- QOS: (none)\n- Reservation: <name>\n- Mail user: (leave empty)\n- Requeue: -\n", {}),
        ("## Weights & Biases\n- **Entity**: `my-team`\n- Group: sweep\n- Tags: lora, 4 letters\n",
         {"wandb_entity": "my-team", "wandb_group": "sweep", "wandb_tags": "lora,4 letters"}),
        ("## Anything\n- W&B entity: team\n", {"wandb_entity": "team"}),
        ("## HPC\n- Group: LAB\n- Offline: yes\n", {"offline": True}),
        ("## Weights & Biases\n- Entity: (none)\n- Offline: yes\n", {"wandb_mode": "offline"}),
        ("## Cluster\n- Compute nodes have no internet: yes\n", {"offline": True}),
    ],
)  # fmt: skip
def test_job_settings_are_read_from_labels_that_people_write(section: str, expected: dict[str, Scalar]) -> None:
    assert environment(section) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("mail_user", value) for value in ("ada", "END", "a@b c", "a@b,c@d", "$(id)@x", "-a@x", "a@b;id")),
        *(("mail_type", value) for value in ("SOMETIMES", "END,END", "NONE,END", "END FAIL", "ALL;id")),
        *(("exclude", value) for value in ("gpu[01", "gpu[a-b]", "a b", "$(id)", "a;b", "-a", "all]")),
        *(("reservation", value) for value in ("a b", "a;b", "$(id)", "a,,b", "../a")),
        *(("qos", value) for value in ("a b", "high,low", "--wrap=id", "'a'b")),
        *(("gpu_type", value) for value in ("A100 80GB", "a100:2", "a100;id")),
        *(("comment", value) for value in ('a "b" c', "it's", "a\\\\b", "$(id)", "a`b", "x" * 201)),
        *(("requeue", value) for value in ("maybe", "2")),
        *(("wandb_entity", value) for value in ("a b", "a/b", "$(id)")),
        *(("wandb_tags", value) for value in ("a,,b", "a,a", "x" * 65, "${a}", "a;b")),
    ],
)
def test_an_invalid_job_setting_is_refused(name: str, value: str) -> None:
    local = local_md() + f"\n## SLURM\n- {name}: {value}\n"
    problems = refusal(parsed, local=local)
    assert [(p.code, p.field, p.file, p.line) for p in problems] == [("invalid-value", name, LOCAL, 8)]
    assert problems[0].expected


def test_a_description_of_the_nodes_sets_nothing() -> None:
    experiment = parsed(local=local_md() + "\n## Cluster\n- GPU type: a100\n")
    assert "gpu_type" not in experiment.environment
    assert [(f.code, f.field) for f in experiment.warnings] == [("unused-field", "gpu_type")]


def test_configuration_may_give_settings_of_the_experiment() -> None:
    training = {"GPUs": "h100:2", "Resume": "yes", "Requeue": "yes", "wandb_group": "sweep", "WandB tags": "a, b"}
    plan = planned(summary(training=training))
    settings = plan.runs[0].settings
    assert {name: (setting.value, setting.source.kind) for name, setting in settings.items() if name in {
        "gpus", "gpu_type", "resume_from_checkpoint", "requeue", "wandb_group", "wandb_tags"
    }} == {
        "gpus": (2, SourceKind.CONFIGURATION),
        "gpu_type": ("h100", SourceKind.CONFIGURATION),
        "resume_from_checkpoint": (True, SourceKind.CONFIGURATION),
        "requeue": (True, SourceKind.CONFIGURATION),
        "wandb_group": ("sweep", SourceKind.CONFIGURATION),
        "wandb_tags": ("a,b", SourceKind.CONFIGURATION),
    }  # fmt: skip
    assert [f.code for f in plan.warnings if f.field in {"requeue", "resume_from_checkpoint"}] == []


@pytest.mark.parametrize(
    ("training", "field"),
    [
        ({"Requeue": "yes"}, "requeue"),
        ({"Requeue": "yes", "Resume": "no"}, "requeue"),
        ({"Resume": "yes", "Epochs": "1"}, "resume_from_checkpoint"),
        ({"Resume": "yes", "Requeue": "yes", "Epochs": "1"}, "resume_from_checkpoint"),
    ],
)
def test_a_job_that_restarts_from_the_beginning_is_a_warning(training: dict[str, str | None], field: str) -> None:
    found = [f for f in planned(summary(training=training)).warnings if f.code == "begins-anew"]
    assert [(f.field, f.severity, f.file) for f in found] == [(field, "warning", SUMMARY)]


def test_resuming_keeps_the_directory_of_a_run() -> None:
    before = planned(summary())
    after = planned(summary(training={"Resume": "yes"}), previous=before)
    assert [run.directory for run in after.runs] == [run.directory for run in before.runs]
