"""`new`: what is asked for arrives in the documents and, scaffolded without edits, in every run."""

import errno
import itertools
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from example import EXAMPLE_LOCAL
from experiments import change, everything, outputs, run_directories
from scaffold_torchtune import new, pipeline
from scaffold_torchtune.cli import main
from scaffold_torchtune.errors import Finding, Refused
from scaffold_torchtune.models.results import ScaffoldResult
from scaffold_torchtune.new import OPTIONS, NewResult, create
from scaffold_torchtune.parse import clean
from scaffold_torchtune.pipeline import Request
from scaffold_torchtune.setup_finetune.registry import known_models

MODEL = "Llama-3.2-1B-Instruct"
PARAMETER = {option.flag: option.parameter for option in OPTIONS}
USUAL = {
    "--model": MODEL,
    "--rank": "8,16",
    "--lr": "1e-5,5e-5",
    "--batch-size": "4",
    "--epochs": "2",
    "--data": "data/words.json",
    "--model-dir": "/models",
    "--conda-env": "tune",
}

Wish = str | Sequence[str] | None


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory has no claude.local.md."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def wishes(changes: Mapping[str, Wish]) -> dict[str, list[str]]:
    """The usual options with some changed, or left out where they are None, as the command line hands them on."""
    given = {flag: wish for flag, wish in {**USUAL, **changes}.items() if wish is not None}
    return {PARAMETER[flag]: [wish] if isinstance(wish, str) else list(wish) for flag, wish in given.items()}


def make(directory: Path, changes: Mapping[str, Wish] | None = None, *, control: bool = False) -> NewResult:
    return create(Request(experiment=directory), wishes(changes or {}), control=control)


def scaffolded(directory: Path) -> ScaffoldResult:
    result = pipeline.scaffold(Request(experiment=directory))
    assert result.ok
    return result


def refused(directory: Path, changes: Mapping[str, Wish], **more: Any) -> list[tuple[str, str | None]]:
    """Code and field of every problem; nothing was written."""
    return [(p.code, p.field) for p in problems(directory, changes, **more)]


def problems(directory: Path, changes: Mapping[str, Wish], **more: Any) -> tuple[Finding, ...]:
    before = everything(directory.parent)
    with pytest.raises(Refused) as caught:
        create(Request(experiment=directory, **more), wishes(changes))
    assert everything(directory.parent) == before
    assert all(problem.message and problem.fix for problem in caught.value.problems)
    return caught.value.problems


def finetune(directory: Path, run: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((directory / run / "finetune.yaml").read_text())
    return loaded


def at(data: Any, path: str) -> Any:
    for key in path.split("."):
        data = data[key]
    return data


# --- what is asked for arrives ----------------------------------------------------------------------------------------


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
    assert not done.plan.warnings
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
    ("--name", "other_name-2", "# other_name-2", "output_dir", "{here}/outputs/other_name-2/ck-out-{run}/"),
]


@pytest.mark.parametrize(("flag", "wish", "written", "path", "arrived"), ARRIVALS, ids=str)
def test_an_option_arrives_in_the_documents_and_in_finetune_yaml(
    tmp_path: Path, flag: str, wish: str, written: str, path: str, arrived: object
) -> None:
    directory = tmp_path / "one"
    make(directory, {"--rank": "8", "--lr": "1e-5", flag: wish})
    assert any(written in file.read_text() for file in directory.iterdir())
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
    ("--conda-env", "other", "conda activate other"),
    ("--module", ["a/1,b", "c"], "module load c"),
]


@pytest.mark.parametrize(("flag", "wish", "line"), SLURM, ids=str)
def test_an_option_arrives_in_the_job_script(tmp_path: Path, flag: str, wish: Wish, line: str) -> None:
    directory = tmp_path / "one"
    make(directory, {flag: wish})
    scaffolded(directory)
    scripts = [text.decode() for path, text in outputs(directory).items() if path.endswith(".slurm")]
    assert len(scripts) == 4
    for script in scripts:
        lines = [found.partition(" ||")[0].replace("'", "") for found in script.splitlines()]
        assert line in lines


def test_nothing_given_of_rank_and_rate_is_a_visible_default(tmp_path: Path) -> None:
    result = make(tmp_path / "one", {"--rank": None, "--lr": None})
    assert [w.field for w in result.warnings if w.code == "default-used"] == ["lora_rank", "lr"]
    done = scaffolded(tmp_path / "one")
    assert [run.directory for run in done.plan.runs] == [f"{MODEL}_rank64_lr1e-4"]


