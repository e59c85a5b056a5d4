"""experiment_summary.yaml through the whole pipeline."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from scaffold_torchtune.cli import main
from scaffold_torchtune.findings import Finding, Refused, errors_in
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.wording import absent

SUMMARY = """\
experiment:
  name: cap_rank
  project: capitalization
  question: "Does rank matter?"
  date: 2026-03-16
tools: {preparation: torchtune, evaluation: inspect-ai}
variables:
  lora_rank: [4, 8]
controls:
  system_prompt: ""
  prompt: "Capitalize the given word: {input}\\n"
  dataset_type: chat_completion
  epochs: 1
  batch_size: 4
  validation_during_training: true
models:
  base:
    - name: Llama-3.2-1B-Instruct
      path: /models/Llama-3.2-1B-Instruct
      size_gb: 2.5
data:
  training:
    path: /data/words_5L.json
    dataset_label: words_5L
    format: json
    splits: {train: 8, validation: 1, test: 1}
output:
  wandb_project: words
runs:
  - name: words_rank4
    type: fine-tuned
    model: Llama-3.2-1B-Instruct
    parameters: {lora_rank: 4, lr: 1e-5}
    compute: {time: 1:15:00, gpus: 1, mem: 80G, cpus_per_task: 2}
  - name: words_rank8
    type: fine-tuned
    model: Llama-3.2-1B-Instruct
    parameters: {lora_rank: 8, lr: 5e-5, batch_size: 2}
    dataset_path: /data/other.json
  - name: base
    type: control
    model: Llama-3.2-1B-Instruct
    parameters: {}
evaluation:
  temperature: 0.0
