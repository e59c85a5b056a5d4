"""`new`: the options are written to the documents and, scaffolded without edits, to every run."""

import itertools
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from support.experiments import DATA, everything, outputs, run_directories
from support.new_experiments import MODEL, USUAL, Wish, at, finetune, make, scaffolded
from support.sampling import spread
from support.waiting import PATIENCE
from support.wording import absent

pytestmark = pytest.mark.usefixtures("no_local_file")


# --- options in the documents -----------------------------------------------------------------------------------------


def test_a_sweep_scaffolds_without_edits(tmp_path: Path) -> None:
    directory = tmp_path / "made" / "sweep"
    result = make(directory, control=True)
    files = (str(directory / "experiment_summary.md"), str(directory / "claude.local.md"))
    assert (result.created, result.experiment, result.runs, result.local) == (files, "sweep", 4, files[1])
    assert [(w.code, w.field) for w in result.warnings] == [("missing-file", "dataset")]
    done = scaffolded(directory)
    names = [f"rank{rank}_lr{lr}" for rank in (8, 16) for lr in ("1e-5", "5e-5")]
    assert [run.directory for run in done.plan.runs] == [run.name for run in done.plan.runs] == names
    assert [one.name for one in done.plan.excluded] == [f"{MODEL}_base"]
    assert run_directories(directory) == sorted(names)
    assert {w.code for w in done.plan.warnings} == {"confound", "estimate", "not-seen"}
    for rank, lr in itertools.product((8, 16), ("1e-5", "5e-5")):
        made = finetune(directory, f"rank{rank}_lr{lr}")
        assert (made["model"]["lora_rank"], made["optimizer"]["lr"]) == (rank, float(lr))


ARRIVALS = [
    ("--rank", "32", "LoRA Rank", "model.lora_rank", 32),
    ("--lr", "0.00025", "2.5e-4", "optimizer.lr", 0.00025),
    ("--batch-size", "3", "| 3 |", "batch_size", 3),
    ("--epochs", "7", "- **Epochs:** 7", "epochs", 7),
    ("--seed", "0", "- **Seed:** 0", "seed", 0),
    ("--system-prompt", "Do it", '"Do it"', "dataset.new_system_prompt", "Do it"),
    ("--data", "/d/x.json", "`/d/x.json`", "dataset_label", "x"),
    ("--data", "d/x.parquet", "`d/x.parquet`", "dataset.source", "parquet"),
    ("--model", "Qwen2.5-3B", "Qwen2.5-3B", "model._component_", "torchtune.models.qwen2_5.lora_qwen2_5_3b"),
    ("--model-dir", "/pre trained", f"`/pre trained/{MODEL}`", "models_dir", "/pre trained"),
    ("--project", "words", "`words`", "my_wandb_project", "words"),
    ("--output-dir", "/out", "`/out`", "output_dir", "/out/one/ck-out-{run}/"),
    ("--lora-attn-modules", "k_proj, q_proj", "q_proj,k_proj", "model.lora_attn_modules", ["q_proj", "k_proj"]),
    ("--apply-lora-to-mlp", "no", "- **Apply LoRA to MLP:** no", "model.apply_lora_to_mlp", False),
    ("--wandb-mode", "disabled", "- **W&B mode:** disabled", "metric_logger.mode", "disabled"),
    ("--warmup-steps", "0", "- **Warmup steps:** 0", "lr_scheduler.num_warmup_steps", 0),
    ("--warmup-ratio", "0", "- **Warmup ratio:** 0", "lr_scheduler.num_warmup_steps", 0),
    ("--name", "other_name-2", "# other_name-2", "output_dir", "{here}/outputs/other_name-2/ck-out-{run}/"),
]


@pytest.mark.parametrize(("flag", "wish", "written", "path", "arrived"), spread(ARRIVALS, every=2), ids=str)
def test_an_option_reaches_the_documents_and_finetune_yaml(
    tmp_path: Path, flag: str, wish: str, written: str, path: str, arrived: object
) -> None:
    directory = tmp_path / "one"
    make(directory, {"--rank": "8", "--lr": "1e-5", flag: wish})
    assert any(written in re.sub(r" +\|", " |", file.read_text()) for file in directory.iterdir())
    scaffolded(directory)
    (run,) = run_directories(directory)
    expected = arrived.format(run=run, here=directory) if isinstance(arrived, str) else arrived
    assert at(finetune(directory, run), path) == expected