def test_everything_that_may_vary_varies(tmp_path: Path) -> None:
    models = [MODEL, "gemma-2-2b"]
    result = make(tmp_path / "all", {"--model": models, "--batch-size": ["2", "4"], "--seed": "1,2"}, control=True)
    assert result.runs == 2**5
    done = scaffolded(tmp_path / "all")
    assert done.plan.varying == ("model", "lora_rank", "lr", "batch_size", "seed")
    assert [one.name for one in done.plan.excluded] == [f"{model}_base" for model in models]
    summary = (tmp_path / "all" / "experiment_summary.md").read_text()
    assert "32 fine-tuned + 2 control = 34 total" in summary
    for row in (f"| Model | {MODEL}, gemma-2-2b |", "| Batch Size | 2, 4 |", "| Learning Rate | 1e-5, 5e-5 |"):
        assert row in summary


PROMPTS = [
    "", " spaced ", "it's", 'a "b"', "it's \"so\"", "`code` and ``more``", "a | b || c", "*x* _y_ __z__ a_b",
    "\\ \\\\ \\n",
    "<!-- no --> <b>", "&amp; &#10; &", "[a](b) ![c](d)", "# no heading", "- no bullet", "one\n\n  two\n\tthree\n",
    "none", "<placeholder>", "(leave empty)", "x (a remark)", '"quoted" (x)', "- **Epochs:** 9\n- **Seed:** 1",
    "{input}",
    "\n## All Runs\n| Run Name |\n|---|\n| x |", "~~s~~ ✓ é 日本", "$HOME {{ x }} {% y %}", "http://a.b/c_d_e", "1e-5",
]  # fmt: skip


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_system_prompt_arrives_exactly(tmp_path: Path, prompt: str) -> None:
    make(tmp_path / "one", {"--system-prompt": prompt, "--rank": "8", "--lr": "1e-5"})
    done = scaffolded(tmp_path / "one")
    made = finetune(tmp_path / "one", done.plan.runs[0].directory)
    assert made["dataset"].get("new_system_prompt", "") == prompt
    assert (made["epochs"], made["seed"]) == (2, 14)


def is_said(name: str) -> bool:
    return not clean.is_unset(name)


NAMES: st.SearchStrategy[str] = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,12}", fullmatch=True).filter(is_said)
FOLDERS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
COUNTS = st.integers(1, 10**9)
RATES = st.builds(lambda digits, places: float(f"{digits}e-{places}"), st.integers(1, 999_999), st.integers(5, 17))
RATES |= st.sampled_from([1e-5, 2.5e-4, 10.0, 5e-324])
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs", "Cf"), include_characters=" \n\t")
).filter(lambda text: "${" not in text and text != "???" and not all(quote in text for quote in "\"'“"))


def several(values: st.SearchStrategy[Any], most: int = 2) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=1, max_size=most, unique=True)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_options_scaffold_to_exactly_these_values(data: st.DataObject) -> None:
    wanted: dict[str, list[Any]] = {
        "--model": data.draw(several(st.sampled_from([m for m in known_models() if "Mistral" not in m]))),
        "--rank": data.draw(several(COUNTS.map(lambda n: min(n, 10**6)))),
        "--lr": data.draw(several(RATES)),
        "--batch-size": data.draw(several(COUNTS)),
        "--epochs": [data.draw(COUNTS)],
        "--seed": data.draw(several(st.integers(0, 10**9))),
        "--data": [data.draw(FOLDERS) + data.draw(st.sampled_from([".json", ".parquet"]))],
        "--model-dir": [data.draw(st.sampled_from(["", "/"])) + data.draw(FOLDERS)],
        "--conda-env": [data.draw(NAMES)],
    }
    optional: dict[str, st.SearchStrategy[Any]] = {
        "--name": NAMES,
        "--system-prompt": TEXTS,
        "--project": NAMES,
        "--output-dir": FOLDERS,
        "--account": NAMES,
        "--partition": NAMES,
        "--time": st.integers(1, 59).map(lambda minutes: f"1:{minutes:02d}:00"),
        "--gpus": st.integers(1, 8),
        "--module": NAMES,
    }
    for flag, values in optional.items():
        if data.draw(st.booleans()):
            wanted[flag] = [data.draw(values)]
    texts = {flag: [repr(v) if isinstance(v, float) else str(v) for v in values] for flag, values in wanted.items()}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder).resolve() / "sweep"
        create(Request(experiment=directory), {PARAMETER[flag]: values for flag, values in texts.items()})
        plan = pipeline.plan(Request(experiment=directory))
        done = scaffolded(directory)
        common = {setting.name: setting.value for setting in plan.common}
        _check_plan(done, wanted, common, directory)


