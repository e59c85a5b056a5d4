"""Follow the fix of each finding literally, as far as a machine can, and check that the finding is gone.

`CASES` produces a finding of each code whose fix names a line, a cell, an option or a step; `FOR_PEOPLE` lists the
other codes, each with the step that only a person can do.

"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.finding_codes import CODES
from scaffold_torchtune.pipeline import prepare, steps
from scaffold_torchtune.pipeline.explain import explain
from scaffold_torchtune.request import Request
from support.documents import MODEL
from support.experiments import RUNS, SUMMARY, change, make_experiment
from support.followed_fixes import Case, Step, follow, is_named, lines_of, planned

DATA = "/scratch/gpfs/LAB/ada/data/capitalization/words_4L_80P_300.json"
HERE = {DATA: "EXPERIMENT/data/words.json"}
"""A line that makes the summary name the data set in the experiment."""


def plan_of(place: Path, replace: dict[str, str] | None = None, **given: Any) -> Case:
    return Case(make_experiment(place / "sweep", replace=replace, **given))


def scaffolded(place: Path, step: Step, **given: Any) -> Case:
    experiment = make_experiment(place / "sweep", replace={"/scratch/gpfs/LAB/ada/ck-outputs": str(place / "outputs")})
    (place / "outputs").mkdir()
    assert steps.scaffold(Request(experiment)).ok
    return Case(experiment, step, given)


def with_data(place: Path, rows: list[dict[str, str]], replace: dict[str, str] | None = None) -> Case:
    case = plan_of(place, {**HERE, **(replace or {})})
    data = {"train": rows, "validation": rows[:30], "test": rows[:30]}
    (case.experiment / "data" / "words.json").write_text(json.dumps(data))
    return case


def row_replaced(old: str, new: str) -> dict[str, str]:
    return {f"{old} | 4 |": f"{new} | 4 |"}


# --- how a finding of each code is made


def missing_field(place: Path) -> Case:
    return plan_of(place, without=["- **Epochs:**"])


def ambiguous(place: Path) -> Case:
    return plan_of(place, {"- **Epochs:** 2": "- **Epochs:** 2\n- **Epochs:** 3"})


MODEL_LINE = f"- **{MODEL}**: `/scratch/gpfs/LAB/pretrained-llms/{MODEL}`"


def path_in_a_sentence(place: Path) -> Case:
    return plan_of(place, {MODEL_LINE: f"We start from `/scratch/other/{MODEL}`.\n"})


def path_of_a_model_that_no_run_uses(place: Path) -> Case:
    return plan_of(place, {MODEL_LINE: "- **Llama-3.2-1B**: `/scratch/other/Llama-3.2-1B`"})


def path_to_start_from(place: Path) -> Case:
    return plan_of(place, {"  - Size: ~2.5 GB": "  - Checkpoint to start from: /scratch/sft/epoch_1"})


def named_full(place: Path) -> Case:
    rows = {"_rank16_lr1e-5 |": "_full_ft |", **row_replaced("| 16 | 1e-5", "| - | 1e-5")}
    return plan_of(place, rows, without=["- **Recipe:**"])


def extension_missing(place: Path) -> Case:
    return plan_of(place, {DATA: "EXPERIMENT/data/words"}, without=["- Dataset:"])


def answer_differs(place: Path) -> Case:
    case = plan_of(place)
    case.given["answers"] = {"epochs": 3}
    return case


def document_unreadable(place: Path) -> Case:
    case = scaffolded(place, steps.scaffold)
    (case.experiment / ".scaffold" / "plan.json").write_text("{")
    return case


def misspelt_field(place: Path) -> Case:
    return plan_of(place, {"- **Epochs:** 2": "- **Epohcs:** 2"})


def misspelt_column(place: Path) -> Case:
    return plan_of(place, {"| LoRA Rank | Learning Rate |": "| LoRA Rnak | Learning Rate |"})


def blank_cell(place: Path) -> Case:
    return plan_of(place, row_replaced("| 8 | 5e-5", "| | 5e-5"))


def short_time(place: Path) -> Case:
    return plan_of(place, {"0:59:00": "120:00"})


def short_time_in_rows(place: Path) -> Case:
    return plan_of(place, summary=with_column("Time", ["120:00", "2:00:00", "120:00", "2:00:00"]))


def begins_anew(place: Path) -> Case:
    return plan_of(place, {"- **GPUs:** 1": "- **GPUs:** 1\n- **Requeue:** yes"})


def runs_differ(place: Path) -> Case:
    return plan_of(place, {"- **Runs:** 4 fine-tuned": "- **Runs:** 8 fine-tuned"})


def runs_differ_with_their_total(place: Path) -> Case:
    return plan_of(place, {"4 fine-tuned + 1 control = 5 total": "5 fine-tuned + 1 control = 6 total"})


def total_of_runs_differs(place: Path) -> Case:
    return plan_of(place, {"4 fine-tuned + 1 control = 5 total": "4 fine-tuned + 1 control = 6 total"})


def blank_cell_named_otherwise(place: Path) -> Case:
    return plan_of(place, row_replaced("rank8_lr5e-5 | Llama-3.2-1B-Instruct | 8 | 5e-5",
                                       "rank8_lr5e-5 | Llama-3.2-1B-Instruct | 8 |"))  # fmt: skip


def levels_differ(place: Path) -> Case:
    return plan_of(place, {"| LoRA Rank | 8, 16 |": "| LoRA Rank | 8, 16, 32 |"})


def levels_differ_in_a_sentence(place: Path) -> Case:
    return plan_of(place, {"## Tools": "All runs use a batch size of 16.\n\n## Tools"})


def levels_differ_for_want_of_a_value(place: Path) -> Case:
    return plan_of(place, {"## Tools": "All runs use gradient clipping at 1.0.\n\n## Tools"})


def samples_in_a_sentence(place: Path) -> Case:
    return plan_of(place, {**HERE, "## Tools": "We train on 200 samples.\n\n## Tools"})


def warmup_in_a_sentence(place: Path) -> Case:
    steps_of_all = {"- **Epochs:** 2": "- **Epochs:** 2\n- **Warmup steps:** 50"}
    return plan_of(place, {**HERE, **steps_of_all, "## Tools": "All runs use 10% warm-up.\n\n## Tools"})


def model_in_a_line(place: Path) -> Case:
    return plan_of(place, {"## Tools": "- **Model:** Llama-3.1-8B-Instruct\n\n## Tools"})


def value_of_no_run_in_a_sentence(place: Path) -> Case:
    return plan_of(place, {"## Tools": "Gradients are clipped at 1.0.\n\n## Tools"})


def overridden(place: Path) -> Case:
    return plan_of(place, {"- **Batch size:** 4": "- **Batch size:** 8"})


def overridden_above_blank_cells(place: Path) -> Case:
    lines = {"- **Batch size:** 4": "- **Batch size:** 4\n- **Learning rate:** 5e-5"}
    return plan_of(place, {**row_replaced("| 16 | 5e-5", "| 16 | -"), **lines})


def overridden_in_a_line_of_several_settings(place: Path) -> Case:
    return plan_of(place, {"- **Batch size:** 4": "- **Batch size:** 4\n- **LoRA:** r=16, alpha=24, dropout=0.05"})


_SIZES = {f"| 16 | {lr} | 4 |": f"| 16 | {lr} | 16 |" for lr in ("1e-5", "5e-5")}
_EFFECTIVE = "- **Epochs:** 2\n- **Effective batch size:** 16"


def effective_batch_beside_accumulation(place: Path) -> Case:
    return plan_of(place, {"- **Epochs:** 2": f"{_EFFECTIVE}\n- **Gradient accumulation:** 2"})


def effective_batch_in_a_line_of_two_settings(place: Path) -> Case:
    rows = {f"| {rank} | {lr} | 4 |": f"| {rank} | {lr} | - |" for rank in (8, 16) for lr in ("1e-5", "5e-5")}
    line = {"- **Batch size:** 4\n": "- **Batch size:** 4 (gradient accumulation 2)\n"}
    return plan_of(place, {**rows, **line, "- **Epochs:** 2": _EFFECTIVE})


def effective_batch_of_different_batches(place: Path) -> Case:
    return plan_of(place, {**_SIZES, "- **Epochs:** 2": f"{_EFFECTIVE}\n- **Gradient accumulation:** 4"},
                   without=["- **Batch size:**"])  # fmt: skip


def effective_batch_in_a_column(place: Path) -> Case:
    return plan_of(place, summary=with_column("Effective batch", ["16"] * 2 + ["32"] * 2))


def effective_batch_beside_a_column(place: Path) -> Case:
    summary = with_column("Grad accum", ["4", "4", "2", "4"])
    return plan_of(place, {"- **Epochs:** 2": f"{_EFFECTIVE}\n- **Gradient accumulation:** 8"}, summary=summary)


def with_column(name: str, values: list[str]) -> str:
    """Return the example's summary with another column in the table of runs, for the fine-tuned runs."""
    lines, rest = SUMMARY.splitlines(), iter(values)
    start = next(number for number, line in enumerate(lines) if line.startswith("| Run Name"))
    for number in range(start, start + 7):
        row = lines[number]
        cell = "-" if "| Control |" in row else next(rest) if "| Fine-tuned |" in row else "---"
        lines[number] = f"{row} {name if number == start else cell} |"
    return "\n".join(lines) + "\n"