"""
LOCAL = "---\nconda_env: cruijff\naccount: lab\nmodules: [anaconda3/2025.6, cuda/12]\n---\n# Local\n"


def write(folder: Path, summary: str = SUMMARY, local: str = LOCAL) -> Path:
    folder.mkdir()
    (folder / "experiment_summary.yaml").write_text(summary)
    (folder / "claude.local.md").write_text(local)
    return folder


def problems(folder: Path) -> set[tuple[str, str | None, int | None]]:
    with pytest.raises(Refused) as refused:
        steps.plan(Request(folder))
    return {(f.code, f.field, f.line) for f in refused.value.problems}


def test_the_yaml_form_gives_run_directories_with_the_names_of_its_runs(tmp_path: Path) -> None:
    folder = write(tmp_path / "cap")
    result = steps.scaffold(Request(folder))
    assert result.ok
    assert [run.directory for run in result.plan.runs] == ["words_rank4", "words_rank8"]
    assert [row.name for row in result.plan.excluded] == ["base"]
    first = yaml.safe_load((folder / "words_rank4/setup_finetune.yaml").read_text())
    second = yaml.safe_load((folder / "words_rank8/setup_finetune.yaml").read_text())
    assert (first["lr"], first["batch_size"], first["time"], first["mem"]) == (1e-5, 4, "1:15:00", "80G")
    assert (first["cpus_per_task"], first["gpus"], first["run_val_every_n_steps"]) == (2, 1, 50)
    assert first["prompt"] == "Capitalize the given word: {input}\n"
    assert (first["my_wandb_project"], first["modules"]) == ("words", "anaconda3/2025.6,cuda/12")
    assert (second["lr"], second["batch_size"], second["dataset_label"]) == (5e-5, 2, "other")


def test_without_an_output_directory_each_run_writes_to_its_artifacts_directory(tmp_path: Path) -> None:
    folder = write(tmp_path / "cap")
    assert steps.scaffold(Request(folder)).ok
    made = yaml.safe_load((folder / "words_rank4/finetune.yaml").read_text())
    assert made["output_dir"] == f"{folder}/words_rank4/artifacts/"


def test_an_output_directory_in_claude_local_md_is_used(tmp_path: Path) -> None:
    folder = write(tmp_path / "cap", local=LOCAL.replace("account", "output_dir_base: /scratch/out\naccount"))
    assert steps.scaffold(Request(folder)).ok
    made = yaml.safe_load((folder / "words_rank4/finetune.yaml").read_text())
    assert made["output_dir"] == "/scratch/out/cap_rank/ck-out-words_rank4/"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  name: cap_rank\n", "", ("missing-field", "experiment name", 1)),
        ("  epochs: 1\n", "", ("missing-field", "epochs", 9)),
        ("  batch_size: 4\n", "", ("missing-field", "batch_size", 9)),
        ("    path: /data/words_5L.json\n", "", ("missing-field", "dataset", 22)),
        ("  name: cap_rank\n", "  name: no\n", ("invalid-value", "experiment_name", 2)),
        ("lora_rank: 4,", "lora_rank: 012,", ("invalid-value", "lora_rank", 33)),
        ("lora_rank: 4,", "lora_rank: [4],", ("invalid-value", "lora_rank", 33)),
        ("lora_rank: 4,", "lora_rank: [4, 8],", ("ambiguous", "lora_rank", 33)),
        ("lora_rank: 4,", "lora_rank: [4, [8]],", ("invalid-value", "lora_rank", 33)),
        ("    type: control\n", "", ("missing-field", "type", 40)),
        ("type: control", "type: baseline model", ("invalid-value", "type", 41)),
        ("type: fine-tuned", "type: [control]\n    prompt: null", ("invalid-value", "type", 31)),
        ("wandb_project", "wandb_projekt", ("misspelt-field", "output.wandb_projekt", 28)),
        ("    format: json\n", "    format: parquet\n", ("ambiguous", "dataset", 25)),
        ("experiment:\n", "experiment:\n  dir: /somewhere/else\n", ("wrong-experiment-dir", "experiment directory", 2)),
        ("tools:", "tools: [", ("invalid-value", None, 7)),
        ("lr: 1e-5}", "learnig_rate: 1e-5}", ("misspelt-field", "learnig_rate", 33)),
    ],
)
def test_a_problem_is_reported_with_its_place(
    tmp_path: Path, old: str, new: str, expected: tuple[str, str | None, int | None]
) -> None:
    assert old in SUMMARY
    assert expected in problems(write(tmp_path / "cap", SUMMARY.replace(old, new, 1)))


MARKDOWN = """\
# cap_rank

## All Runs
| Run Name | Model | LoRA Rank | LR | Batch Size | Dataset | Time | GPUs | Mem | CPUs | Type |
|--|--|--|--|--|--|--|--|--|--|--|
| words_rank4 | Llama-3.2-1B-Instruct | 4 | 1e-5 | 4 | /data/words_5L.json | 1:15:00 | 1 | 80G | 2 | Fine-tuned |
| words_rank8 | Llama-3.2-1B-Instruct | 8 | 5e-5 | 2 | /data/other.json | - | - | - | - | Fine-tuned |

## Resources
### Models
- **Llama-3.2-1B-Instruct**: `/models/Llama-3.2-1B-Instruct`

