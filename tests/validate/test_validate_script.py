"""The validate stage with scripts that are equivalent, and with scripts that are not."""

import pytest

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.validate import validate_run
from support.good_files import EXTERNAL_SLURM, GOOD_SLURM, RUN, files_of, planned, replaced
from support.script_findings import Found, found

# ruff: noqa: E501 - the table of cases has one case a line


LOST: Found = [("unplanned-value", "warning", "modules")]
SWAPPED: Found = [("unplanned-value", "info", "modules"), *LOST]

UNLOADED: list[tuple[dict[str, Scalar], tuple[str, ...], bool, Found]] = [
    ({"modules": "gcc/12"}, ("eval ", f"module load gcc/12\n{line}\neval "), False, LOST)
    for line in (
        *("module purge", "module --force purge", "module reset", "module restore", "ml purge", "ml -gcc/12"),
        *("module unload gcc/12", "module rm gcc", "module del gcc", "module delete gcc", "module remove gcc"),
    )
]

# The planned settings in addition to the usual ones (None: not planned), the replacements in the script, whether it is
# that of the bundled setup, and the findings.
CASES: list[tuple[dict[str, Scalar], tuple[str, ...], bool, Found]] = [
    # not planned, not in the script
    ({"gpus": None}, (), True, []),
    ({"conda_env": None}, (), True, []),
    ({"conda_env": None}, ("conda activate tuning\n", ""), True, []),
    ({"conda_env": ""}, ("conda activate tuning\n", ""), True, []),
    ({"time": None}, (), True, []),
    ({"my_wandb_run_name": None}, (), True, [("unplanned-value", "error", "metric_logger.name")]),
    # modules
    ({"modules": "gcc/12"}, ("eval ", "ml load gcc/12\neval "), True, []),
    ({"modules": "gcc/12"}, ("eval ", "module unload gcc/12\neval "), True,
     [("missing-value", "error", "modules"), ("unplanned-value", "error", "module")]),
    ({"modules": "gcc/12"}, ("eval ", "echo load gcc/12\neval "), True, [("missing-value", "error", "modules")]),
    ({}, ("eval ", "module load gcc\neval "), False, [("unplanned-value", "info", "modules")]),
    ({"modules": "a,b"}, ("eval ", "module load x b a\neval "), False,
     [("value-mismatch", "error", "modules"), ("unplanned-value", "info", "modules")]),
    ({"modules": "gcc/12"}, ("eval ", "ml gcc/12\neval "), False, []),
    ({"modules": "gcc/12,a"}, ("eval ", "ml gcc/12 a\nml list\nml avail a\neval "), False, []),
    ({"modules": "gcc/12"}, ("eval ", "module add gcc/12\neval "), False, []),
    ({"modules": "gcc/12"}, ("eval ", "module -s load gcc/12\neval "), False, [("missing-value", "error", "modules")]),
    ({"modules": "gcc/12"}, ("eval ", "module --silent load gcc/12\neval "), False, []),
    ({"modules": "gcc/12"}, ("eval ", "module purge\nmodule load gcc/12\neval "), False, []),
    ({"modules": "gcc/12"}, ("eval ", "module load gcc/12\nmodule unload a\nmodule list\nml -a\neval "), False, []),
    ({"modules": "gcc/12"}, ("eval ", "module load gcc/12\nmodule purge\nmodule load gcc/12\neval "), False, []),
    ({"modules": "gcc/12"}, ("eval ", "module load gcc/11\nmodule swap gcc/12\neval "), False, [("unplanned-value", "warning", "modules")]),
    ({"modules": "gcc/12"}, ("eval ", "module load gcc/12 gcc/11\neval "), False, [("unplanned-value", "warning", "modules")]),
    ({"modules": "gcc/12"}, ("eval ", "module load gcc/12\nml gcc\neval "), False, [("unplanned-value", "warning", "modules")]),
    ({"modules": "gcc/12"}, ("eval ", "ml\nmodule\nmodule swap\neval "), False, [("missing-value", "error", "modules")]),
    *UNLOADED,
    ({"modules": "gcc/12"}, ("eval ", "module load gcc/12\nmodule swap gcc/12 a\neval "), False, SWAPPED),
    ({"modules": "gcc/12"}, ("eval ", "module load gcc/12\nmodule switch gcc a\neval "), False, SWAPPED),
    ({"modules": "gcc/12"}, ("eval ", "module load gcc/12\nmodule swap gcc/11\neval "), False, [*LOST, *LOST]),
    ({"modules": "gcc/12"}, ("eval ", "module load gcc/12\nmodule swap a b\neval "), False, [("unplanned-value", "info", "modules")]),
    # the environment
    ({}, ("conda activate", "micromamba activate"), True, []),
    ({}, ('eval "$(conda shell.bash hook)"', "source /opt/conda/etc/profile.d/conda.sh"), True, []),
    ({}, ('eval "$(conda shell.bash hook)"\n', ""), True, [("missing-value", "error", "conda_env")]),
    ({}, ('eval "$(conda shell.bash hook)"\n', ""), False, []),
    ({}, ('eval "$(conda shell.bash hook)"\nconda activate tuning\n', 'conda activate tuning\neval "$(conda shell.bash hook)"\n'),
     True, [("missing-value", "error", "conda_env")]),
    ({}, ("conda activate tuning\n", "conda activate tuning\nconda activate base\n"), True, [("value-mismatch", "error", "conda_env")]),
    ({}, ("conda activate tuning\n", "conda activate base\nconda activate tuning\n"), True, []),
    ({"venv": "mine"}, ("conda activate tuning", ". /home/me/mine/bin/activate"), True, []),
    ({"venv": "/home/me/mine/"}, ("conda activate tuning", "source /home/me//mine/bin/activate"), True, []),
    ({"venv": "mine"}, ("conda activate tuning", "source mine/bin/activate\nsource settings"), True, []),
    ({"venv": "mine"}, ("conda activate tuning", "source other/bin/activate\nsource mine/bin/activate"), True, []),
    ({"venv": "mine"}, ("conda activate tuning", "cat mine/bin/activate"), False, [("missing-value", "error", "venv")]),
    ({"venv": "mine"}, ("conda activate tuning", "source"), True, [("missing-value", "error", "venv")]),
    ({"venv": "mine"}, ("conda activate tuning", "source notmine/bin/activate"), True, [("value-mismatch", "error", "venv")]),
    # the directory of the job
    ({}, ("tune run", 'cd "$SLURM_SUBMIT_DIR"\ntune run'), True, []),
    ({}, ("tune run", "cd ${SLURM_SUBMIT_DIR}/\ntune run"), True, []),
    ({}, ("tune run", "cd .\ntune run"), True, []),
    ({}, ("tune run", "cd $PWD\ntune run"), True, []),
    ({}, ("tune run", f"cd /scratch/me/sweep/{RUN}/\ntune run"), True, []),
    ({}, ("tune run", "cd /scratch/me/old\ntune run"), True, [("unplanned-value", "error", "cd")]),
    ({}, ("tune run", "pushd /scratch/me/old\ntune run"), True, [("unplanned-value", "error", "cd")]),
    ({}, ("tune run", f"cd not-{RUN}\ntune run"), True, [("unplanned-value", "error", "cd")]),
    ({}, ("tune run", "cd\ntune run"), True, [("unplanned-value", "error", "cd")]),
    ({}, ("tune run", "cd ..\ntune run"), False, [("unplanned-value", "error", "cd")]),
    ({}, ("tune run", "cd ../rank16_lr5e-5\ntune run"), False, [("unplanned-value", "error", "cd")]),
    ({}, ("tune run", "cd -P -- $SLURM_SUBMIT_DIR/../rank16 >log || exit\ntune run"), False, [("unplanned-value", "error", "cd")]),
    ({}, ("tune run", f"cd ../{RUN} && cd logs && cd .. && tune run"), True, [("unplanned-value", "error", "tune run")]),
    ({}, ("tune run", f"cd ..\ncd {RUN}\ntune run"), True, []),
    ({}, ("tune run", "cd /elsewhere\ncd $SLURM_SUBMIT_DIR\ntune run"), True, []),
    ({}, ("tune run", "cd /elsewhere\nmake\ncd -\ntune run"), False, []),
    ({}, ("tune run", "pushd /elsewhere\nmake\npopd\ntune run"), False, []),
    ({}, ("tune run", "popd\ntune run"), False, []),
    ({}, ("tune run", "cd ./logs/..\ntune run"), False, []),
    ({}, ("tune run", "(cd /elsewhere && make)\ntune run"), False, []),
    ({}, ("tune run", "(cd ..; tune run", "finetune.yaml", "finetune.yaml)"), False, [("unplanned-value", "error", "cd")]),
    ({}, ("tune run", "cd /elsewhere\ntune run", "finetune.yaml", "$SLURM_SUBMIT_DIR/finetune.yaml"), False, []),
    ({}, ("tune run", "srun -D /x tune run"), False, [("unplanned-value", "error", "cd")]),
    ({}, ("tune run", "srun -D/x tune run"), False, [("unplanned-value", "error", "cd")]),
    ({}, ("tune run", "/bin/srun --chdir=.. tune run"), False, [("unplanned-value", "error", "cd")]),
    ({}, ("tune run", "[ -e a ] && srun --chdir /x tune run"), False, [("unplanned-value", "error", "cd")]),
    ({}, ("tune run", "env -C /x tune run"), False, [("unplanned-value", "error", "cd")]),
    ({}, ("tune run", "if [ -d /a ]; then cd /a; fi\nsrun -D /x tune run"), False, [("unplanned-value", "error", "cd")]),
    ({}, ("tune run", "srun -D $SCRATCH tune run"), False, [("unplanned-value", "warning", "cd")]),
    ({}, ("tune run", "srun -D $PWD tune run"), False, []),
    ({}, ("tune run", "cd /x; srun -D $SLURM_SUBMIT_DIR tune run"), False, []),
    ({}, ("tune run", f"srun -D ../{RUN} tune run"), False, []),
    ({}, ("tune run", "srun -C /x tune run"), False, []),
    ({}, ("tune run", "srun conda run -n tuning -D /x tune run"), False, []),
    ({}, ("tune run", "cd ..\npushd /x\npopd\ntune run"), False, [("unplanned-value", "error", "cd")]),
    ({}, ("tune run", "pushd /x\npopd\ntune run"), False, []),
    ({}, ("tune run", "pushd /x\ncd /y\npopd\ntune run"), False, []),
    ({}, ("tune run", "pushd /x\npopd\ncd -\ntune run"), False, [("unplanned-value", "error", "cd")]),
    ({}, ("tune run", "cd $SCRATCH/a\ntune run"), False, [("unplanned-value", "warning", "cd")]),
    ({}, ("tune run", 'cd "$(dirname "$0")"\ntune run'), False, [("unplanned-value", "warning", "cd")]),
    ({}, ("tune run", "if [ -d /a ]; then cd /a; fi\ntune run"), False, [("unplanned-value", "warning", "cd")]),
    ({}, ("tune run", "cp finetune.yaml /a\ncd /a\ntune run"), False, [("unplanned-value", "warning", "cd")]),
    ({}, ("tune run", "cp data.json /a\ncd /a\ntune run"), False, [("unplanned-value", "error", "cd")]),
    ({}, ("finetune.yaml\n", "finetune.yaml\ncd /elsewhere\n"), True, []),
    # other activations of an environment
    ({}, ("conda activate", "mamba activate"), True, []),
    ({}, ("conda activate", "source activate"), True, []),
    ({}, ("conda activate", ". /opt/conda/bin/activate"), True, []),
    ({}, ("conda activate tuning", "source activate other"), True, [("value-mismatch", "error", "conda_env")]),
    ({}, ("conda activate tuning", "source other/bin/activate"), False, [("missing-value", "error", "conda_env")]),
    # directories that the job creates
    ({}, ("mkdir ", "ls /somewhere\nmkdir "), False, []),
    ({}, ("mkdir ", "mkdir /elsewhere\nmkdir "), False, [("unplanned-value", "warning", "output_dir_base")]),
    ({}, ("mkdir ", "mkdir -p logs\nmkdir "), True, []),
    # tune run
    ({}, ("tune run", "tune run --standalone"), False, [("unplanned-value", "info", "tune run")]),
    ({}, ("run lora_finetune_single_device \\\n    --config finetune.yaml", "run --standalone"), False,
     [("missing-value", "error", "config"), ("wrong-recipe", "error", "gpus"), ("unplanned-value", "info", "tune run")]),
    ({}, ("run lora_finetune_single_device \\\n    --config finetune.yaml", "run --nnodes"), False,
     [("missing-value", "error", "config"), ("wrong-recipe", "error", "gpus"), ("unplanned-value", "warning", "tune run")]),
    ({}, (" \\\n    --config finetune.yaml", " --config ./finetune.yaml"), True, []),
    ({}, ("--config finetune.yaml", "--config=finetune.yaml"), True, [("value-mismatch", "error", "config")]),
    ({}, ("--config finetune.yaml", "--config=./finetune.yaml"), False, [("value-mismatch", "error", "config")]),
    ({}, ("--config finetune.yaml", "--config=old.yaml --config finetune.yaml"), True, []),
    ({}, ("--config finetune.yaml", "--config=other.yaml"), True, [("value-mismatch", "error", "config")]),
    ({}, ("--config finetune.yaml", "--config"), True, [("value-mismatch", "error", "config")]),
    ({}, ("--config finetune.yaml", "--config finetune.yaml --conf other.yaml"), True, [("unplanned-value", "error", "--conf")]),
    ({}, ("--config finetune.yaml", "--config finetune.yaml > train.log"), True, []),
    ({}, ("--config finetune.yaml", "--config finetune.yaml ~optimizer.fused"), True, [("unplanned-value", "error", "~optimizer.fused")]),
    ({}, ("--config finetune.yaml", "--config old/finetune.yaml --config finetune.yaml"), True, []),
    # its recipe
    ({"gpus": 2}, ("gpu:1", "gpu:2", "run lora_finetune_single_device", "run --nproc_per_node 2 lora_finetune_single_device"), True,
     [("wrong-recipe", "error", "gpus")]),
    ({"gpus": 2}, ("gpu:1", "gpu:2", "run lora_finetune_single_device", "run --nproc_per_node 4 lora_finetune_distributed"), True,
     [("wrong-recipe", "error", "gpus")]),
    ({"gpus": 2}, ("gpu:1", "gpu:2", "run lora_finetune_single_device",
                   "run --nproc_per_node 2 --nproc-per-node 4 lora_finetune_distributed"), True, [("wrong-recipe", "error", "gpus")]),
    ({}, ("lora_finetune_single_device", "kit.lora_finetune_single_device_nightly"), True, [("wrong-recipe", "error", "gpus")]),
    ({}, ("lora_finetune_single_device", "kit.lora_finetune_single_device_nightly"), False, [("wrong-recipe", "info", "custom_recipe")]),
    ({}, ("lora_finetune_single_device", "lora_finetune_single_device_nightly"), False, [("wrong-recipe", "error", "gpus")]),
    ({}, ("lora_finetune_single_device", "kit.full_finetune_single_device"), False, [("wrong-recipe", "error", "gpus")]),
    ({}, ("lora_finetune_single_device", "kit.lora_finetune_distributed"), False, [("wrong-recipe", "error", "gpus")]),
    ({"custom_recipe": "mine"}, ("lora_finetune_single_device", "kit.lora_finetune_single_device_nightly"), False,
     [("wrong-recipe", "error", "custom_recipe")]),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "pairs", "bundled", "expected"), CASES)