def default_used(place: Path) -> Case:
    rows = {
        f"| {rank} | {lr} | 4 |": f"| {rank} | {lr} | {size} |"
        for size, (rank, lr) in enumerate(((8, "1e-5"), (8, "5e-5"), (16, "1e-5"), (16, "5e-5")), start=1)
    }
    summary = SUMMARY
    for old, new in rows.items():
        summary = summary.replace(old, new)
    lines = [re.sub(r"^(\|[^|]*\|[^|]*\|)[^|]*\|", r"\1", line) if line.count("|") == 8 else line
             for line in summary.splitlines()]  # fmt: skip
    return plan_of(place, summary="\n".join(line for line in lines if "| LoRA Rank | 8, 16 |" not in line))


def default_in_one_row(place: Path) -> Case:
    return plan_of(place, row_replaced("| 16 | 5e-5", "| - | 5e-5"))


def identical_runs(place: Path) -> Case:
    return plan_of(place, row_replaced("| 8 | 5e-5", "| 8 | 1e-5"))


def unsupported_setting(place: Path) -> Case:
    return plan_of(place, {"- **GPUs:** 1": "- **GPUs:** 1\n- **Beta1:** 0.8"})


def setup_choice(place: Path) -> Case:
    script = place / "kit" / "tools" / "torchtune" / "setup_finetune.py"
    script.parent.mkdir(parents=True)
    script.write_text("")
    return plan_of(place, {"/home/ada/cruijff_kit": str(place / "kit")})


