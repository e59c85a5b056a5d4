"""Settings that an external setup script rejects are in the submit line: as options of sbatch or in the environment."""

import itertools
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from scaffold_torchtune.external_checks import sbatch
from scaffold_torchtune.pipeline import state, steps
from scaffold_torchtune.results.step_results import ScaffoldResult
from scaffold_torchtune.system.files import Tree
from support.experiments import RUNS, log, make_experiment
from support.kit_generations import kit
from support.sampling import mostly_long
from support.scaffolding import answers, refusal, scaffold, validated
from support.stand_in_sbatch import StandIn
from support.wording import absent

ASKED = """\
- **Default GPUs**: `a100:1`
- **QOS**: high
- **Reservation**: maintenance
- **Exclude nodes**: gpu[01-03], n7
- **Requeue**: yes
- **Mail user**: ada@example.org
- **Mail type**: end, fail
- **Comment**: second # try; of "$HOME"
- **Offline**: yes
"""
OPTIONS = [
    "--qos=high",
    "--reservation=maintenance",
    "--exclude=gpu[01-03],n7",
    "--mail-user=ada@example.org",
    "--mail-type=END,FAIL",
    "--comment=second # try; of (two) & more",
    "--requeue",
    "--gres=gpu:a100:1",
]
LOCAL = {
    "- **Default GPUs**: `1`\n": ASKED.replace('"$HOME"', "(two) & more"),
    "- **Entity**: `<your_wandb_entity>`\n": "- **Entity**: team\n- **Group**: sweep\n- **Tags**: lora, 4 letters\n",
}
CHAT = {"**Epochs:** 2": "**Epochs:** 2\n- **Dataset type:** chat_completion"}
KINDS = (("1e-5", "a100"), ("5e-5", "h100"))
CALLS = """\
#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word"; done > call
env | grep -E '^(HF_|TRANSFORMERS_|WANDB_)' | sort >> call
[ ! -e fail ]
"""


@pytest.fixture(autouse=True)
def _user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "ada")


def done(folder: Path, generation: str, replace: dict[str, str]) -> ScaffoldResult:
    more = CHAT if generation == "august" else {}
    script = kit(folder / "kit", generation)
    directory = make_experiment(folder / "it's a sweep", replace={**more, **replace})
    return scaffold(directory, setup_script=str(script))


def submitted(line: str, folder: Path, shell: str = "/bin/sh") -> int:
    """Run the line in a shell, where a stand-in for sbatch records its call in each run."""
    tool = folder / "bin" / "sbatch"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(CALLS)
    tool.chmod(0o755)
    path = f"{tool.parent}:{os.environ['PATH']}"
    return subprocess.run([shell, "-c", line], env={"PATH": path, "run": "not this"}, check=False).returncode


def call(folder: Path, run: str) -> list[str]:
    return (folder / "it's a sweep" / run / "call").read_text().splitlines()


@pytest.mark.long
@pytest.mark.parametrize(
    ("generation", "shell"),
    mostly_long(
        itertools.product(["november", "december", "august"], ["sh", "bash"]),
        ("december", "bash"),
        ("august", "sh"),
    ),
)
def test_the_line_has_the_settings_that_the_script_lacks(tmp_path: Path, generation: str, shell: str) -> None:
    base = {"/scratch/gpfs/LAB/ada/ck-outputs/": f"{tmp_path}/out"} if generation == "august" else {}
    result = done(tmp_path, generation, {**LOCAL, **base})
    assert result.ok
    assert [f.sentence() for run in result.validation.runs for f in run.findings if f.severity != "info"] == []
    (reported,) = [f for f in result.plan.warnings if f.code == "submitted-with"]
    assert reported.severity == "info"
    for passed in ("`qos: high`", '`wandb_tags: "lora,4 letters"`', "`requeue: yes`"):
        assert passed in reported.message
    assert result.plan.common["mail_user"].value == "ada@example.org"
    assert submitted(result.submit, tmp_path, str(shutil.which(shell))) == 0
    for run in RUNS:
        assert call(tmp_path, run) == [
            *OPTIONS,
            "--export=ALL",
            "finetune.slurm",
            "HF_DATASETS_OFFLINE=1",
            "HF_HUB_OFFLINE=1",
            "TRANSFORMERS_OFFLINE=1",
            "WANDB_ENTITY=team",
            "WANDB_MODE=offline",
            "WANDB_RUN_GROUP=sweep",
            "WANDB_TAGS=lora,4 letters",
        ]
    assert result.submit.count("sbatch") == 1
    assert f": {result.submit}\n" in log(tmp_path / "it's a sweep")


@pytest.mark.long
def test_directories_for_logs_are_made_before_a_run_is_submitted(tmp_path: Path) -> None:
    result = done(tmp_path, "august", {"/scratch/gpfs/LAB/ada/ck-outputs/": f"{tmp_path}/out"})
    assert result.ok
    assert submitted(result.submit, tmp_path) == 0
    for run in RUNS:
        assert (tmp_path / "out" / "cap_4L_lora_lr_sweep" / run / "artifacts").is_dir()
        assert call(tmp_path, run) == ["finetune.slurm"]
    assert result.submit.count("mkdir") == 1
    (reported,) = [f for f in result.validation.findings if f.field == "output"]
    assert (reported.code, reported.severity, bool(reported.fix)) == ("unplanned-value", "info", True)