def test_each_notation_of_a_script(
    changes: dict[str, Scalar], pairs: tuple[str, ...], *, bundled: bool, expected: Found
) -> None:
    assert sorted(map(str, found(changes, replaced(GOOD_SLURM, *pairs), bundled=bundled))) == sorted(map(str, expected))


@pytest.mark.parametrize(
    "before",
    [
        *("!", "command", "do", "elif", "else", "env", "exec", "if", "nohup", "srun", "then", "time", "until", "while"),
        *("{", "A=1", "env A=1 B=2", "while !"),
    ],
)
def test_words_that_may_precede_a_command(before: str) -> None:
    slurm = replaced(GOOD_SLURM, "tune run", f"{before} tune run")
    assert found({}, slurm, bundled=False) == []
    assert found({}, slurm, bundled=True) == [("unplanned-value", "error", "tune run")]


def test_an_assignment_is_not_a_command() -> None:
    assert found({}, replaced(GOOD_SLURM, "eval ", "A=1\neval "), bundled=False) == []


@pytest.mark.parametrize(
    "flag", ["--standalone", "--no-python", "--no_python", "--run-path", "--run_path", "-m", "--module"]
)
def test_a_flag_of_torchrun_takes_no_value(flag: str) -> None:
    slurm = replaced(GOOD_SLURM, "tune run", f"tune run {flag}")
    assert found({}, slurm, bundled=True) == [("unplanned-value", "error", "tune run")]