def setup_script_missing(place: Path) -> Case:
    case = plan_of(place)
    case.given["setup_script"] = str(place / "none.py")
    return case


def data_mismatch(place: Path) -> Case:
    return with_data(place, [{"tweet": f"a {number}", "output": "b"} for number in range(240)])


def unread_column(place: Path) -> Case:
    rows = [{"title": "a", "output": "b", "question": f"what {number}"} for number in range(240)]
    return with_data(place, rows, {"- **GPUs:** 1": "- **GPUs:** 1\n- **Input key:** title"})


def samples_cut(place: Path) -> Case:
    rows = [{"input": "word " * 4000, "output": "Word"}] + [{"input": "word", "output": "Word"}] * 239
    return with_data(place, rows)


def two_data_sets(place: Path, small: list[dict[str, str]], large: list[dict[str, str]], line: str) -> Case:
    """Return the example with a data set for the runs of rank 8 and a larger one for the others, and one more line."""
    summary = with_column("Dataset", ["a", "a", "b", "b"])
    case = plan_of(place, {"- **Epochs:** 2": f"- **Epochs:** 2\n{line}"}, summary=summary)
    text = case.summary.read_text()
    for name, rows in (("a", small), ("b", large)):
        data = {"train": rows, "validation": rows[:5], "test": rows[:5]}
        (case.experiment / "data" / f"{name}.json").write_text(json.dumps(data))
        text = text.replace(f"| {name} |", f"| {case.experiment}/data/{name}.json |")
    case.summary.write_text(text)
    return case


def samples_cut_in_two_data_sets(place: Path) -> Case:
    short, long = ([{"input": "word " * count, "output": "Word"}] + [{"input": "word", "output": "Word"}] * 239
                   for count in (3000, 9000))  # fmt: skip
    return two_data_sets(place, short, long, "- **Warmup steps:** 2")


def samples_cut_in_runs_of_two_models(place: Path) -> Case:
    case = samples_cut(place)
    text = case.summary.read_text()
    for line in [line for line in text.splitlines() if "_rank16_" in line]:
        text = text.replace(line, line.replace("Llama-3.2-1B-Instruct", "Llama-3.1-8B-Instruct"))
    path = next(line for line in text.splitlines() if line.startswith("- **Llama-3.2-1B-Instruct**"))
    case.summary.write_text(text.replace(path, f"{path}\n{path.replace('3.2-1B', '3.1-8B')}"))
    return case


