"""Every question ends with a valid answer, and the line that it suggests gives the same plan as the answer."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaffold_torchtune.findings import Refused, Scalar
from scaffold_torchtune.parse.answers import answerable
from scaffold_torchtune.settings.parameters import DIRECTORIES, OF_CONFIGURATION, OF_LOCAL, PARAMETERS
from support.advised import Documents, asked, check, parsed, said, values_of, written
from support.corpus_cases import CASES, documents_of
from support.document_forms import FORMS, LOC, LOCAL, MARKDOWN, MD, YAML, YML, Form
from support.examples import some_of
from support.faulty_documents import MODEL, documents
from support.sampling import spread

COLUMNS = [name for name, known in PARAMETERS.items() if known.column and name not in {"model", "dataset"}]
OF_JOBS = ["time", "gpus", "mem", "qos", "cpus_per_task", "gpu_type"]


@pytest.mark.parametrize("case", spread(CASES, every=6))
def test_every_question_about_the_corpus_ends_and_its_line_gives_the_same_plan(case: str) -> None:
    found = dict(documents_of(case))
    for choice in (0, 1) if asked(found) else ():
        check(found, choice)


@pytest.mark.long
def test_the_corpus_has_a_question_for_each_required_field() -> None:
    fields = {question.field for case in CASES for question in asked(dict(documents_of(case)))}
    required = {"experiment name", "experiment_name", "dataset", "epochs", "batch_size", "conda_env"}
    required |= {"my_wandb_project", "output_dir_base", f"path of model {MODEL}", "models_dir"}
    assert required <= fields


@pytest.mark.long
@pytest.mark.examples
@settings(max_examples=some_of(400), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents(), st.integers(0, 1))
def test_every_question_about_any_documents_ends_and_its_line_gives_the_same_plan(
    found: Documents, choice: int
) -> None:
    check(found, choice)


def with_two(name: str, text: str, field: str, values: list[str]) -> Documents:
    """Return documents with two values of a field, in a summary of either form."""
    if name == MD:
        lines = "".join(f"- **{field}:** {value}\n" for value in values)
        return {name: text.replace("- **Epochs:** 2\n", f"- **Epochs:** 2\n{lines}"), LOC: LOCAL}
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return {name: text.replace("  epochs: 2\n", f"  epochs: 2\n  {field}: [{quoted}]\n"), LOC: LOCAL}


SAID_TWICE = [(field, "") for field in COLUMNS if field not in OF_LOCAL]
SAID_TWICE += [(field, default) for field in COLUMNS if field in OF_LOCAL for default in ("", "good", "bad")]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("field", "default"), spread(SAID_TWICE, every=8))
def test_a_value_given_twice_in_the_summary_is_a_question_with_one_answer(field: str, default: str, form: Form) -> None:
    name, text = FORMS[form]
    rows = text.split("\n")
    text = "\n".join(row for row in rows if "|" in row or field not in row.lower().replace(" ", "_"))
    values = [str(value) for value in values_of(field) if "\n" not in str(value)]
    second = {"text": "same as above"}.get(PARAMETERS[field].kind, "x y ??")
    found = with_two(name, text, field, [values[0], second])
    if default:
        found[LOC] += f"\n## SLURM\n\n- **{field}**: {values[0] if default == 'good' else 'y z ??'}\n"
    own = {"lora_rank", "lr", "batch_size"} if form == "markdown" else set()  # which each row gives
    # different modules or a different method are refused: no answer can replace them
    refused = {"target_modules"} | ({"recipe"} if form == "markdown" else set())
    assert check(found) == ([] if field in own | refused else [field])


@pytest.mark.parametrize("layout", spread(["- **{}**: {}\n", "- {}={}\n", "| {} | {} |\n", "{}: {}\n"], every=2))
@pytest.mark.parametrize("field", spread([*OF_LOCAL, *DIRECTORIES], every=3))
def test_an_invalid_value_in_claude_local_md_is_a_question_with_one_answer(field: str, layout: str) -> None:
    wrong = {"modules": "a;b", "comment": "a $(b)"}.get(field, "x; y ??")
    labels = {"conda_env": "tune", "my_wandb_project": "w", "output_dir_base": "/o"}
    lines = [layout.format(label, value) for label, value in labels.items() if label != field]
    table = (
        "## SLURM Defaults\n\n| Setting | Value |\n|---|---|\n" if layout.startswith("|") else "## SLURM Defaults\n\n"
    )
    head = "" if layout.startswith("{}") else table
    text = head + "".join(lines) + layout.format(field, wrong)
    if layout.startswith("{}"):
        front = "".join(f"{label}: {value}\n" for label, value in labels.items() if label != field)
        text = f"---\n{front}---\n\n## SLURM\n\n{field}: {wrong}\n"
    answered = check({MD: MARKDOWN, LOC: text})
    assert answered in ([field], [])
    if not answered:  # it sets nothing there, and is reported as unused
        assert parsed({MD: MARKDOWN, LOC: text}).warnings


@pytest.mark.parametrize("field", ["experiment name", "experiment_name"])
@pytest.mark.parametrize(("form", "old", "new"), [
    (MD, "# sweep", "# a/b"), (MD, "# sweep", ""), (MD, "# sweep", "a/b!\n===="),
    (YML, "name: sweep", "name: a/b"), (YML, "  name: sweep", "  question: why"),
])  # fmt: skip
def test_the_experiment_name_may_be_answered_under_either_field(field: str, form: str, old: str, new: str) -> None:
    text = MARKDOWN if form == MD else YAML
    found = {form: text.replace(old, new), LOC: LOCAL}
    experiment = parsed(found, {field: "named"})
    assert experiment.name == "named"
    assert said(parsed(written(found, experiment.answers))) == said(experiment)


def test_an_answer_that_raises_a_question_is_given_together_with_the_next_one() -> None:
    text = MARKDOWN.replace("- **Llama-3.2-1B-Instruct**: `/models/Llama-3.2-1B-Instruct`", "")
    text = text.replace("- **Epochs:** 2", "- **Epochs:** two")
    found = {MD: text, LOC: LOCAL.replace("- **Conda environment**: `tune`\n", "")}
    answers: dict[str, Scalar] = {f"path of model {MODEL}": "/m", "epochs": 3, "conda_env": "x"}
    assert {answer.field for answer in parsed(found, answers).answers} == set(answers)


def test_a_question_about_both_documents_names_the_lines_of_both() -> None:
    found = with_two(MD, MARKDOWN, "time", ["1:00:00", "2:00:00"])
    found[LOC] += "- **Default time**: soon\n"
    (question,) = asked(found)
    assert (question.field, question.file, question.options) == ("time", MD, ("1:00:00", "2:00:00"))
    assert f"; remove line 5 from {LOC}" in question.where
    assert check(found) == ["time"]


def test_the_options_of_a_question_are_accepted_as_answers() -> None:
    found = with_two(MD, MARKDOWN, "warmup steps", ["16 (1B models), 8 (3B models)"])
    (question,) = asked(found)
    assert question.options == ("16", "8")
    assert parsed(found, {"num_warmup_steps": "16"}).config["num_warmup_steps"].value == 16


def test_an_invalid_value_of_one_run_raises_no_question_for_all_runs() -> None:
    text = YAML.replace("{lora_rank: 8, lr: 1e-5}", "\n      lora_rank: 8\n      lr: [1e-5, 2e-5]\n      seed: two")
    with pytest.raises(Refused) as refused:
        parsed({YML: text, LOC: LOCAL})
    assert {problem.field for problem in refused.value.problems} == {"lr", "seed"}
    assert refused.value.ask == ()


def test_only_fields_of_documents_can_be_answered() -> None:
    given = {name for name, known in PARAMETERS.items() if known.column} | {*OF_LOCAL, *OF_CONFIGURATION}
    given = (given | {"experiment_name"}) - {"model"}
    assert {name for name in PARAMETERS if answerable(name)} == given


@pytest.mark.parametrize(("rows", "listed"), [
    (("/d/a.json", "/d/b.json"), "- **Path**: `/d/a.json`\n- **Path**: `/d/b.json`"),
    (("/d/a.json", "/d/b.json"), "- **Path**: /x;y or /z.json"),
    (("a", "b"), "- **Path**: `/d/a.json`, `/d/b.json`"),
    (("five", "nine"), "- five: /d/a.json\n- **nine**: `/d/b.json`"),
    (("a", "b"), "- **Datasets:**\n  - `/d/a.json`\n  - /d/b.json"),
])  # fmt: skip
def test_listed_data_sets_that_the_rows_name_raise_no_question(rows: tuple[str, str], listed: str) -> None:
    text = MARKDOWN.replace("| Batch Size |", "| Batch Size | Dataset |", 1).replace("|---|---|", "|---|---|---|", 1)
    for row in (*rows, "-"):
        text = text.replace(" | 4 | F", f" | 4 | {row} | F", 1) if row != "-" else text.replace("- | C", "- | - | C")
    found = {MD: text.replace("- **Path**: `/data/words.json`", listed), LOC: LOCAL}
    assert asked(found) == ()
    tuned = [run for run in parsed(found).runs if run.type == "fine-tuned"]
    assert [run.parameters["dataset"].value for run in tuned] == ["/d/a.json", "/d/b.json"]


def test_a_stem_that_two_listed_data_sets_share_names_neither() -> None:
    text = MARKDOWN.replace("| Batch Size |", "| Batch Size | Dataset |", 1).replace("|---|---|", "|---|---|---|", 1)
    text = text.replace(" | 4 | F", " | 4 | a | F").replace("- | C", "- | - | C")
    found = {MD: text.replace("`/data/words.json`", "`/d/a.json`, `/e/a.json`"), LOC: LOCAL}
    assert {run.parameters["dataset"].value for run in parsed(found).runs if run.type == "fine-tuned"} == {"a"}


EPOCHS = "- **Epochs:** 2"
LAYOUTS: dict[str, tuple[str, str, str, list[str]]] = {
    "quote": (EPOCHS, "> - **Epochs:** two", "", ["epochs"]),
    "break": (EPOCHS, "- **Epochs:** two<br>three", "", ["epochs"]),
    "emphasis": (EPOCHS, "- **Epochs:** *two* or __three__", "", ["epochs"]),
    "going on": (EPOCHS, "- **Epochs:** two\n  and more", "", ["epochs"]),
    "paragraphs": (f"{EPOCHS}\n- **Seed:** 7", "Epochs: two\nSeed: x", "", ["epochs", "seed"]),
    "dash": (EPOCHS, "- **Epochs** – two", "", ["epochs"]),
    "no space": (EPOCHS, "- **Epochs:**two", "", ["epochs"]),
    "numbered": (EPOCHS, "1. **Epochs:** two\n   - **Seed:** x\n- **Seed:** 7", "", ["epochs", "seed"]),
    "commented": (EPOCHS, "<!-- - **Epochs:** 2 -->", "", ["epochs"]),
    "link": ("`/data/words.json`", "[words](/data/words.json)", "", ["dataset"]),
    "far apart": ("## Configuration", "filler\n" * 500 + "### Dataset\n\n- **Path:** /o.json\n\n## Configuration", "",
                  ["dataset"]),
    "heading": ("## Configuration\n\n### Training\n\n- **Epochs:** 2", "Configuration\n---\nText", "", ["epochs"]),
    "validation": ("- **Validation during training:** Yes", "- **Validation:** no\n- **Validation:** rarely", "",
                   ["run_val_every_n_steps"]),
    "methods": (EPOCHS, f"{EPOCHS}\n- **Recipe:** lora_finetune_single_device\n- **Method:** full", "", ["recipe"]),
    "prompt below": ('"Capitalize the word"', "\n  > same as above", "", ["system_prompt"]),
    "prompts": ('"Capitalize the word"', '"a" or "b"', "", ["system_prompt"]),
    "prompt section": ("## Configuration", "## Prompt\n\n```\n{input} ${x}\n```\n\n## Configuration", "", ["prompt"]),
    "modules": ("", "", "\n## Modules\n\n```\nmodule load 'a;b'\nmodule load gcc/13\n```\n", ["modules"]),
    "one module": ("", "", "\n## Modules\n\n- `module load a;b`\n", ["modules"]),
    "sbatch": ("", "", "\n## SLURM\n\n- time=soon\n", ["time"]),
    "cluster": ("", "", "\n## Cluster\n\n- **GPUs**: 8\n- **CPUs**: 64\n", ["gpus", "cpus_per_task"]),
    "site": ("", "", "\n## SLURM Defaults\n\n- **Account**: default\n- **Partition**: any\n", ["account", "partition"]),
}  # fmt: skip


@pytest.mark.parametrize("layout", spread(LAYOUTS, every=2))
def test_an_answer_is_written_in_the_layout_of_the_document(layout: str) -> None:
    old, new, more, fields = LAYOUTS[layout]
    assert old in MARKDOWN
    local = LOCAL.replace("- **Account**: `lab`\n", "") if layout == "site" else LOCAL
    found = {MD: MARKDOWN.replace(old, new, 1), LOC: local + more}
    for choice in (0, 1):
        assert sorted(check(found, choice)) == sorted(fields)


def test_an_answer_is_written_into_the_yaml_block_of_its_setting() -> None:
    block = "# L\n\n```yaml\nslurm:\n  time: soon\nconda_env: a\nmy_wandb_project: w\nmodules:\n  - 'a;b'\n  - c\n```\n"
    for choice in (0, 1):
        assert sorted(check({MD: MARKDOWN, LOC: block}, choice)) == ["modules", "output_dir_base", "time"]


def test_the_place_of_a_value_below_its_label_ends_before_the_blank_lines() -> None:
    text = MARKDOWN.replace("- **Epochs:** 2\n", "- **Epochs:**\n  - two x three??\n\n\nThe end\n\n")
    assert check({MD: text, LOC: LOCAL}) == ["epochs"]