@pytest.mark.parametrize(
    ("modules", "environment", "bundled", "known"),
    [
        ("gcc/12", "", False, True),
        ("gcc/12", "", True, False),
        ("", "", False, False),
        ("gcc/12", "other", False, False),
    ],
)
def test_only_the_known_fault_is_explained(modules: str, environment: str, *, bundled: bool, known: bool) -> None:
    run = planned({"modules": modules})
    activation = f"conda activate {environment}\n" if environment else ""
    slurm = replaced(EXTERNAL_SLURM, "conda activate tuning\n", activation, "anaconda3/2025.6", "gcc/12")
    (one,) = [f for f in validate_run(run, files_of(run, slurm=slurm), bundled=bundled) if f.field == "conda_env"]
    assert ("setup_finetune.py" in one.message) is known
    nobodys = run.model_copy(update={"generation": ""})
    (one,) = [f for f in validate_run(nobodys, files_of(run, slurm=slurm), bundled=bundled) if f.field == "conda_env"]
    assert "setup_finetune.py" not in one.message


LAUNCHERS = [
    "srun --ntasks=1 --unbuffered tune",
    "srun -n 1 --mpi pmix tune",
    "srun --cpu-bind=cores --export ALL env A=1 tune",
    "conda run -n tuning --no-capture-output tune",
    "/opt/conda/bin/conda run --name=tuning tune",
    "/opt/envs/tuning/bin/tune",
    "~/envs/tuning/bin/tune",
    "$CONDA_PREFIX/bin/tune",
    "/usr/bin/time -v tune",
    "nice -n 10 tune",
    "ionice -n 7 tune",
    "srun -n 1 nice -n 10 tune",
    "nice tune",
    "stdbuf -oL -eL tune",
    "uv run tune",
    "uv run --frozen tune",
    "pixi run tune",
    "pixi run -e gpu tune",
    "python -m torchtune._cli.tune",
    "srun -N1 /opt/envs/tuning/bin/python3.11 -u -m torchtune._cli.tune",
    "numactl --cpunodebind=0 tune",
    "python /opt/envs/tuning/bin/tune",
    "srun -n 1 python3 -u /opt/envs/tuning/bin/tune",
    "mpirun -np 1 tune",
]