@pytest.mark.long
def test_no_directory_is_created_for_a_missing_script(tmp_path: Path) -> None:
    assert done(tmp_path, "december", {}).ok
    with Tree(tmp_path / "it's a sweep") as tree:
        plan = state.load_plan(tree)
        assert plan is not None
        for run in RUNS:
            (tree.root / run / "finetune.slurm").unlink()
        assert "mkdir" not in sbatch.line(plan.runs, tree)


@pytest.mark.long
def test_a_log_directory_without_the_run_in_its_name_is_created_verbatim(tmp_path: Path) -> None:
    assert done(tmp_path, "december", {}).ok
    with Tree(tmp_path / "it's a sweep") as tree:
        plan = state.load_plan(tree)
        assert plan is not None
        for run in RUNS:
            script = tree.root / run / "finetune.slurm"
            script.write_text(f"#!/bin/sh\n#SBATCH --output='my logs/%j.out'\n#SBATCH --error={tmp_path}/err/%x.err\n")
        assert submitted(sbatch.line(plan.runs, tree), tmp_path) == 0
        for run in RUNS:
            assert [*(tree.root / run / "my logs").iterdir()] == []
    assert [*(tmp_path / "err").iterdir()] == []


@pytest.mark.long
def test_runs_with_different_options_have_separate_commands(tmp_path: Path) -> None:
    model = "Llama-3.2-1B-Instruct"
    replace = {
        "| Run Name | Model |": "| Run Name | GPU type | Model |",
        "|----------|-------|": "|---|----------|-------|",
        f"| {model}_base |": f"| {model}_base | - |",
        **{
            f"_{rank}_lr{rate} |": f"_{rank}_lr{rate} | {kind} |"
            for rank in ("rank8", "rank16")
            for rate, kind in KINDS
        },
    }
    result = done(tmp_path, "december", replace)
    assert result.ok
    names = [run.directory for run in result.plan.runs]
    assert submitted(result.submit, tmp_path) == 0
    gres = [call(tmp_path, name)[0] for name in names]
    assert gres == [f"--gres=gpu:{kind}:1" for kind in ("a100", "h100", "a100", "h100")]
    for name in names:
        (tmp_path / "it's a sweep" / name / "call").unlink()
    (tmp_path / "it's a sweep" / names[1] / "fail").touch()
    assert submitted(result.submit, tmp_path) == 1
    assert [(tmp_path / "it's a sweep" / name / "call").exists() for name in names] == [True, True, False, False]


def test_the_bundled_setup_writes_all_settings_and_the_line_stays_plain(tmp_path: Path) -> None:
    result = scaffold(make_experiment(tmp_path / "sweep", replace=LOCAL))
    assert result.ok
    assert [f.code for run in result.validation.runs for f in run.findings] == []
    assert "submitted-with" not in {f.code for f in result.plan.warnings}
    runs = " ".join(RUNS)
    place = shlex.quote(str(tmp_path / "sweep"))
    assert result.submit == f'cd {place} && for run in {runs}; do (cd "$run" && sbatch finetune.slurm) || break; done'


@pytest.mark.long
def test_resuming_is_refused_if_the_script_cannot_resume(tmp_path: Path) -> None:
    script = str(kit(tmp_path / "kit", "december"))
    resume = {"**Epochs:** 2": "**Epochs:** 2\n- **Resume from checkpoint:** yes"}
    problems = refusal(
        steps.scaffold, make_experiment(tmp_path / "sweep", replace=resume), setup_script=script
    ).problems
    assert [(p.code, p.field) for p in problems] == [("untaken-setting", "resume_from_checkpoint")]
    assert done(tmp_path / "other", "december", {"**Epochs:** 2": "**Epochs:** 2\n- **Resume:** no"}).ok


def test_sbatch_is_tested_with_the_options_of_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert done(tmp_path, "december", LOCAL).ok
    sbatch = StandIn(tmp_path / "asked", monkeypatch)
    monkeypatch.setenv("SBATCH_QOS", "another")
    sbatch.says(1, "allocation failure: Invalid qos specification")
    result = validated(tmp_path / "it's a sweep")
    assert not result.passed
    assert answers(result) == []
    (made,) = sbatch.calls
    assert made.startswith("--test-only " + " ".join(OPTIONS) + " in ")
    assert made.endswith(" with ")  # an option of the line would override the variable
    refused = [f for run in result.runs for f in run.findings if f.code == "sbatch-refused"]
    assert {(f.field, f.line) for f in refused} == {("qos", None)}
    assert [absent(f.fix, "--qos=high (", "claude.local.md:") for f in refused] == [[]] * len(RUNS)


@pytest.mark.long
def test_offline_no_adds_nothing(tmp_path: Path) -> None:
    result = done(tmp_path, "december", {"- **Default GPUs**: `1`\n": "- **Default GPUs**: `1`\n- Offline: no\n"})
    assert result.ok
    assert "submitted-with" not in {f.code for f in result.plan.warnings}
    assert "export" not in result.submit