def _check_plan(
    done: ScaffoldResult, wanted: Mapping[str, list[Any]], common: Mapping[str, Any], directory: Path
) -> None:
    keys = {"model": "--model", "lora_rank": "--rank", "lr": "--lr", "batch_size": "--batch-size", "seed": "--seed"}
    product = [
        dict(zip(keys, row, strict=True)) for row in itertools.product(*(wanted[flag] for flag in keys.values()))
    ]
    assert len(done.plan.runs) == len(product)
    for run, row in zip(done.plan.runs, product, strict=True):
        assert {key: run.parameters.get(key, common.get(key)) for key in keys} == row
        assert run.parameters["epochs"] == wanted["--epochs"][0]
    simple = ("--conda-env", "--project", "--account", "--partition", "--time", "--gpus", "--module", "--system-prompt")
    for flag in simple:
        if flag in wanted:
            assert common[PARAMETER[flag]] == wanted[flag][0]
    assert done.parse.experiment == wanted.get("--name", ["sweep"])[0]
    assert common["input_dir_base"] == f"{(directory / wanted['--data'][0]).parent}/"
    assert common["models_dir"] == str(directory / wanted["--model-dir"][0])
    assert common["output_dir_base"] == str(directory / wanted.get("--output-dir", ["outputs"])[0])
    assert {"account", "partition", "constraint", "modules"} & common.keys() == {
        PARAMETER[flag] for flag in ("--account", "--partition", "--module") if flag in wanted
    }


# --- the claude.local.md that is there --------------------------------------------------------------------------------


def test_a_claude_local_md_that_is_found_is_used(tmp_path: Path) -> None:
    (tmp_path / "claude.local.md").write_text(EXAMPLE_LOCAL)
    nothing = {"--conda-env": None, "--model-dir": None}
    result = make(tmp_path / "one", nothing)
    assert [Path(path).name for path in result.created] == ["experiment_summary.md"]
    assert result.local == str(tmp_path / "claude.local.md")
    done = scaffolded(tmp_path / "one")
    values = {setting.name: setting.value for setting in done.plan.common}
    assert values["models_dir"] == "/scratch/gpfs/LAB/pretrained-llms"
    assert (values["conda_env"], values["my_wandb_project"]) == ("cruijff", "capitalization")
    assert (values["time"], values["output_dir_base"]) == ("0:59:00", "/scratch/gpfs/LAB/ada/ck-outputs")


def test_what_an_experiment_may_say_for_itself_goes_beside_a_found_claude_local_md(tmp_path: Path) -> None:
    (tmp_path / "claude.local.md").write_text(EXAMPLE_LOCAL)
    change(tmp_path / "claude.local.md", "- **Output base directory**: `/scratch/gpfs/LAB/ada/ck-outputs/`", "")
    make(tmp_path / "one", {"--conda-env": "cruijff", "--time": "2:00:00", "--gpus": "1", "--output-dir": "out/"})
    values = {setting.name: setting.value for setting in scaffolded(tmp_path / "one").plan.common}
    assert (values["time"], values["models_dir"]) == ("2:00:00", "/models")
    assert values["output_dir_base"] == str(tmp_path / "one" / "out")


def test_what_a_found_claude_local_md_says_otherwise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "claude.local.md").write_text(EXAMPLE_LOCAL)
    wanted = {"--conda-env": "tune", "--partition": "gpu", "--output-dir": "out", "--account": "lab"}
    found = problems(tmp_path / "one", wanted)
    assert [(p.code, p.field) for p in found] == [
        ("ambiguous", "conda_env"),
        ("ambiguous", "output_dir_base"),
        ("ambiguous", "partition"),
    ]
    assert "'cruijff' (line" in found[0].message
    assert "does not give it" in found[2].message


def test_what_is_wrong_with_a_found_claude_local_md_is_told_at_its_line(tmp_path: Path) -> None:
    local = tmp_path / "claude.local.md"
    local.write_text("- conda_env: a/b\n- my_wandb_project: <name>\n")
    found = problems(tmp_path / "one", {"--conda-env": "tune"})
    assert [(p.code, p.field, p.place()) for p in found] == [
        ("missing-field", "my_wandb_project", "claude.local.md"),
        ("invalid-value", "conda_env", "claude.local.md:1"),
    ]
    local.write_bytes(b"\xff")
    assert refused(tmp_path / "one", {"--conda-env": None, "--epochs": "x"}) == [
        ("invalid-value", "epochs"),
        ("document-unreadable", None),
    ]
    local.write_text("- conda_env: a\n- conda_env: b\n")
    assert ("ambiguous", "conda_env") in refused(tmp_path / "one", {"--conda-env": None})