@pytest.mark.parametrize("start", LAUNCHERS)
def test_the_training_behind_a_launcher_is_read(start: str) -> None:
    slurm = replaced(GOOD_SLURM, "tune run", f"{start} run")
    assert found({}, slurm, bundled=False) == []
    assert ("unplanned-value", "error", "tune run") in found({}, slurm, bundled=True) or "torchtune." in start
    changed = found({}, replaced(slurm, "finetune.yaml", "finetune.yaml epochs=1"), bundled=False)
    assert changed == [("unplanned-value", "error", "epochs")]


@pytest.mark.parametrize(
    ("start", "severity"),
    [
        ("timeout 50m tune", "warning"),
        ("timeout -k 10 --signal=INT 50m tune", "warning"),
        ("srun -n 4 tune", "warning"),
        ("srun -n4 tune", "warning"),
        ("srun --ntasks=2 tune", "warning"),
        ("mpirun -np 2 tune", "warning"),
        ("mpiexec -n 2 tune", "warning"),
        ("srun -n 4 nice tune", "warning"),
        ("nice -n 10 srun -n 4 tune", "warning"),
        ("apptainer exec --nv img.sif tune", "info"),
        ("srun singularity exec --nv -B /a:/b img.sif tune", "info"),
        ("docker run --gpus all image tune", "info"),
    ],
)
def test_a_launcher_that_changes_the_training_is_reported(start: str, severity: str) -> None:
    slurm = replaced(GOOD_SLURM, "tune run", f"{start} run")
    assert found({}, slurm, bundled=False) == [("unplanned-value", severity, "tune run")]


