"""A real Slurm accepts the generated scripts, and runs the jobs of the submit line."""

import itertools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.cli.dispatch import prepare_demo
from scaffold_torchtune.torchtune_facts import FULL, known_models, recipe_for_gpus
from support import needs
from support.one_node_slurm import Slurm
from support.setup_texts import script_of

pytestmark = needs.SLURM


# The answer of sbatch about a script without running it.


def refusal(slurm: Slurm, script: str, folder: Path) -> str:
    """Return the reason why sbatch rejects a script, or an empty text."""
    file = folder / "finetune.slurm"
    file.write_text(script)
    done = slurm.call("sbatch", "--test-only", file)
    assert (done.returncode == 0) == ("to start at" in done.stderr), done
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("model", known_models())
def test_the_defaults_of_every_model_are_accepted(model: str, slurm: Slurm, tmp_path: Path) -> None:
    scripts = {
        script_of(torchtune_model_name=model, gpus=gpus, dataset_ext=extension, custom_recipe=recipe)
        for gpus, extension in itertools.product((1, 2, 8), (".json", ".parquet"))
        for recipe in (..., recipe_for_gpus(FULL, gpus))
    }
    assert len(scripts) == 6  # the job is the same for both kinds of data
    assert [refusal(slurm, script, tmp_path) for script in scripts] == [""] * 6


OPTIONS: dict[str, Any] = {
    "account": "lab",
    "partition": "gpu",
    "constraint": "gpu80",
    "modules": "anaconda3/2025.6, cuda",
    "mem": "64G",
    "cpus_per_task": 4,
}


def test_options_are_accepted_alone_and_together(slurm: Slurm, tmp_path: Path) -> None:
    refused = {}
    for given in itertools.product((False, True), repeat=len(OPTIONS)):
        options = dict(itertools.compress(OPTIONS.items(), given))
        refused[tuple(options)] = refusal(slurm, script_of(**options), tmp_path)
    assert len(refused) == 2 ** len(OPTIONS)
    assert {options: reason for options, reason in refused.items() if reason} == {}


@pytest.mark.parametrize(
    "changes",
    [
        *({"time": time} for time in ("30", "30:00", "0:59:00", "12:30:00", "1-0", "1-12:30", "2-00:00:00")),
        *({"mem": mem} for mem in ("4000", "4000M", "1048576K", "1T")),
        *({"constraint": wanted} for wanted in ("gpu80&a100", "gpu80|a100", "[gpu80|a100]", "(gpu80|a100)&gpu80")),
        {"my_wandb_run_name": "r8+lr1e-5.b"},
        {"conda_env": None, "venv": "/home/ada/my tune"},
    ],
    ids=str,
)
def test_every_spelling_of_a_value_is_accepted(changes: dict[str, Any], slurm: Slurm, tmp_path: Path) -> None:
    assert refusal(slurm, script_of(**changes), tmp_path) == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"partition": "nowhere"}, "invalid partition specified: nowhere"),
        ({"constraint": "gpu800"}, "Invalid feature specification"),
        ({"gpus": 9}, "Requested node configuration"),
        ({"mem": "3T"}, "Memory specification|Requested node configuration"),
        ({"cpus_per_task": 65}, "More processors requested|Requested node configuration"),
        ({"time": "3:00:00", "partition": "short"}, "Requested time limit is invalid"),
    ],
)
def test_resources_that_the_cluster_lacks_are_rejected(
    changes: dict[str, Any], reason: str, slurm: Slurm, tmp_path: Path
) -> None:
    assert re.search(reason, refusal(slurm, script_of(**changes), tmp_path))


@pytest.mark.parametrize(
    ("line", "wrong", "reason"),
    [
        ("--time=00:15:00", "--time=soon", "Invalid --time specification"),
        ("--mem=24G", "--mem=24GiB", "Invalid --mem specification"),
        ("--gres=gpu:1", "--gres=gpu:", "Invalid generic resource"),
        ("#!/bin/bash\n", "", "This does not look like a batch script"),
    ],
)
def test_a_malformed_script_is_rejected(line: str, wrong: str, reason: str, slurm: Slurm, tmp_path: Path) -> None:
    script = script_of()
    assert line in script
    assert reason in refusal(slurm, script.replace(line, wrong), tmp_path)


# Jobs that run. `tune`, `conda` and `module` are stand-ins, which record their calls.