def test_another_claude_local_md_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.md").write_text(EXAMPLE_LOCAL)
    line = ["new", str(tmp_path / "one"), "--local", str(tmp_path / "mine.md"), "--model", MODEL, "--data", "x.json"]
    assert main([*line, "--batch-size", "4", "--epochs", "1"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert f"uses {tmp_path / 'mine.md'}" in out
    assert main(out[-1].removeprefix("next: scaffold-torchtune ").split()) == 0


# --- refusals ---------------------------------------------------------------------------------------------------------


REFUSALS: list[tuple[Mapping[str, Wish], list[tuple[str, str | None]]]] = [
    ({"--model": "Llama-3.2-1B-Instrct"}, [("unknown-model", "model")]),
    ({"--model": None}, [("missing-field", "model")]),
    ({"--model": [MODEL, MODEL]}, [("ambiguous", "model")]),
    ({"--model": [MODEL, MODEL.lower()], "--rank": "8", "--lr": "1e-5"}, [("name-collision", "run name")]),
    ({"--rank": "8,8"}, [("ambiguous", "lora_rank")]),
    ({"--rank": "0"}, [("invalid-value", "lora_rank")]),
    ({"--rank": "8,"}, [("invalid-value", "lora_rank")]),
    ({"--lr": "1e-5,0.00001"}, [("ambiguous", "lr")]),
    ({"--lr": "fast"}, [("invalid-value", "lr")]),
    ({"--batch-size": "four"}, [("invalid-value", "batch_size")]),
    ({"--batch-size": None}, [("missing-field", "batch_size")]),
    ({"--epochs": "1,2"}, [("invalid-value", "epochs")]),
    ({"--epochs": ["1", "2"]}, [("ambiguous", "epochs")]),
    ({"--epochs": None}, [("missing-field", "epochs")]),
    ({"--seed": "-1"}, [("invalid-value", "seed")]),
    ({"--data": None}, [("missing-field", "dataset")]),
    ({"--data": "words.csv"}, [("unsupported-format", "dataset")]),
    ({"--data": "my words.json"}, [("invalid-value", "dataset")]),
    ({"--data": "../words.json"}, [("invalid-value", "dataset")]),
    ({"--data": "x.json (small)"}, [("invalid-value", "dataset")]),
    ({"--data": "'x.json'"}, [("invalid-value", "dataset")]),
    ({"--data": "a,b.json", "--model-dir": "x[1]"}, [("invalid-value", "dataset")]),
    ({"--system-prompt": "${x}"}, [("invalid-value", "system_prompt")]),
    ({"--system-prompt": "\x00"}, [("invalid-value", "system_prompt")]),
    ({"--system-prompt": "\ud800"}, [("invalid-value", "system_prompt")]),
    ({"--system-prompt": " \"'“ "}, [("invalid-value", "system_prompt")]),
    ({"--system-prompt": "x", "--model": "Mistral-7B-v0.1"}, [("unsupported-setting", "system_prompt")]),
    ({"--model-dir": None}, [("missing-field", "models_dir")]),
    ({"--conda-env": None}, [("missing-field", "conda_env")]),
    ({"--conda-env": "/env"}, [("invalid-value", "conda_env")]),
    ({"--account": "none"}, [("invalid-value", "account")]),
    ({"--time": "30"}, [("invalid-value", "time")]),
    ({"--gpus": "0"}, [("invalid-value", "gpus")]),
    ({"--module": "a;b"}, [("invalid-value", "modules")]),
    ({"--constraint": "a b"}, [("invalid-value", "constraint")]),
    ({"--project": "my project"}, [("invalid-value", "my_wandb_project")]),
    ({"--output-dir": "~/out"}, [("invalid-value", "output_dir_base")]),
    ({"--name": "my sweep"}, [("invalid-value", "experiment_name")]),
    ({"--seed": ",".join(map(str, range(501)))}, [("unsupported-setting", "runs")]),
]


@pytest.mark.parametrize(("changes", "told"), REFUSALS, ids=lambda x: str(x)[:40])
def test_what_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, changes: Mapping[str, Wish], told: list[tuple[str, str | None]]
) -> None:
    assert refused(tmp_path / "one", changes) == told


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    directory = tmp_path / "my sweep"
    directory.mkdir()
    (directory / "experiment_summary.md").write_text("mine")
    wrong = {"--model": "Llama-3.2-1B-Instrct", "--rank": "x", "--epochs": None, "--data": "x.csv", "--gpus": "many"}
    found = problems(directory, wrong)
    assert sorted((p.code, p.field or p.file) for p in found) == [
        ("edited-output", "experiment_summary.md"),
        ("invalid-value", "experiment_name"),
        ("invalid-value", "gpus"),
        ("invalid-value", "lora_rank"),
        ("missing-field", "epochs"),
        ("unknown-model", "model"),
        ("unsupported-format", "dataset"),
    ]
    assert any("Did you mean 'Llama-3.2-1B-Instruct'" in p.message for p in found)
    assert any("the directory's name 'my sweep'" in p.message for p in found)


@pytest.mark.parametrize("name", ["experiment_summary.md", "experiment_summary.yaml", "claude.local.md"])
def test_what_is_there_is_never_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / name).symlink_to("nowhere")
    found = problems(tmp_path / "one", {})
    assert [(p.code, p.file) for p in found] == [("edited-output", name)]