@pytest.mark.parametrize(
    "start",
    [
        *("echo tune", "srun echo tune", "timeout 5 echo tune", "which tune", "srun --label=x echo tune", "untune"),
        *("python torchtune._cli.tune", "echo -m torchtune._cli.tune", "-m torchtune._cli.tune", "bash tune"),
        *("python tune", "python -u tune", "echo python bin/tune"),
    ],
)
def test_a_command_with_the_words_of_the_training_does_not_train(start: str) -> None:
    slurm = replaced(GOOD_SLURM, "tune run", f"{start} run")
    assert ("missing-value", "error", "tune run") in found({}, slurm, bundled=False)


@pytest.mark.parametrize(
    "start",
    [
        *("bash -c", "srun bash -lc", "srun --ntasks=1 /bin/bash -l -c", "apptainer exec img.sif sh -c"),
        *(
            "srun bash -euo pipefail -c",
            "bash --login -c",
            "bash -o pipefail -c",
            "bash +e -c",
            "bash -cl",
            "bash -c -e",
        ),
        "bash -O extglob -c",
    ],
)
def test_the_commands_of_a_shell_are_read(start: str) -> None:
    notes = [("unplanned-value", "info", "tune run")] if "apptainer" in start else []
    for quote in "'\"":
        inner = f"{start} {quote}set -e; tune run"
        slurm = replaced(GOOD_SLURM, "tune run", inner, "finetune.yaml", f"finetune.yaml{quote}")
        assert found({}, slurm, bundled=False) == notes
        assert ("missing-value", "error", "tune run") in found({}, slurm, bundled=True)
    slurm = replaced(GOOD_SLURM, "tune run", f"{start} 'cd ..; tune run", "finetune.yaml", "finetune.yaml lr=1' a")
    assert {each[2] for each in found({}, slurm, bundled=False)} >= {"cd", "lr"}
    slurm = replaced(GOOD_SLURM, "tune run", f"HF_HUB_OFFLINE=1 {start} 'tune run", "finetune.yaml", "finetune.yaml'")
    assert ("unplanned-value", "info", "offline") in found({}, slurm, bundled=False)


def test_a_shell_without_c_starts_a_file() -> None:
    for start in ("bash", "bash -l", "bash --norc", "bash -o c"):
        slurm = replaced(GOOD_SLURM, "tune run", f"{start} 'tune run", "finetune.yaml", "finetune.yaml'")
        assert ("missing-value", "error", "tune run") in found({}, slurm, bundled=False)
    assert found({}, replaced(GOOD_SLURM, "tune run", "bash -o\ntune run"), bundled=False) == []


@pytest.mark.parametrize(
    ("start", "without", "expected"),
    [
        ("conda run -n tuning tune", True, []),
        ("conda run -n other tune", False, [("value-mismatch", "error", "conda_env")]),
        ("srun -n 1 conda run -n tuning srun -n 1 tune", True, []),
        ("micromamba run -p /opt/other tune", False, [("value-mismatch", "error", "conda_env")]),
        ("/opt/envs/tuning/bin/tune", True, []),
        ("/opt/envs/other/bin/tune", False, [("unplanned-value", "warning", "conda_env")]),
        ("srun tune", True, [("missing-value", "error", "conda_env")]),
    ],
)
def test_a_launcher_may_activate_the_environment(start: str, expected: Found, *, without: bool) -> None:
    slurm = replaced(GOOD_SLURM, "conda activate tuning\n", "" if without else "conda activate tuning\n")
    assert found({}, replaced(slurm, "tune run", f"{start} run"), bundled=False) == expected


