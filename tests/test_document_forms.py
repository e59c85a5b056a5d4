"""One experiment in each of the forms in which people write it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from documents import MODEL, table
from experiments import outputs
from scaffold_torchtune import pipeline
from scaffold_torchtune.errors import Finding, Refused
from scaffold_torchtune.models.plan import Plan
from scaffold_torchtune.pipeline import Request
from test_corpus import plan_of

MARKDOWN = """\
# sweep

## All Runs

| Run Name | Model | LoRA Rank | Learning Rate | Batch Size | Type |
|---|---|---|---|---|---|
| first | Llama-3.2-1B-Instruct | 8 | 1e-5 | 4 | Fine-tuned |
| second | Llama-3.2-1B-Instruct | 16 | 5e-5 | 4 | Fine-tuned |
| base | Llama-3.2-1B-Instruct | - | - | - | Control |

## Resources

### Models

- **Llama-3.2-1B-Instruct**: `/models/Llama-3.2-1B-Instruct`

### Dataset

- **Path**: `/data/words.json`

## Configuration

### Training

- **Epochs:** 2
- **Seed:** 7
- **System prompt:** "Capitalize the word"
- **Prompt:** "{input}"
- **Validation during training:** Yes
"""

YAML = """\
experiment:
  name: sweep
controls:
  epochs: 2
  batch_size: 4
  seed: 7
  system_prompt: Capitalize the word
  prompt: "{input}"
  validation_during_training: true
models:
  base:
    - name: Llama-3.2-1B-Instruct
      path: /models/Llama-3.2-1B-Instruct
data:
  training:
    path: /data/words.json
runs:
  - name: first
    type: fine-tuned
    model: Llama-3.2-1B-Instruct
    parameters: {lora_rank: 8, lr: 1e-5}
  - name: second
    type: fine-tuned
    model: Llama-3.2-1B-Instruct
    parameters: {lora_rank: 16, lr: 5e-5}
  - name: base
    type: control
    model: Llama-3.2-1B-Instruct