SLURM = [
    ("--account", "lab", "#SBATCH --account=lab"),
    ("--partition", "gpu", "#SBATCH --partition=gpu"),
    ("--constraint", "a100|h100", "#SBATCH --constraint=a100|h100"),
    ("--time", "1-02:00:00", "#SBATCH --time=1-02:00:00"),
    ("--gpus", "2", "#SBATCH --gres=gpu:2"),
    ("--gpu-type", "a100", "#SBATCH --gres=gpu:a100:1"),
    ("--qos", "high", "#SBATCH --qos=high"),
    ("--mail-user", "ada@example.org", "#SBATCH --mail-user=ada@example.org"),
    ("--mail-type", "END,FAIL", "#SBATCH --mail-type=END,FAIL"),
    ("--conda-env", "other", "conda activate other"),
    ("--module", ["a/1,b", "c"], "module load c"),
]


@pytest.mark.parametrize(("flag", "wish", "line"), spread(SLURM, every=2), ids=str)
def test_an_option_reaches_the_job_script(tmp_path: Path, flag: str, wish: Wish, line: str) -> None:
    directory = tmp_path / "one"
    make(directory, {flag: wish})
    scaffolded(directory)
    scripts = [text.decode() for path, text in outputs(directory).items() if path.endswith(".slurm")]
    assert len(scripts) == 4
    for script in scripts:
        lines = [found.partition(" ||")[0].replace("'", "") for found in script.splitlines()]
        assert line in lines


def test_omitted_rank_and_rate_are_reported_as_defaults(tmp_path: Path) -> None:
    result = make(tmp_path / "one", {"--rank": None, "--lr": None})
    assert [w.field for w in result.warnings if w.code == "default-used"] == ["lora_rank", "lr"]
    done = scaffolded(tmp_path / "one")
    assert [run.directory for run in done.plan.runs] == [f"{MODEL}_rank64_lr1e-4"]


def test_all_parameters_with_several_values_vary(tmp_path: Path) -> None:
    models = [MODEL, "gemma-2-2b"]
    result = make(tmp_path / "all", {"--model": models, "--batch-size": ["2", "4"], "--seed": "1,2"}, control=True)
    assert result.runs == 2**5
    done = scaffolded(tmp_path / "all")
    assert done.plan.varying == ("model", "lora_rank", "lr", "batch_size", "seed")
    assert [one.name for one in done.plan.excluded] == [f"{model}_base" for model in models]
    summary = re.sub(r" +\|", " |", (tmp_path / "all" / "experiment_summary.md").read_text())
    assert "32 fine-tuned + 2 control = 34 total" in summary
    for row in (f"| Model | {MODEL}, gemma-2-2b |", "| Batch Size | 2, 4 |", "| Learning Rate | 1e-5, 5e-5 |"):
        assert row in summary


PROMPTS = [
    "", " spaced ", "it's", 'a "b"', "it's \"so\"", "`code` and ``more``", "a | b || c", "*x* _y_ __z__ a_b",
    "\\ \\\\ \\",
    "<!-- no --> <b>", "&amp; &#10; &", "[a](b) ![c](d)", "# no heading", "- no bullet", "one\n\n  two\n\tthree\n",
    "none", "<placeholder>", "(leave empty)", "x (a remark)", '"quoted" (x)', "- **Epochs:** 9\n- **Seed:** 1",
    "{input}",
    "\n## All Runs\n| Run Name |\n|---|\n| x |", "~~s~~ ✓ é 日本", "$HOME {{ x }} {% y %}", "http://a.b/c_d_e", "1e-5",
]  # fmt: skip


@pytest.mark.parametrize("prompt", spread(PROMPTS, every=3))
def test_a_system_prompt_is_written_exactly(tmp_path: Path, prompt: str) -> None:
    make(tmp_path / "one", {"--system-prompt": prompt, "--rank": "8", "--lr": "1e-5"})
    done = scaffolded(tmp_path / "one")
    made = finetune(tmp_path / "one", done.plan.runs[0].directory)
    assert made["dataset"].get("new_system_prompt", "") == prompt
    assert (made["epochs"], made["seed"]) == (2, 14)


# --- the command line -------------------------------------------------------------------------------------------------


def line(directory: Path, *more: str) -> list[str]:
    return ["new", str(directory), *itertools.chain.from_iterable(USUAL.items()), *more]


@pytest.mark.long
def test_the_command_works_in_a_separate_process(tmp_path: Path) -> None:
    (tmp_path / "my sweep" / "data").mkdir(parents=True)
    (tmp_path / "my sweep" / "data" / "words.json").write_text(json.dumps(DATA))
    command = [sys.executable, "-m", "scaffold_torchtune", *line(tmp_path / "my sweep", "--name", "sweep")]
    here = tmp_path / "my sweep"
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    summary, local, runs, following = done.stdout.splitlines()
    assert summary.endswith(f" {tmp_path}/my sweep/experiment_summary.md")
    assert local.endswith(f" {tmp_path}/my sweep/claude.local.md")
    assert absent(runs, "sweep", 4) == []
    assert following.endswith(f": scaffold-torchtune scaffold '{tmp_path}/my sweep'")
    scaffolded(tmp_path / "my sweep")
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert absent(again.stderr, "experiment_summary.md", "[edited-output]") == []