## Configuration
### Training
- **Epochs:** 1
- **Dataset type:** chat_completion
- **Prompt:** "Capitalize the given word: {input}"
- **Validation during training:** Yes (every 50 steps during training)
"""
BOTH = LOCAL.replace("account", "output_dir_base: /scratch/out\nmy_wandb_project: words\naccount")


def both(folder: Path, markdown: str) -> Path:
    summary = SUMMARY.replace("{input}\\n", "{input}")
    write(folder, summary, BOTH)
    (folder / "experiment_summary.md").write_text(markdown)
    return folder


def test_the_yaml_form_is_used_if_both_forms_give_the_same_plan_and_this_is_reported(tmp_path: Path) -> None:
    result = steps.plan(Request(both(tmp_path / "cap", MARKDOWN)))
    assert "two-summaries" in [warning.code for warning in result.warnings]
    assert [run.directory for run in result.runs] == ["words_rank4", "words_rank8"]


def disagreement(folder: Path, field: str, location: str) -> Finding:
    """Return the only problem of an experiment whose two forms disagree, after comparing it."""
    with pytest.raises(Refused) as refused:
        steps.plan(Request(folder))
    (problem,) = refused.value.problems
    assert (problem.code, problem.field, problem.location()) == ("ambiguous", field, location)
    return problem


def test_values_that_differ_between_the_forms_are_both_reported(tmp_path: Path) -> None:
    folder = both(tmp_path / "cap", MARKDOWN.replace("**Epochs:** 1", "**Epochs:** 3"))
    problem = disagreement(folder, "epochs", "experiment_summary.md:15")
    yml, md = problem.message.split(", but ", 1)
    assert absent(yml, "epochs", 1, "experiment_summary.yaml:13") == []
    assert absent(md, "3 here") == []


def test_a_value_derived_from_one_that_differs_is_not_reported(tmp_path: Path) -> None:
    folder = both(tmp_path / "cap", MARKDOWN.replace("| 4 | 1e-5", "| 6 | 1e-5"))
    assert {(field, line) for _, field, line in problems(folder)} == {("lora_rank", 6)}


def test_a_setting_that_one_form_lacks_is_reported_with_its_place_in_the_other(tmp_path: Path) -> None:
    folder = both(tmp_path / "cap", MARKDOWN.replace("- **Prompt:**", "- **Seed:** 7\n- **Prompt:**"))
    problem = disagreement(folder, "seed", "experiment_summary.md:17")
    assert absent(problem.message, "seed", 14, "experiment_summary.yaml", "7 here") == []
    assert "experiment_summary.yaml:" not in problem.message


def test_a_run_that_only_one_form_has_is_reported(tmp_path: Path) -> None:
    without = "".join(line for line in MARKDOWN.splitlines(keepends=True) if "words_rank8" not in line)
    with pytest.raises(Refused) as refused:
        steps.plan(Request(both(tmp_path / "cap", without)))
    (problem,) = refused.value.problems
    assert (problem.code, problem.field, problem.file) == ("ambiguous", "runs", "experiment_summary.md")
    assert absent(problem.message, "'words_rank8'", "experiment_summary.yaml:35") == []


@pytest.mark.parametrize(
    ("markdown", "follows"),
    [
        ("# notes\n\nJust notes.\n", "fine-tuned runs"),
        (MARKDOWN.replace("Llama-3.2-1B-Instruct", "Llama-9"), "model"),
    ],
)
def test_an_unreadable_second_form_is_refused_with_a_fix_that_names_both_files(
    tmp_path: Path, markdown: str, follows: str
) -> None:
    with pytest.raises(Refused) as refused:
        steps.plan(Request(both(tmp_path / "cap", markdown)))
    first, *rest = refused.value.problems
    assert (first.code, first.file) == ("ambiguous", "experiment_summary.md")
    assert absent(first.message, "experiment_summary.md", "experiment_summary.yaml") == []
    assert absent(first.fix, "experiment_summary.md", "experiment_summary.yaml") == []
    assert follows in {problem.field for problem in rest}


def test_a_value_that_setup_finetune_would_reject_is_reported_at_its_place_in_the_documents(tmp_path: Path) -> None:
    summary = SUMMARY.replace("dataset_type: chat_completion", "dataset_type: chat_complete")
    assert problems(write(tmp_path / "shared", summary)) == {("invalid-value", "dataset_type", 12)}
    by_run = SUMMARY.replace("{lora_rank: 4,", "{lora_rank: 4, dataset_type: a,").replace(
        "{lora_rank: 8,", "{lora_rank: 8, dataset_type: a,"
    )
    folder = write(tmp_path / "by_run", by_run)
    with pytest.raises(Refused) as refused:
        steps.plan(Request(folder))
    places = ["experiment_summary.yaml:33", "experiment_summary.yaml:38"]
    assert [problem.location() for problem in refused.value.problems] == places
    warned = steps.plan(Request(write(tmp_path / "warned"))).warnings
    (unread,) = [warning for warning in warned if warning.code == "unread-setting"]
    assert unread.location() == "experiment_summary.yaml:15"
    assert "custom_recipe" not in unread.fix


@pytest.mark.parametrize(
    ("old", "new", "code", "values", "fix"),
    [
        ("models:\n  base:\n    - name", "models:\n    - name", "invalid-value", ["models", "list", "base"], "base:"),
        ("tools:", "outputs: 3\ntools:", "misspelt-field", ["outputs", "'output'"], "`output`"),
        ("type: fine-tuned", "typ: fine-tuned", "misspelt-field", ["runs.0.typ", "'type'"], "`type`"),
        ("name: words_rank4", "nothing: 1", "missing-field", ["runs.0", "name"], "name: NAME"),
        ("name: cap_rank", "name: [a, b]", "ambiguous", ["experiment.name", 2, "a, b"], "a or b"),
        ("name: cap_rank", "name: cap\n  dir: 5", "invalid-value", ["experiment.dir", 5, "text"], '"5"'),
        ("name: cap_rank", "name: cap\n  dir: no", "invalid-value", ["experiment.dir", "no", "False"], '"no"'),
        ("train: 8,", "train: 8%,", "invalid-value", ["data.training.splits.train", "'8%'", "number"], "number"),
        ("path: /data/words_5L.json", "path: [a]", "invalid-value", ["data.training.path", "list", "path"], "path"),
        (
            "compute: {",
            "compute: none  # {",
            "invalid-value",
            ["runs.0.compute", "'none'", "mapping"],
            "compute: {time",
        ),
    ],
)
def test_a_value_of_the_wrong_shape_is_reported_with_the_right_form(
    tmp_path: Path, old: str, new: str, code: str, values: list[object], fix: str
) -> None:
    assert old in SUMMARY
    with pytest.raises(Refused) as refused:
        steps.plan(Request(write(tmp_path / "cap", SUMMARY.replace(old, new, 1))))
    (problem,) = errors_in(refused.value.problems)
    assert (problem.code, absent(problem.message, *values)) == (code, [])
    assert absent(problem.fix, fix) == []


def test_the_schema_contains_the_data_settings_and_accepts_unknown_sections_of_any_shape(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["schema"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert {"dataset_type", "packed", "input_key"} <= made["$defs"]["TrainingDataForm"]["properties"].keys()
    document = yaml.safe_load(SUMMARY.replace("2026-03-16", '"2026-03-16"'))
    document |= {"tools": "torchtune", "variables": ["lora_rank"], "evaluation": []}
    document["data"]["training"] |= {"dataset_type": "chat_completion", "packed": False}
    jsonschema.validate(document, made)
    document["models"] = document["models"]["base"]
    with pytest.raises(jsonschema.ValidationError, match="not valid"):
        jsonschema.validate(document, made)


def test_one_value_in_two_places_of_a_run_must_be_the_same(tmp_path: Path) -> None:
    twice = SUMMARY.replace("{lora_rank: 4,", "{gpus: 1, model: Llama-3.2-1B-Instruct, lora_rank: 4,")
    assert len(steps.plan(Request(write(tmp_path / "cap", twice))).runs) == 2
    other = SUMMARY.replace("{lora_rank: 4,", "{gpus: 2, lora_rank: 4,")
    assert problems(write(tmp_path / "other", other)) == {("ambiguous", "gpus", 34)}


def test_the_schema_accepts_the_example_and_rejects_an_unknown_type_of_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    made = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(made)
    document = yaml.safe_load(SUMMARY.replace("2026-03-16", '"2026-03-16"'))
    jsonschema.validate(document, made)
    document["runs"][0]["type"] = "tuned"
    with pytest.raises(jsonschema.ValidationError, match="tuned"):
        jsonschema.validate(document, made)