def test_a_virtual_environment_may_be_the_directory_of_the_program() -> None:
    for start, expected in (("/home/me/mine/bin/tune", []), ("/home/me/other/bin/tune", ["venv", "venv"])):
        slurm = replaced(GOOD_SLURM, "conda activate tuning\n", "", "tune run", f"{start} run")
        assert [each[2] for each in found({"venv": "mine"}, slurm, bundled=False)] == expected


@pytest.mark.parametrize(
    "folder",
    [
        *("$PWD", "${PWD}", "$SLURM_SUBMIT_DIR", "${SLURM_SUBMIT_DIR}", "${SLURM_SUBMIT_DIR:-.}", "$(pwd)"),
        *("${SLURM_SUBMIT_DIR:-$PWD}", "${SLURM_SUBMIT_DIR:-${PWD}}", "."),
    ],
)
def test_the_directory_of_the_run_is_known(folder: str) -> None:
    for bundled in (True, False):
        slurm = replaced(GOOD_SLURM, "--config ", f'--config "{folder}"/')
        assert found({}, slurm, bundled=bundled) == []
        assert found({}, replaced(GOOD_SLURM, "tune run", f'cd "{folder}"\ntune run'), bundled=bundled) == []


@pytest.mark.parametrize(
    "config", ["$HOME/finetune.yaml", "${PWD}x/finetune.yaml", "$PWD/../finetune.yaml", "/finetune.yaml"]
)
def test_another_directory_of_the_config_is_reported(config: str) -> None:
    slurm = replaced(GOOD_SLURM, "finetune.yaml", config)
    assert found({}, slurm, bundled=True) == [("value-mismatch", "error", "config")]


def test_a_here_string_is_not_a_here_document() -> None:
    for line in ("cat <<< ready", "cat <<<ready", 'read -r a <<<"$b"'):
        assert found({}, replaced(GOOD_SLURM, "tune run", f"{line}\ntune run"), bundled=False) == []


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize(
    ("line", "argument"),
    [
        ("EXTRA=$1", "$EXTRA"),
        ("A=", "$EXTRA"),
        ("EXTRA=; EXTRA=lr=1", "${EXTRA}"),
        ("EXTRA=; EXTRA+=lr=1", "$EXTRA"),
        ("EXTRA=; read EXTRA", "$EXTRA"),
        ("EXTRA=; for EXTRA in lr=1 b; do", "$EXTRA"),
        ("EXTRA=lr=1 true", "$EXTRA"),
        ("args=(); args[0]=lr=1", "${args[@]}"),
        ("args=($1)", "${args[@]}"),
        ("args=(); args+=(lr=1)", "${args[*]}"),
        *(
            (f"EXTRA=\n{block}", "$EXTRA")
            for block in (
                "if a; then EXTRA=lr=1; fi",
                "if a; then b; else EXTRA=lr=1; fi",
                "if a; then b; elif EXTRA=lr=1; then c; fi",
                "for a in b; do EXTRA=lr=1; done",
                "while :; do EXTRA=lr=1; break; done",
                "until EXTRA=lr=1; do a; done",
                "while EXTRA=lr=1; do a; done",
                "if ! EXTRA=lr=1; then a; fi",
                "{ EXTRA=lr=1; }",
                "{ export EXTRA=lr=1; }",
                "time EXTRA=lr=1",
                "f() { EXTRA=lr=1; }\nf",
                "function f { EXTRA=lr=1; }\nf",
                "if a; then { EXTRA=lr=1; }; fi",
            )
        ),
        ("args=()\nif a; then args+=(lr=1); fi", "${args[@]}"),
        ("args=()\n{ args+=(lr=1); }", "${args[@]}"),
        ("true", "$@"),
        ("true", "${EXTRA:-}"),
        ("true", "$(cat overrides)"),
        ("true", "`cat overrides`"),
    ],
)
def test_arguments_that_the_shell_replaces_are_reported(line: str, argument: str, quote: str) -> None:
    for bundled in (False, True):
        slurm = replaced(
            GOOD_SLURM, "tune run", f"{line}\ntune run", "finetune.yaml", f"finetune.yaml {quote}{argument}{quote}"
        )
        errors = [each for each in found({}, slurm, bundled=bundled) if each[1] == "error"]
        assert ("unplanned-value", "error", "tune run") in errors
        assert bundled or len(errors) == 1