"""

LOCAL = """\
- **Conda environment**: `tune`
- **Default project**: `words`
- **Output base directory**: `/scratch/out/`
- **Account**: `lab`
"""

MD, YML, LOC = "experiment_summary.md", "experiment_summary.yaml", "claude.local.md"
Form = Literal["markdown", "yaml"]
FORMS: dict[Form, tuple[str, str]] = {"markdown": (MD, MARKDOWN), "yaml": (YML, YAML)}


def write(folder: Path, **documents: str | bytes) -> Path:
    folder.mkdir(parents=True)
    names = {"md": MD, "yml": YML, "local": LOC}
    for name, text in {"local": LOCAL, **documents}.items():
        (folder / names[name]).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def scaffolded(folder: Path, names: Literal["varying", "table"] = "varying", **documents: str | bytes) -> Path:
    """Scaffold the documents in a folder whose path is always the same, and move it to where it shall be."""
    place = write(folder.parent / "place" / "sweep", **documents)
    result = pipeline.scaffold(Request(place, names=names))
    assert result.ok
    place.rename(folder)
    return folder


# (a) white space


BROKEN: dict[str, Callable[[str], str]] = {
    "crlf": lambda text: text.replace("\n", "\r\n"),
    "bom": lambda text: "\ufeff" + text,
    "crlf_and_bom": lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    "trailing_spaces": lambda text: text.replace("\n", "  \n"),
    "tabs": lambda text: text.replace(" | ", "\t|\t").replace("** ", "**\t").replace(":** ", ":**\t"),
    "non_breaking_spaces": lambda text: text.replace(" | ", "\u00a0|\u00a0").replace(":** ", ":**\u00a0"),
    "non_breaking_delimiters": lambda text: text.replace("|---|", "|\u00a0---\u00a0|"),
    "no_outer_pipes": lambda text: "\n".join(line.removeprefix("| ").removesuffix(" |") for line in text.split("\n")),
}


def values(plan: Plan) -> list[tuple[str, dict[str, Any]]]:
    return [(run.directory, {k: s.model_dump() for k, s in run.settings.items()}) for run in plan.runs]


@pytest.mark.parametrize("kind", BROKEN)
def test_white_space_changes_neither_the_plan_nor_a_byte_of_what_is_written(tmp_path: Path, kind: str) -> None:
    changed, local = BROKEN[kind](MARKDOWN), BROKEN[kind](LOCAL)
    assert (changed, local) != (MARKDOWN, LOCAL)
    assert values(plan_of((MD, changed.removeprefix("\ufeff")), (LOC, local))) == values(
        plan_of((MD, MARKDOWN), (LOC, LOCAL))
    )
    plain = scaffolded(tmp_path / "plain", md=MARKDOWN)
    other = scaffolded(tmp_path / "other", md=changed, local=local)
    assert outputs(plain) == outputs(other)
    assert len(outputs(plain)) == 6


@pytest.mark.parametrize("kind", ["crlf", "bom", "crlf_and_bom"])
def test_line_ends_and_marks_change_nothing_of_the_yaml_form(tmp_path: Path, kind: str) -> None:
    plain = scaffolded(tmp_path / "plain", yml=YAML)
    assert outputs(plain) == outputs(scaffolded(tmp_path / "other", yml=BROKEN[kind](YAML)))


# (b), (c) both forms


@pytest.mark.parametrize("names", ["varying", "table"])
def test_both_forms_give_the_same_run_directories_byte_for_byte(
    tmp_path: Path, names: Literal["varying", "table"]
) -> None:
    one = scaffolded(tmp_path / "one", names, md=MARKDOWN)
    other = scaffolded(tmp_path / "other", names, yml=YAML)
    assert outputs(one) == outputs(other)
    expected = ["rank16_lr5e-5", "rank8_lr1e-5"] if names == "varying" else ["first", "second"]
    files = ["finetune.slurm", "finetune.yaml", "setup_finetune.yaml"]
    assert sorted(outputs(one)) == [f"{run}/{file}" for run in expected for file in files]


def test_side_by_side_the_yaml_form_is_used_and_it_is_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "sweep", md=MARKDOWN, yml=YAML)
    plan = pipeline.plan(Request(folder))
    (remark,) = [w for w in plan.warnings if w.code == "two-summaries"]
    assert (remark.file, [run.directory for run in plan.runs]) == (MD, ["first", "second"])
    assert f"{YML} is used, as other tools rely on its run names" in remark.message


def test_side_by_side_the_markdown_form_is_used_where_it_was_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "sweep", md=MARKDOWN, yml=YAML)
    plan = pipeline.plan(Request(folder / MD))
    (remark,) = [w for w in plan.warnings if w.code == "two-summaries"]
    assert (remark.file, [run.directory for run in plan.runs]) == (YML, ["rank8_lr1e-5", "rank16_lr5e-5"])
    assert f"{MD} is used, as it was named" in remark.message


@pytest.mark.parametrize(
    ("old", "new", "run", "setting"),
    [
        ("**Seed:** 7", "**Seed:** 8", "first", "seed"),
        ("| 16 | 5e-5 |", "| 16 | 6e-5 |", "second", "lr"),
        ("/data/words.json", "/data/others.json", "second", "dataset_label"),
        ("/data/words.json", "/data/words.parquet", "second", "dataset_ext"),
        ("Capitalize the word", "Capitalise the word", "first", "system_prompt"),
    ],
)
def test_side_by_side_a_value_that_differs_is_refused_with_run_and_setting(
    tmp_path: Path, old: str, new: str, run: str, setting: str
) -> None:
    assert old in MARKDOWN
    folder = write(tmp_path / "sweep", md=MARKDOWN.replace(old, new), yml=YAML)
    with pytest.raises(Refused) as refused:
        pipeline.plan(Request(folder))
    problems = refused.value.problems
    assert {problem.code for problem in problems} == {"ambiguous"}
    assert [p.message for p in problems if p.field == setting and p.message.startswith(f"run {run}: {setting} is ")]


# (d) the table of required fields


def problems_of(form: Form, local: str = LOCAL, *, summary: str | None = None) -> list[Finding]:
    name, text = FORMS[form]
    with pytest.raises(Refused) as refused:
        plan_of((name, text if summary is None else summary), (LOC, local))
    return list(refused.value.problems)


def without(text: str, *starts: str) -> str:
    """The text without the lines that begin with one of `starts`, each of which must occur."""
    for start in starts:
        assert any(line.strip().startswith(start) for line in text.splitlines()), start
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not any(line.strip().startswith(start) for start in starts))


REQUIRED: list[tuple[str, Form, tuple[str, ...]]] = [
    ("experiment name", "markdown", ("# sweep",)),
    ("experiment name", "yaml", ("name: sweep",)),
    ("fine-tuned runs", "yaml", ("- name: first", "- name: second", "- name: base", "type", "model:", "parameters")),
    ("path of model Llama-3.2-1B-Instruct", "markdown", ("- **Llama",)),
    ("path of model Llama-3.2-1B-Instruct", "yaml", ("- name: Llama", "path: /models")),
    ("dataset", "markdown", ("- **Path**",)),
    ("dataset", "yaml", ("path: /data",)),
    ("epochs", "markdown", ("- **Epochs",)),
    ("epochs", "yaml", ("epochs",)),
    ("batch_size", "yaml", ("batch_size",)),
]


@pytest.mark.parametrize(("field", "form", "lines"), REQUIRED)
def test_a_summary_that_lacks_a_required_field_is_refused_with_its_name_alone(
    field: str, form: Form, lines: tuple[str, ...]
) -> None:
    found = problems_of(form, summary=without(FORMS[form][1], *lines))
    assert [(p.code, p.field) for p in found] == [("missing-field", field)]
    assert found[0].fix


def test_a_markdown_summary_of_controls_alone_is_refused() -> None:
    found = problems_of("markdown", summary=without(MARKDOWN, "| first", "| second"))
    assert [(p.code, p.field) for p in found] == [("missing-field", "batch_size"), ("missing-field", "fine-tuned runs")]


def test_a_markdown_summary_without_batch_size_is_refused_unless_configuration_gives_it() -> None:
    lacking = MARKDOWN.replace(" Batch Size |", "", 1).replace("|---|", "|", 1).replace(" | 4 |", " |")
    lacking = lacking.replace("| - | - | - |", "| - | - |")
    found = problems_of("markdown", summary=lacking)
    assert [(p.code, p.field) for p in found] == [("missing-field", "batch_size")]
    plan = plan_of((MD, lacking.replace("- **Seed", "- **Batch size:** 4\n- **Seed")), (LOC, LOCAL))
    assert [run.settings["batch_size"].value for run in plan.runs] == [4, 4]


@pytest.mark.parametrize("form", FORMS)
def test_a_run_without_a_model_is_refused(form: Form) -> None:
    text = FORMS[form][1]
    old = "| first | Llama-3.2-1B-Instruct |" if form == "markdown" else "    model: Llama-3.2-1B-Instruct\n    para"
    assert old in text
    new = "| first |  |" if form == "markdown" else "    para"
    found = problems_of(form, summary=text.replace(old, new, 1))
    assert [(p.code, p.field) for p in found] == [("missing-field", "model")]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("field", "line"), [("conda_env", "- **Conda environment"), ("my_wandb_project", "- **Default project")]
)
def test_a_claude_local_md_that_lacks_a_required_field_is_refused(form: Form, field: str, line: str) -> None:
    found = problems_of(form, without(LOCAL, line))
    assert [(p.code, p.field, p.file) for p in found] == [("missing-field", field, LOC)]


def test_the_project_may_come_from_the_output_of_the_yaml_form() -> None:
    text = YAML + "output:\n  wandb_project: theirs\n"
    plan = plan_of((YML, text), (LOC, without(LOCAL, "- **Default project")))
    assert plan.runs[0].settings["my_wandb_project"].value == "theirs"
    assert "overridden" not in [w.code for w in plan.warnings]


@pytest.mark.parametrize(("project", "told"), [("words", False), ("theirs", True)])
def test_the_projects_of_both_documents_are_told_where_they_differ(project: str, told: bool) -> None:
    plan = plan_of((YML, YAML + f"output:\n  wandb_project: {project}\n"), (LOC, LOCAL))
    assert plan.runs[0].settings["my_wandb_project"].value == project
    assert ("overridden" in [w.code for w in plan.warnings]) is told


def test_a_project_that_is_no_name_is_refused() -> None:
    found = problems_of("yaml", summary=YAML + "output:\n  wandb_project: a b\n")
    assert [(p.code, p.field, p.line) for p in found] == [("invalid-value", "my_wandb_project", 30)]


def test_without_an_output_directory_the_markdown_form_is_refused_and_the_yaml_form_uses_artifacts() -> None:
    local = without(LOCAL, "- **Output base")
    assert [(p.code, p.field) for p in problems_of("markdown", local)] == [("missing-field", "output_dir_base")]
    run = plan_of((YML, YAML), (LOC, local)).runs[0]
    assert "output_dir_base" not in run.settings
    assert "artifacts/" in run.settings["project_dir"].source.note


@pytest.mark.parametrize("form", FORMS)
def test_without_rank_and_rate_the_defaults_are_used_with_a_warning(form: Form) -> None:
    text = FORMS[form][1]
    for old, new in (
        ("lora_rank: 8, lr: 1e-5", "seed: 1"), ("lora_rank: 16, lr: 5e-5", "seed: 2"),
        ("LoRA Rank | Learning Rate", "Seed | Status"), ("| 8 | 1e-5", "| 1 | -"), ("| 16 | 5e-5", "| 2 | -"),
    ):  # fmt: skip
        text = text.replace(old, new)
    plan = plan_of((FORMS[form][0], text), (LOC, LOCAL))
    assert {w.field for w in plan.warnings if w.code == "default-used"} == {"lora_rank", "lr"}
    for run in plan.runs:
        assert (run.settings["lora_rank"].value, run.settings["lr"].value) == (64, 1e-4)
        assert run.settings["lora_rank"].source.kind == run.settings["lr"].source.kind == "default"


@pytest.mark.parametrize("form", FORMS)
def test_what_nobody_asked_for_is_a_default_that_shows_as_one_and_what_is_open_is_left_out(form: Form) -> None:
    text = FORMS[form][1]
    text = without(text, "- **Seed", "- **System") if form == "markdown" else without(text, "seed", "system_prompt")
    for run in plan_of((FORMS[form][0], text), (LOC, without(LOCAL, "- **Account"))).runs:
        for name, value in {"gpus": 1, "time": "00:15:00", "system_prompt": "", "seed": 14}.items():
            assert (run.settings[name].value, run.settings[name].source.kind) == (value, "default")
        assert not {"account", "partition", "constraint", "modules"} & run.settings.keys()


@pytest.mark.parametrize("form", FORMS)
def test_a_directory_that_is_named_must_be_the_one_that_holds_the_summary(form: Form) -> None:
    text = FORMS[form][1]

    def at(path: str) -> str:
        if form == "markdown":
            return f"{text}\n## Quick Reference\n\n- Experiment: `{path}`\n"
        return text.replace("  name: sweep\n", f"  name: sweep\n  dir: {path}\n")

    assert plan_of((FORMS[form][0], at("/experiments/sweep/")), (LOC, LOCAL)).runs
    found = problems_of(form, summary=at("/experiments/other"))
    assert [(p.code, p.field) for p in found] == [("wrong-experiment-dir", "experiment directory")]


# (e) any plan that can be written is read back


RATES: dict[str, Callable[[int, int], str]] = {
    "1e-5": lambda m, e: f"{m}e-{e}",
    "1E-5": lambda m, e: f"{m}E-{e}",
    "1e-05": lambda m, e: f"{m}e-{e:02d}",
    "0.00001": lambda m, e: f"{float(f'{m}e-{e}'):.{e}f}",
    "1 × 10^-5": lambda m, e: f"{m} × 10^-{e}",
    "1 x 10⁻⁵": lambda m, e: f"{m} x 10⁻{'⁰¹²³⁴⁵⁶⁷⁸⁹'[e]}",
    "1e-5 (default)": lambda m, e: f"{m}e-{e} (default)",
}
REMARKS = frozenset({"1e-5 (default)"})
PROMPT_LETTERS = "abcXYZ 0123456789.,:;!?(){}<>/#*_-+=é"
RUNS = st.lists(
    st.fixed_dictionaries(
        {
            "lora_rank": st.integers(1, 4096),
            "rate": st.tuples(st.integers(1, 9), st.integers(2, 9), st.sampled_from(sorted(RATES))),
            "batch_size": st.integers(1, 512),
            "seed": st.integers(0, 10**6),
            "epochs": st.integers(1, 99),
            "system_prompt": st.text(PROMPT_LETTERS, max_size=30).filter(lambda text: text != "???"),
            "dataset": st.from_regex(r"/data/[a-z][a-z0-9]{0,8}\.json", fullmatch=True),
        }
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda run: json.dumps({k: v for k, v in run.items() if k != "rate"}),
)


def expected(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    made = []
    for run in runs:
        digits, exponent, _ = run["rate"]
        made.append({**{k: v for k, v in run.items() if k != "rate"}, "lr": float(f"{digits}e-{exponent}")})
    return made


def read_back(plan: Plan) -> list[dict[str, Any]]:
    names = ("lora_rank", "batch_size", "seed", "epochs", "system_prompt", "lr")
    return [{**{k: run.settings[k].value for k in names}, "dataset": run.data_path} for run in plan.runs]


def cell(text: str) -> str:
    """Text in a cell, as Markdown has it literally."""
    escaped = "".join(f"\\{c}" if c in r"\`*_{}[]<>#|!&" else c for c in text)
    return f'"{escaped}"'


def named_by(form: Form, text: str) -> Plan:
    return plan_of((FORMS[form][0], text), (LOC, LOCAL))


@given(RUNS)
@settings(max_examples=150, deadline=None)
def test_any_plan_written_in_markdown_is_read_back(runs: list[dict[str, Any]]) -> None:
    header = ["Run Name", "Model", "Rank", "LR", "Batch Size", "Seed", "Epochs", "System Prompt", "Dataset", "Type"]
    rows = []
    for i, run in enumerate(runs):
        digits, exponent, spelling = run["rate"]
        values = [
            str(run["lora_rank"]),
            RATES[spelling](digits, exponent),
            *(str(run[k]) for k in ("batch_size", "seed", "epochs")),
        ]
        rows.append([f"run{i}", MODEL, *values, cell(run["system_prompt"]), f"`{run['dataset']}`", "Fine-tuned"])
    models = f"## Resources\n\n### Models\n\n- **{MODEL}**: `/models/{MODEL}`\n"
    plan = named_by("markdown", f"# sweep\n\n## All Runs\n\n{table(header, rows)}\n{models}")
    assert json.dumps(read_back(plan), sort_keys=True) == json.dumps(expected(runs), sort_keys=True)


@given(RUNS, st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_plan_written_in_yaml_is_read_back(runs: list[dict[str, Any]], flow: bool) -> None:
    written = []
    for i, run in enumerate(runs):
        digits, exponent, spelling = run["rate"]
        rate: Any = RATES[spelling if spelling not in REMARKS else "1e-5"](digits, exponent)
        own = {k: v for k, v in run.items() if k not in {"rate", "dataset"}} | {"lr": rate}
        one = {
            "name": f"run{i}",
            "type": "fine-tuned",
            "model": MODEL,
            "parameters": own,
            "dataset_path": run["dataset"],
        }
        written.append(one)
    document = {
        "experiment": {"name": "sweep"},
        "models": {"base": [{"name": MODEL, "path": f"/models/{MODEL}"}]},
        "runs": written,
    }
    text = yaml.safe_dump(document, allow_unicode=True, default_flow_style=flow, sort_keys=False)
    assert json.dumps(read_back(named_by("yaml", text)), sort_keys=True) == json.dumps(expected(runs), sort_keys=True)