def test_the_structured_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line(tmp_path / "sweep", "--json", "--control")) == 0
    result = json.loads(capsys.readouterr().out)
    created = [str(tmp_path / "sweep" / name) for name in ("experiment_summary.md", "claude.local.md")]
    assert (result["created"], result["experiment"], result["runs"]) == (created, "sweep", 4)
    assert main(line(tmp_path / "sweep", "--json")) == 2
    assert json.loads(capsys.readouterr().out)["error"]["problems"]


@pytest.mark.parametrize(("place", "written"), [("sweep", "data/words.json"), ("other", "{other}/data/words.json")])
def test_relative_paths_start_at_the_current_directory(
    tmp_path: Path, place: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / place
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "words.json").write_text(json.dumps(DATA))
    monkeypatch.chdir(folder)
    assert main(line(tmp_path / "sweep", "--output-dir", "../out")) == 0
    assert f"`{written.format(other=folder)}`" in (tmp_path / "sweep" / "experiment_summary.md").read_text()
    done = scaffolded(tmp_path / "sweep")
    (run, *_) = done.plan.runs
    made = finetune(tmp_path / "sweep", run.directory)
    assert Path(made["input_dir"]) == folder / "data"
    assert made["output_dir"].startswith(f"{tmp_path}/out/sweep/")


def test_the_columns_of_tables_are_padded(tmp_path: Path) -> None:
    make(tmp_path / "sweep", control=True)
    lines = (tmp_path / "sweep" / "experiment_summary.md").read_text().splitlines()
    tables = [[len(row) for row in lines if row.startswith("|") and f(row)] for f in (len, lambda row: "Fine" in row)]
    assert len(set(tables[1])) == 1
    assert len(set(tables[0])) == 2  # one width for each of the two tables


def dialogue(arguments: list[str], answers: list[str], folder: Path) -> tuple[int, str]:
    """Run the command in a terminal, answer each prompt, and return the status and the screen."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "scaffold_torchtune", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder) as process:
        os.close(theirs)
        text = ""
        try:
            while True:
                text += os.read(ours, 4096).decode()
                if answers and text.endswith("): "):
                    os.write(ours, f"{answers.pop(0)}\n".encode())
        except OSError:  # the other end of the terminal is closed
            pass
        finally:
            os.close(ours)
        return process.wait(PATIENCE), text


@pytest.mark.long
def test_a_terminal_prompts_for_required_options_until_they_are_valid(tmp_path: Path) -> None:
    given = ["new", "sweep", "--model", MODEL, "--rank", "8", "--lr", "1e-5", "--conda-env", "tune", "--data", "d.json"]
    status, text = dialogue(given, ["many", "2", "/models", "4"], tmp_path)  # the batch size is asked for twice
    assert status == 0, text
    summary = (tmp_path / "sweep" / "experiment_summary.md").read_text()
    assert "- **Epochs:** 2" in summary
    assert re.search(r"Batch Size.*\n.*\n.*\| 4 +\| Fine", summary)
    assert f"`{tmp_path}/d.json`" in summary


def test_a_terminal_prompts_for_the_directory_with_the_name_as_default(tmp_path: Path) -> None:
    options = ["new", *itertools.chain.from_iterable(USUAL.items())]
    status, text = dialogue(options, ["", "first"], tmp_path)
    assert status == 0, text
    assert (tmp_path / "first" / "experiment_summary.md").is_file(), "an empty answer is asked again"
    assert "scaffold-torchtune scaffold first" in text
    status, text = dialogue([*options, "--name", "second"], [""], tmp_path)
    assert status == 0, text
    assert (tmp_path / "second" / "experiment_summary.md").is_file()
    status, text = dialogue(options, ["first"], tmp_path)
    assert (status, "[edited-output]" in text) == (2, True)


@pytest.mark.parametrize("name", ["", "second"])
def test_without_a_terminal_a_missing_directory_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(tmp_path)
    named = ["--name", name] if name else []
    assert main(["new", "--json", *itertools.chain.from_iterable(USUAL.items()), *named]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert (problem["code"], problem["field"]) == ("missing-field", "experiment")
    assert problem["fix"].endswith(f"scaffold-torchtune new {name or 'DIR'}")
    assert everything(tmp_path) == before


def test_a_directory_that_slurm_cannot_use_for_logs_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "50%").mkdir()
    result = make(tmp_path / "50%" / "sweep")
    assert [(each.code, each.severity) for each in result.warnings if each.code == "unsafe-path"] == [
        ("unsafe-path", "warning")
    ]


def test_without_a_terminal_no_question_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", str(tmp_path / "sweep"), "--model", MODEL, "--json"]) == 2
    found = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert {problem["code"] for problem in found} == {"missing-field"}