def split_differs_in_two_data_sets(place: Path) -> Case:
    rows = [{"input": f"word {number}", "output": "Word"} for number in range(100)]
    return two_data_sets(place, rows[:60], rows, "- **Training samples:** 500\n- **Warmup steps:** 2")


def columns_missing_in_two_data_sets(place: Path) -> Case:
    one, other = ([{name: f"word {number}", "output": "Word"} for number in range(100)] for name in ("tweet", "post"))
    return two_data_sets(place, one, other, "- **Warmup steps:** 2")


def split_differs(place: Path) -> Case:
    return plan_of(place, {**HERE, "- **Epochs:** 2": "- **Epochs:** 2\n- **Training samples:** 500"})


def no_steps(place: Path) -> Case:
    rows = {f"| {rank} | {lr} | 4 |": f"| {rank} | {lr} | 400 |" for rank in (8, 16) for lr in ("1e-5", "5e-5")}
    return plan_of(place, {**HERE, **rows, "- **Batch size:** 4\n": ""})


def no_steps_of_some(place: Path) -> Case:
    sizes = {"| 16 | 1e-5 | 4 |": "| 16 | 1e-5 | 16 |", "| 16 | 5e-5 | 4 |": "| 16 | 5e-5 | 8 |"}
    lines = {"- **Epochs:** 2": "- **Epochs:** 2\n- **Gradient accumulation:** 40\n- **Warmup steps:** 0"}
    return plan_of(place, {**HERE, **sizes, **lines, "- **Batch size:** 4\n": ""})


def long_warmup_of_all(place: Path) -> Case:
    sizes = {"| 8 | 5e-5 | 4 |": "| 8 | 5e-5 | 6 |", "| 16 | 1e-5 | 4 |": "| 16 | 1e-5 | 8 |",
             "| 16 | 5e-5 | 4 |": "| 16 | 5e-5 | 16 |"}  # fmt: skip
    lines = {"- **Epochs:** 2": "- **Epochs:** 2\n- **Warmup steps:** 61", "- **Batch size:** 4\n": ""}
    return plan_of(place, {**HERE, **sizes, **lines})


def long_warmup_by_ratio(place: Path) -> Case:
    return plan_of(place, {**HERE, "- **Epochs:** 2": "- **Epochs:** 2\n- **Warmup ratio:** 0.6"})


def long_warmup(place: Path) -> Case:
    return plan_of(place, HERE)


def long_warmup_of_some(place: Path) -> Case:
    rows = {"| 16 | 1e-5 | 4 |": "| 16 | 1e-5 | 2 |", "| 16 | 5e-5 | 4 |": "| 16 | 5e-5 | 2 |"}
    epochs = {"- **Epochs:** 2": "- **Epochs:** 3\n- **Warmup steps:** 100", "- **Batch size:** 4\n": ""}
    return plan_of(place, {**HERE, **rows, **epochs})


def odd_value(place: Path) -> Case:
    case = plan_of(place)
    rows = [line for line in lines_of(case.summary) if "_rank16_" in line]
    more = [line.replace("rank16", "rank32").replace("| 16 |", "| 32 |") for line in rows]
    more[1] = more[1].replace("| 5e-5 |", "| 6e-5 |")
    change(case.summary, rows[-1], "\n".join([rows[-1], *more]))
    return case


def disk_space(place: Path) -> Case:
    return plan_of(place)


def time_limit(place: Path) -> Case:
    rows = [{"input": "word " * 300, "output": "Word " * 50}] * 10_000
    models = {"gpu80": "a100", "0:59:00": "0:01:00", "train (240 samples)": "train (10000 samples)"}
    return with_data(place, rows, models)


def time_below_the_estimate(place: Path) -> Case:
    return plan_of(place, {"0:59:00": "0:05:00"})


def node_memory(place: Path) -> Case:
    return plan_of(place, {"- **Batch size:** 4": "- **Batch size:** 4\n- **Memory:** 4G"})


def outside_roots(place: Path) -> Case:
    case = plan_of(place)
    case.given["roots"] = (place / "elsewhere",)
    return case