@pytest.mark.parametrize(
    ("line", "argument", "field"),
    [
        ("EXTRA=lr=1", "$EXTRA", "lr"),
        ("export EXTRA='lr=1 seed=2'", "$EXTRA", "lr"),
        ("declare -a args=(\n  lr=1\n  b\n)", '"${args[@]}"', "lr"),
        ("EXTRA=", "lr=$EXTRA", "lr"),
        ("true", "lr=$EXTRA", "lr"),
        ("true", "'$EXTRA=1'", "$EXTRA"),
    ],
)
def test_arguments_that_the_script_sets_are_read(line: str, argument: str, field: str) -> None:
    slurm = replaced(GOOD_SLURM, "tune run", f"{line}\ntune run", "finetune.yaml", f"finetune.yaml {argument}")
    assert ("unplanned-value", "error", field) in found({}, slurm, bundled=False)


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("EXTRA=", "--config finetune.yaml $EXTRA"),
        ("EXTRA=\nif a; then EXTRA=; fi", "--config finetune.yaml $EXTRA"),
        ("if a; then EXTRA=; fi", "--config finetune.yaml $EXTRA"),
        ("EXTRA=\nif a; then echo EXTRA=lr=1; fi", "--config finetune.yaml $EXTRA"),
        ("EXTRA=''; EXTRA=", '--config finetune.yaml "${EXTRA}"'),
        ("args=()", '--config finetune.yaml "${args[@]}"'),
        ("CONFIG=finetune.yaml", '--config "$CONFIG"'),
        ("CONFIG=./finetune.yaml", "--config ${CONFIG}"),
        ("DIR=$PWD; readonly CONFIG=finetune.yaml", '--config "$PWD/$CONFIG"'),
        ("args=(--config finetune.yaml)", '"${args[@]}"'),
        ("true", "--config finetune.yaml > log-$SLURM_JOB_ID.txt 2>&1"),
        ("true", "--config finetune.yaml &> $LOG"),
        ("true", '--config finetune.yaml 2>"$LOG" < /dev/null'),
        ("true", "--config finetune.yaml 2>&1 | tee $LOG"),
        ("true", "--config finetune.yaml || exit $?"),
        ("true", "--config finetune.yaml > >(tee lr=$LOG)"),
    ],
)
def test_expansions_that_override_nothing_are_accepted(line: str, arguments: str) -> None:
    slurm = replaced(GOOD_SLURM, "tune run", f"{line}\ntune run", "\\\n    --config finetune.yaml", arguments)
    assert found({}, slurm, bundled=False) == []


def test_the_recipe_may_be_a_variable() -> None:
    for recipe, code in (("lora_finetune_single_device", []), ("full_finetune_single_device", ["wrong-recipe"])):
        slurm = replaced(GOOD_SLURM, "tune run lora_finetune_single_device", f"R={recipe}\ntune run $R")
        assert [each[0] for each in found({}, slurm, bundled=False)] == code


def test_the_values_of_variables_are_read_up_to_a_length() -> None:
    value = f"lr={'1' * 9990}"
    for argument in ("$A " * 12, "${args[@]} " * 12):
        slurm = replaced(
            GOOD_SLURM, "tune run", f"A={value}\nargs=({value})\ntune run", "finetune.yaml", f"finetune.yaml {argument}"
        )
        fields = [field for _, severity, field in found({}, slurm, bundled=False) if severity == "error"]
        assert sorted(map(str, fields)) == ["lr"] * 10 + ["tune run"] * 2


def after_activation(line: str, changes: dict[str, Scalar], activation: str) -> Found:
    slurm = replaced(GOOD_SLURM, "conda activate tuning\n", f"{line}\n{activation}\n")
    assert found(changes, slurm, bundled=False) == []
    slurm = replaced(GOOD_SLURM, "conda activate tuning\n", f"{activation}\n{line}\n")
    return found(changes, slurm, bundled=False)


@pytest.mark.parametrize(
    ("line", "is_left"),
    [
        ("conda deactivate", True),
        ("source deactivate", True),
        ("deactivate", True),
        ("source /shared/venv/bin/activate", True),
        (". ~/envs/old/bin/activate", True),
        ("export PATH=/home/ada/envs/old/bin:$PATH", True),
        ("PATH=/x/bin:$PATH", True),
        ("if a; then PATH=/x/bin:$PATH; fi", True),
        ("declare -x PATH=/x:$PATH", True),
        ("typeset PATH=/x:$PATH", True),
        ("readonly PATH=/x:$PATH", True),
        ("export PATH=/usr/local/cuda/bin", True),
        ("export PATH=/usr/local/cuda/bin:/x:$PATH", True),
        ("export PYTHONPATH=/x/my_torchtune", True),
        ("export PATH=$PATH:/x/bin", False),
        ("export PATH=${PATH}:/x/bin", False),
        ("export PATH=$CONDA_PREFIX/bin:$PATH", False),
        ("export PATH=${CONDA_PREFIX}/bin:$PATH", False),
        ("export PATH=$VIRTUAL_ENV/bin:${VIRTUAL_ENV}:$PATH", False),
        ("export PATH=/usr/local/CUDA-12.1/bin:$PATH", False),
        ("export PATH=/opt/envs/tuning/bin:$PATH", False),
        ("export PYTHONPATH=$PWD:$PYTHONPATH", False),
        ("export LD_LIBRARY_PATH=/x:$LD_LIBRARY_PATH", False),
        ("(conda deactivate)", False),
        ("PATH=/x:$PATH a", False),
        ("echo PATH=/x", False),
        ("source settings", False),
    ],
)
def test_an_environment_that_the_job_leaves_is_a_warning(line: str, *, is_left: bool) -> None:
    expected = [("unplanned-value", "warning", "conda_env")] if is_left else []
    assert after_activation(line, {}, "conda activate tuning") == expected