STAND_INS = {
    "tune": """\
#!/bin/bash
echo "$CONDA_DEFAULT_ENV: tune $*, in $PWD" >> "$CALLS/$SLURM_JOB_NAME"
echo "tune stands in and ends with ${TUNE_STATUS:-0}"
exit "${TUNE_STATUS:-0}"
""",
    "module": """\
#!/bin/bash
echo "module $*" >> "$CALLS/$SLURM_JOB_NAME"
[ "$1 $2" != "load $NO_MODULE" ]
""",
    "conda": """\
#!/bin/bash
[ "$*" = "shell.bash hook" ] || exit 2
cat <<'HOOK'
conda() {
    echo "conda $*" >> "$CALLS/$SLURM_JOB_NAME"
    [ "$1" = activate ] && [ "$2" != "$NO_ENVIRONMENT" ] && export CONDA_DEFAULT_ENV=$2
}
HOOK
""",
}
RUNS = ("rank8_lr1e-5", "rank8_lr5e-5", "rank16_lr1e-5", "rank16_lr5e-5")


@dataclass(frozen=True)
class Bench:
    """The bundled example, scaffolded, and the folder in which the stand-ins of its jobs record their calls."""

    experiment: Path
    calls: Path
    submit: str

    def jobs(self, slurm: Slurm, shell: str = "bash", **more: str) -> dict[str, str]:
        """Submit every run with the printed line, and return the final states of the jobs."""
        path = f"{self.experiment.parent / 'bin'}:{slurm.environment['PATH']}"
        done = slurm.call(shell, "-c", self.submit, PATH=path, CALLS=str(self.calls), **more)
        assert done.returncode == 0, done.stdout + done.stderr
        jobs = [line.removeprefix("Submitted batch job ") for line in done.stdout.splitlines()]
        return {job: slurm.state(job) for job in jobs}

    def said(self, run: str) -> list[str]:
        """Return the calls of a run's stand-ins."""
        file = self.calls / run
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    experiment = prepare_demo(tmp_path / "an experiment")
    for name in ("experiment_summary.md", "claude.local.md"):
        file = experiment / name
        file.write_text(file.read_text().replace("/scratch/lab/ada", str(tmp_path)))
    for folder in ("bin", "calls"):
        (tmp_path / folder).mkdir()
    for name, text in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    assert main(["scaffold", str(experiment)]) == 0
    (submit,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("submit with: "))
    return Bench(experiment, tmp_path / "calls", submit.removeprefix("submit with: "))


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_the_submit_line_runs_every_run_to_its_end(shell: str, slurm: Slurm, bench: Bench) -> None:
    jobs = bench.jobs(slurm, shell)
    assert list(jobs.values()) == ["COMPLETED"] * 4
    for run, job in zip(RUNS, jobs, strict=True):
        folder = bench.experiment / run
        assert bench.said(run) == [
            "module purge",
            "module load anaconda3/2025.6",
            "conda activate torchtune",
            f"torchtune: tune run lora_finetune_single_device --config finetune.yaml, in {folder}",
        ]
        assert (folder / f"slurm-{job}.out").read_text() == "tune stands in and ends with 0\n"
        assert sorted(path.name for path in folder.iterdir()) == [
            "finetune.slurm",
            "finetune.yaml",
            "setup_finetune.yaml",
            f"slurm-{job}.out",
        ]
        logs = bench.experiment.parent / "ck-outputs" / "capitalization_lora_sweep" / f"ck-out-{run}" / "logs"
        assert logs.is_dir()


@pytest.mark.parametrize(
    ("fault", "calls", "log"),
    [
        ({"TUNE_STATUS": "3"}, 4, "tune stands in and ends with 3\n"),
        ({"NO_MODULE": "anaconda3/2025.6"}, 2, "cannot load the module anaconda3/2025.6\n"),
        ({"NO_ENVIRONMENT": "torchtune"}, 3, "cannot activate the conda environment torchtune\n"),
    ],
    ids=["tune", "module", "conda"],
)
def test_a_job_fails_if_a_part_of_it_fails(
    fault: dict[str, str], calls: int, log: str, slurm: Slurm, bench: Bench
) -> None:
    jobs = bench.jobs(slurm, **fault)
    assert list(jobs.values()) == ["FAILED"] * 4
    for run, job in zip(RUNS, jobs, strict=True):
        assert len(bench.said(run)) == calls  # nothing is called after the failure
        assert (bench.experiment / run / f"slurm-{job}.out").read_text() == log


def test_a_job_submitted_from_a_different_directory_fails(slurm: Slurm, bench: Bench) -> None:
    script = bench.experiment / RUNS[0] / "finetune.slurm"
    line = f"cd {shlex.quote(str(bench.calls))} && sbatch {shlex.quote(str(script))}"
    jobs = Bench(bench.experiment, bench.calls, line).jobs(slurm)
    assert list(jobs.values()) == ["FAILED"]
    assert bench.said(RUNS[0]) == []


def test_the_script_requests_the_gpus_of_the_run(slurm: Slurm, bench: Bench) -> None:
    (job, *_) = bench.jobs(slurm)
    shown = slurm.call("scontrol", "show", "job", job).stdout
    assert "gres:gpu:1" in shown
    assert "Account=lab" in shown
    assert "Features=gpu80" in shown
    assert "TimeLimit=00:59:00" in shown