def started_run(place: Path) -> Case:
    case = scaffolded(place, steps.plan)
    (case.experiment / RUNS[0] / "slurm-1.out").write_text("training\n")
    change(case.summary, "- **Epochs:** 2", "- **Epochs:** 5")
    return case


def edited_output(place: Path) -> Case:
    case = scaffolded(place, steps.render)
    change(case.experiment / RUNS[0] / "setup_finetune.yaml", "epochs: 2", "epochs: 4")
    change(case.summary, "- **Epochs:** 2", "- **Epochs:** 5")
    return case


def not_rendered(place: Path) -> Case:
    return Case(make_experiment(place / "sweep"), steps.setup)


def plan_outdated(place: Path) -> Case:
    case = scaffolded(place, steps.validate)
    change(case.summary, "- **Epochs:** 2", "- **Epochs:** 5")
    return case


def unknown_name(place: Path) -> Case:
    return scaffolded(place, lambda request: explain(request, "rank9", None))


def unknown_key(place: Path) -> Case:
    case = plan_of(place)
    file = place / "setup.yaml"
    file.write_text("seed: 7\nnot_a_key_at_all: 3\n")
    case.given["template"] = file
    return case


def no_labels(place: Path) -> Case:
    rows = [{"input": "word " * 4000, "output": "Word"}] * 240
    return with_data(place, rows)


def unread_setting(place: Path) -> Case:
    return plan_of(place, {**HERE, "- **GPUs:** 1": "- **GPUs:** 1\n- **Epochs to save:** all"})


def own_recipe(place: Path) -> Case:
    case = plan_of(place, without=["- **Recipe:**"])
    file = place / "setup.yaml"
    file.write_text("seed: 7\ncustom_recipe: lab.recipes.own\n")
    case.given["template"] = file
    return case


def missing_file(place: Path) -> Case:
    case = scaffolded(place, steps.validate)
    (case.experiment / RUNS[0] / "finetune.yaml").unlink()
    return case


def edited(place: Path, name: str, old: str, new: str) -> Case:
    """Return an experiment to validate, of which a file of the first run has been edited."""
    case = scaffolded(place, steps.validate)
    change(case.experiment / RUNS[0] / name, old, new)
    return case


def value_mismatch(place: Path) -> Case:
    return edited(place, "finetune.yaml", "epochs: 2", "epochs: 3")


def value_mismatch_in_setup_finetune_yaml(place: Path) -> Case:
    return edited(place, "setup_finetune.yaml", "epochs: 2", "epochs: 3")


def name_mismatch(place: Path) -> Case:
    return edited(place, "finetune.yaml", "  lora_rank: 8", "  lora_rank: 16")


def unplanned_value(place: Path) -> Case:
    return edited(place, "finetune.slurm", "#SBATCH --time", "#SBATCH --exclusive\n#SBATCH --time")


def changed_setup_finetune_yaml(place: Path) -> Case:
    return edited(place, "setup_finetune.yaml", "epochs: 2", "epochs: 2  # a remark")


def changed_output(place: Path) -> Case:
    case = scaffolded(place, steps.validate)
    file = case.experiment / RUNS[0] / "finetune.yaml"
    file.write_text(file.read_text() + "# mine\n")
    return case


def name_collision(place: Path) -> Case:
    rows = [
        {"input": "a", "output": "b"},
    ] * 240
    case = plan_of(place)
    for folder in ("one", "two"):
        (case.experiment / folder).mkdir()
        (case.experiment / folder / "words.json").write_text(json.dumps({"train": rows}))
    text = (
        case.summary.read_text()
        .replace("| Type |", "| Type | Dataset |")
        .replace("|------|-----------|\n", "|------|-----|-----------|\n")
    )
    runs = [line for line in text.splitlines() if "| Fine-tuned |" in line]
    for number, line in enumerate(runs):
        data = f"{case.experiment}/{('one', 'two')[number % 2]}/words.json"
        new = line.replace("| Fine-tuned |", f"| Fine-tuned | {data} |").replace("| 5e-5 |", "| 1e-5 |")
        text = text.replace(line, new)
    case.summary.write_text(text.replace("| Control |", "| Control | - |"))
    return case


def duplicate_column(place: Path) -> Case:
    text = SUMMARY.replace("| Batch Size |", "| Batch Size | BS |").replace(
        "|------------|------|", "|-----|------------|------|"
    )
    text = text.replace("| 4 | Fine-tuned", "| 4 | 4 | Fine-tuned").replace("| - | Control", "| - | - | Control")
    return plan_of(place, summary=text)


