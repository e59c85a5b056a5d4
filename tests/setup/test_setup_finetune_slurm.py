"""The batch script of the bundled setup_finetune, parsed and run."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.setup_texts import problems_of, script_of, text_of


def directives_of(script: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    names = [line.split("=", 1)[0] for line in lines]
    assert len(names) == len(set(names))
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gpus": 4},
        {"venv": "/opt/my venvs/torch tune"},
        {"modules": "a,b/1.2"},
        {"output_dir_base": "/scratch/a (ls) && b"},
        {"output_dir_base": "/scratch/#SBATCH --x=y/&& ls"},
        {"constraint": "[a100*2&h100|(b,c)],d"},
    ],
)
def test_the_script_parses(changes: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "finetune.slurm"
    script.write_text(script_of(**changes))
    subprocess.run(["/bin/bash", "-n", script], check=True)


def test_no_unset_option_is_a_directive() -> None:
    asked = {"job-name", "nodes", "ntasks", "cpus-per-task", "mem", "time", "gres", "output"}
    assert set(directives_of(script_of())) == asked
    assert "module" not in script_of()


def test_directives_come_before_every_command() -> None:
    lines = script_of(account="a", partition="b", constraint="c").splitlines()
    last = max(i for i, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert all(line.startswith("#") for line in lines[: last + 1])


def test_resources_can_be_set() -> None:
    script = script_of(mem="100G", cpus_per_task=3, gpus=2, time="1-00:00:00")
    found = directives_of(script)
    assert (found["mem"], found["cpus-per-task"], found["gres"], found["time"]) == ("100G", "3", "gpu:2", "1-00:00:00")
    assert script.count("from setup_finetune.yaml") == 2


def last_line(script: str) -> str:
    return script.splitlines()[-1]


def test_several_gpus_use_the_distributed_recipe() -> None:
    script = script_of(gpus=2)
    assert last_line(script) == "tune run --nproc_per_node 2 lora_finetune_distributed --config finetune.yaml"
    assert directives_of(script)["cpus-per-task"] == "2"


@pytest.mark.parametrize(
    ("recipe", "word"),
    [
        ("lora_finetune_single_device", "lora_finetune_single_device"),
        ("package.recipes.mine", "package.recipes.mine.__main__"),
        ("package.recipes.mine.__main__", "package.recipes.mine.__main__"),
        ("recipes/mine.py", "recipes/mine.py"),
        ("recipes/mine", "recipes/mine"),
        ("mine", "mine"),
    ],
)
def test_a_custom_recipe_has_the_name_that_tune_finds(recipe: str, word: str) -> None:
    assert last_line(script_of(custom_recipe=recipe)) == f"tune run {word} --config finetune.yaml"


@pytest.mark.parametrize(("recipe", "gpus"), [("a.single_device_b", 2), ("lora_finetune_distributed", 1)])
def test_a_recipe_must_fit_the_gpus(recipe: str, gpus: int) -> None:
    assert problems_of(text_of(custom_recipe=recipe, gpus=gpus)) == [("wrong-recipe", "custom_recipe")]


def test_a_recipe_is_not_checked_against_an_invalid_number_of_gpus() -> None:
    assert problems_of(text_of(custom_recipe="lora_finetune_distributed", gpus=0)) == [("invalid-value", "gpus")]


def test_conda_or_a_virtual_environment() -> None:
    with_modules, with_venv = script_of(modules="anaconda3"), script_of(venv="/opt/tune/", conda_env=...)
    assert "conda activate tune" in with_modules
    assert with_modules.index("module load anaconda3") < with_modules.index("conda activate")
    assert "source /opt/tune/bin/activate" in with_venv
    assert "conda" not in with_venv


TOOLS = """
conda() { if [ "$1" = shell.bash ]; then echo 'conda() { echo "conda $*"; return "${CONDA_FAILS:-0}"; }'; fi; }
module() { echo "module $*"; return ${MODULE_FAILS:-0}; }
tune() { echo "tune $*"; return 7; }
"""


def run_script(
    script: str, directory: Path, environment: dict[str, str], *, config: bool = True
) -> tuple[int, list[str]]:
    """Run the script with stand-ins for conda, module and tune; return its exit status and their calls."""
    (directory / "tools.sh").write_text(TOOLS)
    (directory / "finetune.slurm").write_text(script)
    if config:
        (directory / "finetune.yaml").write_text("a: 1\n")
    done = subprocess.run(
        ["/bin/bash", "finetune.slurm"],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "BASH_ENV": "tools.sh"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


def test_the_job_has_the_exit_status_of_its_training(tmp_path: Path) -> None:
    status, calls = run_script(script_of(modules="a/1", output_dir_base="out dir"), tmp_path, {})
    assert status == 7
    assert calls == [
        "module purge",
        "module load a/1",
        "conda activate tune",
        "tune run lora_finetune_single_device --config finetune.yaml",
    ]
    assert (tmp_path / "out dir" / "ck-out-rank8_lr1e-5" / "logs").is_dir()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"CONDA_FAILS": "1"}, "cannot activate the conda environment tune"),
        ({"MODULE_FAILS": "1"}, "cannot load the module a"),
    ],
)
def test_the_job_stops_if_the_activation_fails(environment: dict[str, str], said: str, tmp_path: Path) -> None:
    status, calls = run_script(script_of(modules="a", output_dir_base="out"), tmp_path, environment)
    assert status == 1
    assert calls[-1] == said
    assert not (tmp_path / "out").exists()


def test_the_job_stops_without_its_virtual_environment(tmp_path: Path) -> None:
    status, calls = run_script(script_of(venv="no venv", output_dir_base="out"), tmp_path, {})
    assert status == 1
    assert calls[-1] == "cannot activate the virtual environment no venv"


def test_the_job_must_be_submitted_from_its_run_directory(tmp_path: Path) -> None:
    status, calls = run_script(script_of(), tmp_path, {}, config=False)
    assert status == 1
    assert calls == [f"finetune.yaml is not in {tmp_path}: submit this job from its run directory"]