def test_a_virtual_environment_that_the_job_leaves_is_a_warning() -> None:
    for line in ("deactivate", "conda activate base", "export PATH=/x:$PATH"):
        reported = after_activation(line, {"venv": "mine"}, "source mine/bin/activate")
        assert reported == [("unplanned-value", "warning", "venv")]
    assert after_activation("export PATH=/x/mine/bin:$PATH", {"venv": "mine"}, "source mine/bin/activate") == []
    assert after_activation("deactivate", {"conda_env": ""}, "conda activate tuning") == []


def test_the_launcher_may_leave_the_environment() -> None:
    for launch, is_left in (("env PATH=/x ", True), ("env PATH=$PATH:/x ", False), ("A=1 ", False)):
        slurm = replaced(GOOD_SLURM, "tune run", f"{launch}tune run")
        assert found({}, slurm, bundled=False) == [("unplanned-value", "warning", "conda_env")] * is_left


@pytest.mark.parametrize(
    ("gpus", "line", "severity"),
    [
        (1, "export CUDA_VISIBLE_DEVICES=", "error"),
        (1, "CUDA_VISIBLE_DEVICES=", "error"),
        (1, "export CUDA_VISIBLE_DEVICES=-1", "error"),
        (1, "export CUDA_VISIBLE_DEVICES=NoDevFiles", "error"),
        (1, "export CUDA_VISIBLE_DEVICES=none", "error"),
        (1, "export CUDA_VISIBLE_DEVICES=void", "error"),
        (1, "if a; then export CUDA_VISIBLE_DEVICES=; fi", "warning"),
        (1, "export CUDA_VISIBLE_DEVICES=1", "warning"),
        (2, "export CUDA_VISIBLE_DEVICES=0", "error"),
        (2, "export CUDA_VISIBLE_DEVICES=0,-1", "error"),
        (2, "export CUDA_VISIBLE_DEVICES=0,2", "warning"),
        (2, "export CUDA_VISIBLE_DEVICES=GPU-1", "error"),
        (1, "export CUDA_VISIBLE_DEVICES=0", ""),
        (1, "export CUDA_VISIBLE_DEVICES=0,1", ""),
        (1, "export CUDA_VISIBLE_DEVICES=GPU-8932f937", ""),
        (2, "export CUDA_VISIBLE_DEVICES=1, 0", ""),
        (2, "export CUDA_VISIBLE_DEVICES=0,1", ""),
        (1, "export CUDA_VISIBLE_DEVICES=$SLURM_JOB_GPUS", ""),
        (1, "export CUDA_VISIBLE_DEVICES=`a`", ""),
        (1, "CUDA_VISIBLE_DEVICES= nvidia-smi", ""),
        (1, "(export CUDA_VISIBLE_DEVICES=)", ""),
        (1, "export CUDA_VISIBLE_DEVICES=\nexport CUDA_VISIBLE_DEVICES=0", ""),
        (1, "export CUDA_VISIBLE_DEVICES=\nunset CUDA_VISIBLE_DEVICES", ""),
        (None, "export CUDA_VISIBLE_DEVICES=", ""),
    ],
)
def test_fewer_visible_gpus_than_planned_are_reported(gpus: int | None, line: str, severity: str) -> None:
    start = "--nproc_per_node 2 lora_finetune_distributed" if gpus == 2 else "lora_finetune_single_device"
    slurm = replaced(GOOD_SLURM, "gpu:1", f"gpu:{gpus or 1}", "lora_finetune_single_device", start)
    expected = [("unplanned-value", severity, "CUDA_VISIBLE_DEVICES")] if severity else []
    assert found({"gpus": gpus}, replaced(slurm, "tune run", f"{line}\ntune run"), bundled=False) == expected
    if line.startswith("CUDA_VISIBLE_DEVICES="):
        within = replaced(slurm, "tune run", "CUDA_VISIBLE_DEVICES= tune run")
        assert found({"gpus": gpus}, within, bundled=False) == [("unplanned-value", "error", "CUDA_VISIBLE_DEVICES")]