PATTERN = "`ck-out-{run_name}/epoch_{N}`"


def naming_of_outputs(place: Path) -> Case:
    return plan_of(place, {PATTERN: "`{model}-r{rank}-lr{lr}/epoch_{N}`"})


def naming_of_directories(place: Path) -> Case:
    return plan_of(place, {f"- **Naming pattern:** {PATTERN}": "- **Run directories:** r[rank]_lr[lr]"})


def naming_by_run_name(place: Path) -> Case:
    return plan_of(place)


CASES: dict[str, tuple[Callable[[Path], Case], ...]] = {
    "missing-field": (missing_field,), "ambiguous": (
        ambiguous, path_in_a_sentence, path_of_a_model_that_no_run_uses, path_to_start_from, named_full,
        effective_batch_beside_accumulation, effective_batch_in_a_line_of_two_settings,
        effective_batch_of_different_batches, effective_batch_in_a_column, effective_batch_beside_a_column,
    ),
    "unsupported-format": (extension_missing,), "answer-differs": (answer_differs,),
    "document-unreadable": (document_unreadable,), "misspelt-field": (misspelt_field, misspelt_column),
    "duplicate-column": (duplicate_column,), "blank-cell": (blank_cell, blank_cell_named_otherwise),
    "short-time": (short_time, short_time_in_rows),
    "begins-anew": (begins_anew,),
    "runs-differ": (runs_differ, runs_differ_with_their_total, total_of_runs_differs),
    "levels-differ": (
        levels_differ, levels_differ_in_a_sentence, levels_differ_for_want_of_a_value, samples_in_a_sentence,
        warmup_in_a_sentence, model_in_a_line, value_of_no_run_in_a_sentence,
    ),
    "overridden": (
        overridden, overridden_above_blank_cells, overridden_in_a_line_of_several_settings,
    ),
    "default-used": (default_used, default_in_one_row),
    "identical-runs": (identical_runs,), "name-collision": (name_collision,),
    "naming-differs": (naming_of_outputs, naming_of_directories, naming_by_run_name),
    "unsupported-setting": (unsupported_setting,),
    "setup-choice": (setup_choice,), "setup-script-missing": (setup_script_missing,),
    "data-mismatch": (data_mismatch, columns_missing_in_two_data_sets), "unread-column": (unread_column,),
    "samples-cut": (samples_cut, samples_cut_in_two_data_sets, samples_cut_in_runs_of_two_models),
    "split-differs": (split_differs, split_differs_in_two_data_sets),
    "no-steps": (no_steps, no_steps_of_some),
    "long-warmup": (long_warmup, long_warmup_of_some, long_warmup_of_all, long_warmup_by_ratio),
    "odd-value": (odd_value,), "disk-space": (disk_space,),
    "time-limit": (time_limit, time_below_the_estimate), "node-memory": (node_memory,),
    "outside-roots": (outside_roots,), "started-run": (started_run,), "edited-output": (edited_output,),
    "not-rendered": (not_rendered,), "plan-outdated": (plan_outdated,), "unknown-name": (unknown_name,),
    "unknown-key": (unknown_key,), "no-labels": (no_labels,), "unread-setting": (unread_setting,),
    "own-recipe": (own_recipe,), "missing-file": (missing_file,),
    "changed-output": (changed_output, changed_setup_finetune_yaml), "unplanned-value": (unplanned_value,),
    "value-mismatch": (value_mismatch, value_mismatch_in_setup_finetune_yaml), "name-mismatch": (name_mismatch,),
}  # fmt: skip

_NOTHING = "a note that needs no action, unless the author had a different intention"
_MEANT = "only the author knows the intended value"
_FILES = "files of models or data must be replaced"
_MACHINE = "something must be installed or selected on the machine"
_SCRIPT = "the user's own setup script must be corrected"
_LOOK = "a person must look at the obstacle, or wait"
_JOB = "a job must run again, or a person must look at its output"
_CLUSTER = "a cluster must answer; tests/pipeline/test_submit*.py and tests/slurm repeat the command"
_PASTED = "tests/parse/test_full_grid.py pastes the table, and the finding is gone"
_CAUSE = "the cause is in the setup script or template that wrote the file"