def test_a_place_that_cannot_hold_an_experiment_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refused(tmp_path / "file", {}) == [("not-a-directory", "experiment")]
    assert refused(tmp_path / "experiment_summary.md", {}) == [("not-a-directory", "experiment")]
    assert refused(tmp_path / ("x" * 300), {}) == [("not-a-directory", "experiment")]
    assert refused(tmp_path / "a\nb", {}) == [("unsafe-path", "experiment")]
    assert refused(tmp_path / "one", {}, roots=(tmp_path / "cwd",)) == [("outside-roots", "experiment")]
    assert {p.code for p in problems(tmp_path / "it's", {"--name": "its"})} == {"invalid-value"}


def test_a_fault_of_the_template_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new.documents, "_number", lambda value: "9" if value == 8 else str(value))
    assert refused(tmp_path / "one", {}) == [("render-mismatch", "runs")]
    monkeypatch.setattr(new.documents, "_number", lambda value: "9" if value == 2 else str(value))
    found = problems(tmp_path / "one", {})
    assert [(p.code, p.field, p.expected, p.actual) for p in found] == [("render-mismatch", "epochs", 2, 9)]
    monkeypatch.setattr(new.documents, "_prose", lambda text: text.upper())
    assert refused(tmp_path / "two", {"--rank": "8", "--lr": "1e-5", "--system-prompt": "x"}) != []


def test_a_disk_that_says_no_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    replace, calls = Path.replace, []

    def second_fails(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", second_fails)
    with pytest.raises(Refused, match="No space left") as caught:
        make(tmp_path / "one")
    assert [p.code for p in caught.value.problems] == ["write-failed"]
    assert list((tmp_path / "one").iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "one")
    assert list((tmp_path / "one").iterdir()) == []


def test_files_are_readable_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        make(tmp_path / "one")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "one").iterdir()} == {0o640}


# --- the command line -------------------------------------------------------------------------------------------------


def line(directory: Path, *more: str) -> list[str]:
    return ["new", str(directory), *itertools.chain.from_iterable(USUAL.items()), *more]


def test_the_command_works_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "my sweep" / "data").mkdir(parents=True)
    (tmp_path / "my sweep" / "data" / "words.json").write_text("{}")
    command = [sys.executable, "-m", "scaffold_torchtune", *line(tmp_path / "my sweep", "--name", "sweep")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"wrote {tmp_path}/my sweep/experiment_summary.md",
        f"wrote {tmp_path}/my sweep/claude.local.md",
        "sweep: 4 run(s)",
        f"next: scaffold-torchtune scaffold '{tmp_path}/my sweep'",
    ]
    scaffolded(tmp_path / "my sweep")
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert "never overwritten" in again.stderr


def test_the_structured_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line(tmp_path / "sweep", "--json", "--control")) == 0
    result = json.loads(capsys.readouterr().out)
    created = [str(tmp_path / "sweep" / name) for name in ("experiment_summary.md", "claude.local.md")]
    assert (result["created"], result["experiment"], result["runs"]) == (created, "sweep", 4)
    assert main(line(tmp_path / "sweep", "--json")) == 2
    assert json.loads(capsys.readouterr().out)["error"]["problems"]