FOR_PEOPLE = {
    _NOTHING: (
        "name-from-title", "two-summaries", "unused-column", "unused-field", "ignored-remark", "script-writes",
        "submitted-with", "not-seen", "incomplete-factorial", "confound", "estimate", "kept-run", "left-over-run",
        "edit-kept", "changed-meanwhile", "defaults-unchosen", "sbatch-unavailable", "torchtune-unasked",
        "torchtune-agrees", "default-differs", "unproven-setting",
    ),
    _MEANT: (
        "not-a-summary", "document-missing", "invalid-value", "malformed-table", "unused-row", "unknown-model",
        "wrong-experiment-dir", "unsafe-name", "untrained-tokens", "seed-effect",
        "unusual-value", "tied-run", "mixed-runs", "copied-scaffold", "wrong-recipe",
        "output-taken", "output-in-checkpoint", "output-not-directory", "other-state", "missing-template",
        "not-a-directory",
    ),
    _FILES: ("empty-texts", "checkpoint-mismatch", "gpu-memory"),
    _MACHINE: (
        "modules-missing", "module-missing", "conda-missing", "environment-missing", "activation-failed",
        "package-missing", "sbatch-refused", "torchtune-missing", "torchtune-unanswered", "write-failed",
        "verdict-unlogged",
    ),
    _SCRIPT: ("script-unasked", "setup-would-fail", "untaken-setting", "setup-failed"),
    _LOOK: ("unsafe-path", "busy", "internal-error", "history-damaged", "nothing-checked", "report-outdated"),
    _PASTED: ("full-grid",),
    _JOB: (
        "job-gpu-memory", "job-node-memory", "job-time-limit", "job-no-space", "job-not-writable", "job-environment",
        "job-gpu-unusable", "job-nccl", "job-data", "job-checkpoint", "job-config", "job-network", "job-wandb",
        "job-nan-loss", "job-preempted", "job-node-failure", "job-cancelled", "job-failed", "epochs-missing",
    ),
    _CLUSTER: (
        "not-confirmed", "submit-unavailable", "queue-unknown", "submit-refused", "submit-unanswered", "still-held",
        "runs-changed", "outcome-unseen", "variable-ignored",
    ),
    _CAUSE: (
        "template-error", "render-mismatch", "unreadable-file", "missing-value", "stale-output", "wrong-type",
        "duplicate-directive", "late-directive", "placeholder-left", "torchtune-refused", "lora-differs",
    ),
}  # fmt: skip
"""The codes whose fix no machine can follow, by the reason."""


@pytest.fixture(autouse=True)
def small_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the free space that the tests need and hide the SLURM of the machine."""
    free = 5 * 10**9 if "disk_space" in request.node.name else 10**15
    monkeypatch.setattr(prepare, "free_bytes", lambda _directory: free)
    monkeypatch.setenv("SCAFFOLD_TORCHTUNE_SBATCH", "off")


@pytest.mark.parametrize(
    ("code", "make"),
    [
        pytest.param(code, make, id=make.__name__, marks=() if number % 4 == 0 else pytest.mark.long)
        for number, (code, make) in enumerate((code, make) for code, several in CASES.items() for make in several)
    ],
)
def test_following_a_fix_ends_its_finding(code: str, make: Callable[[Path], Case], tmp_path: Path) -> None:
    case = make(tmp_path)
    before = case.findings()
    found = [each for each in before if each.code == code]
    assert found, [(each.code, each.message) for each in before]
    runs = planned(case)
    match = follow(case, found[0])
    after = case.findings()
    if runs and code == "overridden":
        kept = [
            [{name: each.value for name, each in run.settings.items()} for run in of] for of in (runs, planned(case))
        ]
        assert kept[0] == kept[1], "the rows are correct"
    if runs and {"lines", "cells"} & match.groupdict().keys():
        pairs = zip(runs, planned(case), strict=True)
        differ = [old for old, new in pairs if any(old.value(name) != new.value(name) for name in new.parameters)]
        assert [run.directory for run in differ if not is_named(run, match)] == [], "other rows keep their values"
    left = [each for each in after if each.code == code and each.field == found[0].field]
    assert not left, (found[0].fix, [each.sentence() for each in left])
    worse = {each.code for each in after if each.severity == "error"} - {each.code for each in before}
    assert not worse, "the fix does no harm"


def test_every_code_is_followed_here_or_for_people() -> None:
    people = [code for codes in FOR_PEOPLE.values() for code in codes]
    assert len(people) == len({*people})
    assert not {*people} & {*CASES}
    assert {*people} | {*CASES} == {*CODES}
