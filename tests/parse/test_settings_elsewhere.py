"""Settings in sections and tables other than Configuration: read if they are clear, else refused."""

from typing import Any

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Refused, Scalar
from scaffold_torchtune.parse import parse_experiment
from support.documents import LOCAL, SUMMARY, local_md, parsed, planned, refusal, runs, summary, table, told, values_of
from support.sampling import spread

NO_LINES: dict[str, str | None] = {"Epochs": None, "Batch size": None}


@pytest.mark.parametrize("title", ["Setup", "Experimental Setup", "Settings", "Training details", "2. Parameters"])
@pytest.mark.parametrize(
    "header", [["Parameter", "Value"], ["Setting", "Value", "Note"], ["Hyperparameter", "Default"]]
)
def test_a_table_of_settings_is_read_below_a_different_title(title: str, header: list[str]) -> None:
    rows = [["Epochs", "3", "few"], ["Batch size", "8", ""], ["Seed", "7", ""]]
    text = summary(training=NO_LINES, extra=f"## {title}\n\n{table(header, [row[: len(header)] for row in rows])}")
    assert values_of(text, "epochs", "batch_size", "seed") == [3, 8, 7]


def test_a_table_without_a_header_row_is_read_completely() -> None:
    text = summary(training=NO_LINES, extra="## Setup\n\n" + table(["Epochs", "3"], [["Batch size", "8"]]))
    assert values_of(text, "epochs", "batch_size") == [3, 8]
    text = summary(extra="## Setup\n\n" + table(["Method", "QLoRA"], [["Optimizer", "SGD"], ["Seed", "7"]]))
    assert {(p.code, p.field) for p in refusal(parsed, text)} == {
        ("unsupported-setting", "method"), ("unsupported-setting", "optimizer"),
    }  # fmt: skip


@pytest.mark.parametrize("title", ["SLURM", "Compute", "Job settings", "Compute Resources", "Resource requirements"])
@pytest.mark.parametrize("as_table", ["Key", "Resource", ""])
def test_job_settings_are_read_in_a_section_about_them(title: str, as_table: str) -> None:
    pairs = [["Account", "lab2"], ["Partition", "gpu"], ["QOS", "high"], ["Time limit", "4:00:00"], ["Contact", "Ada"]]
    lines = table([as_table, "Value"], pairs) if as_table else "".join(f"- **{k}:** {v}\n" for k, v in pairs)
    text = summary(extra=f"## {title}\n\n{lines}")
    assert values_of(text, "account", "partition", "qos", "time") == ["lab2", "gpu", "high", "4:00:00"]


@pytest.mark.parametrize("title", ["## Weights & Biases", "## W&B", "## Configuration\n\n### Weights and Biases"])
def test_a_section_about_weights_and_biases_is_read(title: str) -> None:
    lines = "- **Mode:** online\n- **Project:** other\n- **Entity:** team\n- **Runs:** see the page\n"
    plan = planned(summary(extra=f"{title}\n\n{lines}"), local_md(my_wandb_project=None))
    said = [plan.runs[0].value(name) for name in ("wandb_mode", "my_wandb_project", "wandb_entity")]
    assert said == ["online", "other", "team"]
    mode = table(["Setting", "Value"], [["Mode", "disabled"]])
    assert values_of(summary(extra=f"{title}\n\n{mode}"), "wandb_mode") == ["disabled"]
    (found,) = refusal(parsed, summary(extra=f"{title}\n\n- **Mode:** sometimes\n"))
    assert (found.field, found.code) == ("wandb_mode", "invalid-value")


def test_a_section_about_jobs_overrides_claude_local_md_and_this_is_reported() -> None:
    local = local_md() + "\n## SLURM Defaults\n\n- **Account:** lab\n"
    plan = planned(summary(extra="## SLURM\n\n- **Account:** lab2\n"), local)
    assert plan.runs[0].value("account") == "lab2"
    assert [w.code for w in plan.warnings if w.severity is Severity.WARNING] == ["overridden"]
    (found,) = refusal(parsed, summary(extra="## SLURM\n\n- **Nodes:** 2\n", training={"Nodes": "1"}))
    assert (found.code, found.field) == ("ambiguous", "nodes")


@pytest.mark.parametrize(
    ("label", "value", "field"),
    [
        ("Account", "lab2", "account"), ("Partition", "gpu", "partition"), ("QOS", "high", "qos"),
        ("GPUs", "4", "gpus"),
        ("Constraint", "gpu80", "constraint"), ("Time limit", "4:00:00", "time"), ("Nodes", "2", "nodes"),
        ("Reservation", "course", "reservation"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["- **{}:** {}", "| Key | Value |\n|---|---|\n| {} | {} |", "{}: {}"])
def test_a_setting_elsewhere_that_differs_from_the_plan_is_refused_at_its_line(
    label: str, value: str, field: str, form: str
) -> None:
    line = form.format(label, value).splitlines()[-1]
    text = summary(extra=f"## Overview\n\n{form.format(label, value)}\n")
    (found,) = refusal(parsed, text)
    assert (found.code, found.field, found.line) == ("misspelt-field", field, text.splitlines().index(line) + 1)
    said = summary(extra=f"## Overview\n\n{form.format(label, value)}\n", training={label: value})
    if field != "nodes":
        assert values_of(said, field)


@pytest.mark.parametrize(
    ("title", "line"),
    [
        ("Overview", "- **Time:** 3 days"),
        ("Overview", "- **Memory:** 64G"),
        ("Hardware", "- **GPUs:** 8"),
        ("Cluster", "- **Partition:** gpu"),
        ("Infrastructure", "| GPUs | 8 |"),
    ],
)
def test_an_estimate_or_a_description_of_a_machine_is_a_warning(title: str, line: str) -> None:
    (found,) = [w for w in planned(summary(extra=f"## {title}\n\n{line}\n")).warnings if w.severity is Severity.WARNING]
    assert found.code == "unused-field"


@pytest.mark.parametrize(
    "text",
    [
        "## Evaluation\n\n- **GPUs:** 8\n- **Partition:** cpu\n", "## Overview\n\n- **GPUs:** 1\n- **Account:** TODO\n",
        "## Overview\n\n- **Runs:** 2 fine-tuned\n- **GPUs:** see the table\n",
    ],
)  # fmt: skip
def test_a_matching_or_empty_statement_has_no_warning(text: str) -> None:
    assert [w for w in planned(summary(extra=text)).warnings if w.severity is Severity.WARNING] == []


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        (["Account", "Partition"], [["lab", "gpu"]]), (["Account", "lab"], [["Time", "2:00:00"]]),
        (["Job", "Value"], [["Account", "lab"]]),
    ],
)  # fmt: skip
def test_an_unknown_table_below_slurm_defaults_is_refused(header: list[str], rows: list[list[str]]) -> None:
    local = local_md() + f"\n## SLURM Defaults\n\n{table(header, rows)}"
    assert told(refusal(parsed, summary(), local)) == [("misspelt-field", "table", LOCAL, 9)]


@pytest.mark.parametrize(
    ("header", "told_as"),
    [(["Parameter", "1B", "3B"], "misspelt-field"), (["Parameter", "LoRA", "Full"], "misspelt-field"),
     (["Parameter", "Ours", "Note"], None), (["Parameter", "Value", "Range"], None)],
)  # fmt: skip
def test_a_table_with_several_values_for_each_setting_is_refused(header: list[str], told_as: str | None) -> None:
    text = summary(training={"Batch size": None}, extra="## Setup\n\n" + table(header, [["Batch size", "16", "8"]]))
    if told_as is None:
        assert values_of(text, "batch_size") == [16]
        return
    found = [(p.code, p.line) for p in refusal(parsed, text)]
    assert (told_as, text.splitlines().index("| " + " | ".join(header) + " |") + 1) in found


@pytest.mark.parametrize(
    ("header", "rows", "expected"),
    [
        (["Default", "Used"], [["1", "3"], ["0.01", "0.1"]], [3, 0.1]),
        (["Default", "Ours"], [["1", "3"], ["0.01", "0.1"]], [3, 0.1]),
        (["Ours", "Default"], [["3", "1"], ["0.1", "0.01"]], [3, 0.1]),
        (["Values", "Selected"], [["1, 3", "3"], ["0.01, 0.1", "0.1"]], [3, 0.1]),
        (["Ours", "Paper"], [["3", "1"], ["0.1", "0.01"]], [3, 0.1]),
        (["Value", "Used"], [["3", "yes"], ["0.1", "yes"]], [3, 0.1]),
        (["Value", "Paper"], [["3", "1"], ["0.1", "0.01"]], [3, 0.1]),
        (["Value", "Unit"], [["3", ""], ["0.1", ""]], [3, 0.1]),
        (["Value", "Why this one"], [["3", "1 is taken"], ["0.1", "run_1 of the pilot"]], [3, 0.1]),
        (["Value", "Applies to"], [["3", "all runs"], ["0.1", "all runs"]], [3, 0.1]),
        (["Value", "Big"], [["3", "3"], ["0.1", "-"]], [3, 0.1]),
        (["Value", ""], [["3", "usual"], ["0.1", ""]], [3, 0.1]),
    ],
)  # fmt: skip
def test_the_column_of_the_values_in_use_is_read(
    header: list[str], rows: list[list[str]], expected: list[Scalar]
) -> None:
    cells = [[label, *row] for label, row in zip(["Seed", "Weight decay"], rows, strict=True)]
    assert (
        values_of(summary(extra="## Setup\n\n" + table(["Parameter", *header], cells)), "seed", "weight_decay")
        == expected
    )


@pytest.mark.parametrize("section", ["Setup", "Compute"])
@pytest.mark.parametrize(
    ("header", "row"),
    [
        (["Value", "run_2"], ["3", "4"]), (["Value", "Exceptions"], ["3", "4 for run_2"]),
        (["Value", "Exceptions"], ["3", "run_2"]), (["Value", "Full FT"], ["3", "4"]),
        (["Default", "Override"], ["3", "4"]), (["Value", "Used"], ["3", "4"]), (["Value", "Default"], ["3", "4"]),
        (["Value", "More"], ["3", "run_2: 4"]), (["Value", "Applies to"], ["3", "run_2"]),
        (["Default", "Used"], ["3", "-"]), (["Value", "Big"], ["-", "4"]), (["Old", "New"], ["3", "4"]),
    ],
)  # fmt: skip
def test_a_table_of_settings_with_another_column_of_values_is_refused(
    section: str, header: list[str], row: list[str]
) -> None:
    text = summary(extra=f"## {section}\n\n" + table(["Parameter", *header], [["GPUs", *row], ["Contact", "Ada", "x"]]))
    line = text.splitlines().index(f"| Parameter | {' | '.join(header)} |") + 1
    assert ("misspelt-field", "configuration", SUMMARY, line) in told(refusal(parsed, text))


@pytest.mark.parametrize(
    ("label", "value", "field", "expected"),
    [
        ("Time limit per run", "6 h", "time", "6:00:00"), ("Time limit per job", "6:00:00", "time", "6:00:00"),
        ("Walltime (per run)", "6 h", "time", "6:00:00"), ("GPUs per run", "2", "gpus", 2),
        ("Number of GPUs per job", "2", "gpus", 2), ("Memory per job", "64 GB", "mem", "64G"),
        ("CPUs per run", "8", "cpus_per_task", 8),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["- **{}:** {}", "{}: {}", "| Setting | Value |\n|---|---|\n| {} | {} |"])
@pytest.mark.parametrize("title", ["Setup", "Compute"])
def test_a_label_may_say_that_it_is_of_each_job(
    label: str, value: str, field: str, expected: Scalar, form: str, title: str
) -> None:
    assert values_of(summary(extra=f"## {title}\n\n{form.format(label, value)}\n"), field) == [expected]


@pytest.mark.parametrize(
    ("label", "warns"),
    [
        ("Time limit for each run", True), ("Memory of every single job", True), ("Epochs for each run", True),
        ("Time for all of the runs", False), ("The time it takes per run", False),
        ("Estimated time for each run", False),
    ],
)  # fmt: skip
def test_a_long_label_of_a_setting_of_each_run_is_not_prose(label: str, warns: bool) -> None:
    text = summary(training={label: "6"})
    found = [(w.code, w.field) for w in planned(text).warnings if w.severity is Severity.WARNING]
    assert found == ([("unused-field", label)] if warns else [])


LISTED = [
    ("Setup", "- AdamW, weight decay 0.1", {"weight_decay": 0.1}),
    ("Setup", "- AdamW with weight decay 0.1 and lr 1e-4", {"weight_decay": 0.1, "lr": 1e-4}),
    ("Setup", "- max. sequence length 512", {"max_seq_len": 512}),
    ("Setup", "- Time limit 6 h", {"time": "6:00:00"}), ("Setup", "- 2 × A100", {"gpus": 2}),
    ("Setup", "- 2 GPUs, 6 h, 64 GB", {"gpus": 2, "time": "6:00:00", "mem": "64G"}),
    ("Setup", "- Seed — 5", {"seed": 5}), ("Setup", "- Weight decay – 0.1", {"weight_decay": 0.1}),
    ("Setup", "- Warm-up 20 steps", {"num_warmup_steps": 20}), ("Setup", "- packing on", {"packed": True}),
    ("Setup", "Seed 5, weight decay 0.1, max. length 512.", {"seed": 5, "weight_decay": 0.1, "max_seq_len": 512}),
    ("Configuration > Optimizer", "- AdamW, weight decay 0.1", {"weight_decay": 0.1}),
    ("Compute", "- 4 × A100, 24 h, 128 GB, partition gpu-long",
     {"gpus": 4, "time": "24:00:00", "mem": "128G", "partition": "gpu-long"}),
    ("Compute", "- 2x H100 per run, 3 hours, 64G RAM", {"gpus": 2, "time": "3:00:00", "mem": "64G"}),
    ("Compute", "- 2 × A100 80 GB\n- 3 hours\n- 64G RAM", {"gpus": 2, "time": "3:00:00", "mem": "64G"}),
    ("Compute", "Each run gets 3 hours on two H100s with 64 GB of memory and 8 CPUs.",
     {"time": "3:00:00", "gpus": 2, "mem": "64G", "cpus_per_task": 8}),
    ("Compute", "All jobs: one node, 4 A100s, partition `gpu-long`, account `nlp`.",
     {"gpus": 4, "partition": "gpu-long", "account": "nlp"}),
]  # fmt: skip


@pytest.mark.parametrize(("title", "lines", "expected"), LISTED, ids=[lines for _, lines, _ in LISTED])
def test_a_line_that_lists_settings_without_colons_is_compared_with_the_runs(
    title: str, lines: str, expected: dict[str, Scalar]
) -> None:
    section, _, below = title.partition(" > ")
    text = summary(extra=f"## {section}\n\n" + (f"### {below}\n\n" if below else "") + f"{lines}\n")
    try:
        found = [w for w in planned(text).warnings if w.severity is Severity.WARNING]
    except Refused as refused:  # a list after a label is a clear statement
        found = [*refused.problems]
    first = text.splitlines().index(lines.splitlines()[0]) + 1
    assert {w.code for w in found} <= {"levels-differ", "ambiguous"}
    assert {w.field: w.actual for w in found} == expected
    assert {w.line for w in found} <= set(range(first, first + len(lines.splitlines())))


@pytest.mark.parametrize(
    ("title", "line"),
    [
        ("Setup", "- AdamW, weight decay 0.01"), ("Setup", "- Time limit 15 min"), ("Setup", "- 1 × A100"),
        ("Setup", "- Seed — 14"), ("Setup", "- max. sequence length 2048"), ("Setup", "- learning rate 1e-5, cosine"),
        ("Setup", "The pilot used seed 5, weight decay 0.1."), ("Setup", "- If memory is short, batch size 2"),
        ("Setup", "Longer runs fit with batch size 2."), ("Setup", "- We account for memory and partition data"),
        ("Setup", "- about 3 h, 64 GB"), ("Setup", "- 10 % warm-up of all people"),
        ("Compute", "- 1 × A100, 80 GB"), ("Compute", "- two machines with 4 × A100 each, 512 GB"),
        ("Compute", "The cluster has 8 A100, 512 GB."), ("Compute", "- 4 A100s (one per run), 2 h in total"),
        ("Compute", "- 2 h (estimated)"), ("Compute", "- partition of the data"),
        ("Compute", "- Cluster: 8 A100, 24 h"),
        ("Evaluation", "- 4 × A100, 24 h, 128 GB"), ("Overview", "- 4 × A100, 24 h, 128 GB"),
    ],
)  # fmt: skip
def test_a_line_without_colons_that_agrees_or_is_about_something_else_has_no_warning(title: str, line: str) -> None:
    assert values_of(summary(extra=f"## {title}\n\n{line}\n"), "gpus") == [1]


@pytest.mark.parametrize(
    ("block", "field", "value"),
    [
        ("```yaml\nlora_dropout: 0\nseed: 3\n```", "seed", 3), ("    seed = 3", "seed", 3),
        ("```\npartition: gpu\n```", "partition", "gpu"), ("~~~\nwandb_mode: online\n~~~", "wandb_mode", "online"),
    ],
)  # fmt: skip
def test_a_setting_in_a_block_of_code_is_refused_because_of_the_block(block: str, field: str, value: Scalar) -> None:
    text = summary(extra=f"## Configuration\n\n{block}\n")
    (found,) = refusal(parsed, text)
    line = next(i for i, row in enumerate(text.splitlines(), start=1) if row.lstrip().startswith(field))
    assert (found.field, found.actual, found.line) == (field, value, line)
    assert "block of code" in found.message
    assert values_of(summary(training={field: str(value)}, extra=f"## Configuration\n\n{block}\n"), field) == [value]
    (found,) = refusal(parsed, summary(extra=f"## Overview\n\n{field}: {value}\n"))
    assert "block of code" not in found.message


def test_a_table_of_costs_below_compute_is_not_settings() -> None:
    costs = table(["Model", "GPUs", "Hours"], [["1B", "4", "2"], ["3B", "8", "9"]])
    assert values_of(summary(extra=f"## Compute\n\n{costs}"), "gpus") == [1]


def test_settings_of_some_jobs_are_refused() -> None:
    text = summary(extra="## Compute\n\n- **Account:** lab\n\n### run_2\n\n- **GPUs:** 2\n")
    line = text.splitlines().index("### run_2") + 1
    assert told(refusal(parsed, text)) == [("ambiguous", "configuration", SUMMARY, line)]


@pytest.mark.parametrize(
    ("name", "warns"), [("Llama-3.2-1B-Instruct-bnb-4bit", True), ("Llama-3.2-1B-Instruct", False)]
)
def test_a_model_directory_named_after_a_different_training_is_a_warning(name: str, warns: bool) -> None:
    found = planned(summary(models={"Llama-3.2-1B-Instruct": f"`/models/{name}`"})).warnings
    assert [(w.code, w.field) for w in found] == ([("name-mismatch", "model")] if warns else [])


@pytest.mark.parametrize("label", ["Account", "Partition", "Constraint", "Reservation", "Mail user", "Exclude"])
def test_a_setting_that_all_jobs_share_is_refused_in_a_row(label: str) -> None:
    column: dict[str, Any] = {label.replace(" ", "_"): ["a", "b"]}
    (found,) = refusal(parsed, summary(table=runs(2, Seed=["1", "2"], **column)))
    assert (found.code, found.line) == ("misspelt-field", 4)


@pytest.mark.parametrize("said", ["QLoRA", "LoRA with DoRA", "DPO"])
def test_an_unsupported_method_is_refused_even_if_rows_give_the_recipe(said: str) -> None:
    rows = runs(2, Recipe=["LoRA", "full"], LoRA_Rank=["8", "-"])

    def with_overview(method: str) -> str:
        return summary(table=rows, extra=f"## Overview\n\n- **Method:** {method}\n")

    assert len(planned(with_overview("compare LoRA with full fine-tuning")).runs) == 2
    (problem,) = refusal(parsed, with_overview(said))
    assert problem.code == "unsupported-setting"


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("Epochs", "9"), ("Batch size", "16"), ("LoRA rank", "32"), ("Learning rate", "3e-4"), ("LoRA alpha", "99"),
        ("Weight decay", "0.1"), ("Seed", "42"), ("Max sequence length", "512"), ("Warmup steps", "10"),
        ("Gradient accumulation steps", "8"), ("Gradient clipping", "1.0"), ("LoRA dropout", "0.05"), ("Packed", "yes"),
        ("System prompt", '"Be brief."'), ("Max steps per epoch", "100"), ("Dataset type", "chat_dataset"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("title", spread(["Overview", "Objective", "Notes", "Training plan", "Design"], every=2))
def test_a_hyperparameter_elsewhere_that_no_run_has_is_refused(title: str, label: str, value: str) -> None:
    line = f"- **{label}:** {value}"
    text = summary(extra=f"## {title}\n\n{line}\n")
    (found,) = refusal(parsed, text)
    assert (found.code, found.line) == ("ambiguous", text.splitlines().index(line) + 1)
    rows = table_of(label, value)
    so = summary(table=rows, training={} if rows else {label: value}, extra=f"## {title}\n\n{line}\n")
    assert [w.code for w in planned(so).warnings if w.severity is Severity.WARNING] in ([], ["ignored-remark"])


def table_of(label: str, value: str) -> str | None:
    """Return a table with a column for the value, if rows usually give it."""
    columns: dict[str, Any] = {{"LoRA rank": "LoRA_Rank"}.get(label, "Learning_Rate"): [value]}
    return runs(1, **columns) if label in {"LoRA rank", "Learning rate"} else None


@pytest.mark.parametrize(
    ("title", "line", "code"),
    [
        ("Overview", "- **Rank:** 32", "levels-differ"), ("Overview", "- **Dropout:** 0.1", "levels-differ"),
        ("Overview", "- **Epochs:** 9 in the paper", "unused-field"), ("Data split", "- **Seed:** 42", "ambiguous"),
        ("Related work", "- **Epochs:** 9", None), ("Future work", "- **LoRA rank:** 128", None),
        ("Evaluation", "- **Batch size:** 64", None), ("Overview", "- **Epochs:** two", None),
        ("Compute estimates", "- **Epochs:** 9", "unused-field"), ("Overview", "- **LR:** see the table", None),
        ("Overview", "- **Batch size:** 4", None), ("Overview", "- **LoRA alpha:** 16", None),
        ("Overview", "- **LoRA alpha:** 32", None), ("Overview", "- **Loss:** 1.23", "unused-field"),
        ("Design", "| LoRA rank | 8, 32 |", "levels-differ"), ("Design", "| LoRA rank | 8, 16 |", None),
        ("Budget", "- **Epochs:** 9", "unused-field"), ("Metrics", "- **Seeds:** 5 for bootstrapping", None),
        ("Contact", "- **Account:** ada", None), ("Overview", "- ~~Epochs: 9~~", None),
        ("Overview", "```yaml\nepochs: 9\n```", "unused-field"),
        ("Overview", '```json\n{\n"epochs": 9,\n}\n```', "unused-field"),
        ("Example", "```yaml\nepochs: 9\n```", None), ("Overview", "`epochs=9`, `batch_size=4`", "unused-field"),
        ("Overview", "- **Learning rate:** 3e-4 for all runs.", "ambiguous"), ("Overview", "<!-- Epochs: 9 -->", None),
        ("Overview", "- **Optimizer:** AdamW", None), ("Overview", "- **Logger:** TensorBoard", "levels-differ"),
    ],
)  # fmt: skip
def test_a_possible_setting_elsewhere_is_a_warning_or_ignored(title: str, line: str, code: str | None) -> None:
    text = summary(extra=f"## {title}\n\n{line}\n")
    if code == "ambiguous":
        assert [p.code for p in refusal(parsed, text)] == [code]
    else:
        found = [w.code for w in planned(text).warnings if w.severity is Severity.WARNING]
        assert found == ([] if code is None else [code])


@pytest.mark.parametrize(
    "line", ["- **Optimizer:** Lion", "- **Precision:** fp16", "- **DPO beta:** 0.1", "Use DoRA: yes"]
)
def test_an_unsupported_setting_is_refused_elsewhere_too(line: str) -> None:
    found = refusal(parsed, summary(extra=f"## Overview\n\n{line}\n"))
    assert [p.code for p in found] == ["unsupported-setting"]


SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=tune
#SBATCH --account=lab
#SBATCH -p gpu
#SBATCH --constraint="gpu80|a100"
#SBATCH --time=24:00:00   # a day
#SBATCH --mem 64G
#SBATCH --gres=gpu:a100:2
#SBATCH -N 1
#SBATCH -c8 --ntasks=1
#SBATCH --qos=short
#SBATCH --mail-type=end,fail
#SBATCH --mail-user=ada@example.org
##SBATCH --reservation=off
srun hostname
"""
ASKED = {
    "account": "lab", "partition": "gpu", "constraint": "gpu80|a100", "time": "24:00:00", "mem": "64G", "gpus": 2,
    "gpu_type": "a100", "cpus_per_task": 8, "qos": "short", "mail_type": "END,FAIL", "mail_user": "ada@example.org",
}  # fmt: skip


@pytest.mark.parametrize("title", ["SLURM Defaults", "Cluster", "Jobs", "Conda", "Weights & Biases"])
@pytest.mark.parametrize(
    "form", ["```bash\n{}```", "{}", "```\n{}```", "    {}", "1. Header:\n\n    ```bash\n    {}\n    ```"]
)
def test_sbatch_options_in_claude_local_md_are_settings(title: str, form: str) -> None:
    script = SCRIPT.replace("\n", "\n    ") if "    {}" in form else SCRIPT
    block = form.format(script if form != "{}" else script.partition("\n")[2])
    plan = planned(summary(), f"{local_md()}\n## {title}\n\nA job:\n\n{block}\n")
    assert [w for w in plan.warnings if w.severity is Severity.WARNING] == []
    assert {name: plan.runs[0].value(name) for name in [*ASKED, "reservation"]} == {**ASKED, "reservation": None}


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ("-t 90", "time", "1:30:00"), ("--gres=gpu", "gpus", 1), ("--gres=gpu:v100", "gpu_type", "v100"),
        ("--gpus-per-node=4", "gpus", 4), ("-G 2", "gpus", 2), ("-Alab", "account", "lab"),
        ("--requeue", "requeue", True), ("--no-requeue", "requeue", False), ("-x n1,n2", "exclude", "n1,n2"),
        ("--comment='a b'", "comment", "a b"),
        ("--reservation=course", "reservation", "course"), ("--account=lab (ours)", "account", "lab"),
        ("-A <your-account>", "account", None),
    ],
)  # fmt: skip
def test_an_sbatch_option_is_read_as_sbatch_reads_it(option: str, name: str, value: Scalar) -> None:
    plan = planned(summary(), f"{local_md()}\n## Jobs\n\n```\n#SBATCH {option}\n```\n")
    assert plan.runs[0].value(name) == value


@pytest.mark.parametrize(
    ("option", "code", "field"),
    [
        ("--nodes=2", "unsupported-setting", "nodes"), ("--acount=lab", "misspelt-field", "acount"),
        ("--mem=0", "invalid-value", "mem"), ("--account=mine", "ambiguous", "account"),
        ("--ntasks-per-node=4", "misspelt-field", "ntasks-per-node"), ("-p a,b", "invalid-value", "partition"),
    ],
)  # fmt: skip
def test_an_unsupported_or_contradictory_sbatch_option_is_refused(option: str, code: str, field: str) -> None:
    local = f"{local_md()}\n## SLURM Defaults\n\n- **Account:** lab\n\n```\n#SBATCH {option}\n```\n"
    assert (code, field) in [(p.code, p.field) for p in refusal(planned, summary(), local)]


@pytest.mark.parametrize("option", ["--array=0-3", "--exclusive", "--mem-per-cpu=4G", "--gres=lscratch:100", "-w n1"])
def test_an_sbatch_option_without_a_setting_is_a_warning(option: str) -> None:
    plan = planned(summary(), f"{local_md()}\n## Jobs\n\n```\n#SBATCH {option}\n```\n")
    assert [w.code for w in plan.warnings if w.severity is Severity.WARNING] == ["unused-field"]


def test_an_example_job_script_is_ignored_and_reported_unless_the_settings_match() -> None:
    example = f"\n## Example job script\n\n```bash\n{SCRIPT}```\n"
    plan = planned(summary(), local_md() + example)
    assert [(w.code, w.field) for w in plan.warnings if w.severity is Severity.WARNING] == [("unused-field", "sbatch")]
    assert plan.runs[0].value("account") is None
    plan = planned(summary(), f"{local_md()}\n## SLURM Defaults\n\n```bash\n{SCRIPT}```\n{example}")
    assert [w for w in plan.warnings if w.severity is Severity.WARNING] == []


def test_sbatch_options_in_a_summary_are_read_below_slurm_and_refused_elsewhere() -> None:
    block = "```bash\n#SBATCH --account=lab\n#SBATCH --gres=gpu:2\n```"
    assert values_of(summary(extra=f"## SLURM\n\n{block}"), "account", "gpus") == ["lab", 2]
    found = refusal(parsed, summary(extra=f"## Overview\n\n{block}"))
    assert [(p.code, p.field) for p in found] == [("misspelt-field", "account"), ("misspelt-field", "gpus")]
    plan = planned(summary(extra=f"## Example commands\n\n{block}"))
    assert [w.code for w in plan.warnings if w.severity is Severity.WARNING] == ["unused-field"] * 2
    assert values_of(summary(extra=f"## Overview\n\n{block}", training={"Account": "lab", "GPUs": "2"}), "gpus") == [2]


@pytest.mark.parametrize(
    ("option", "name", "answer"),
    [
        ("-p cpu", "partition", "gpu"), ("--account=mine", "account", "lab2"), ("-t 90 -A lab", "time", "4:00:00"),
        ("--mem=0", "mem", "8G"), ('--constraint="a b"', "constraint", "a|b"),
    ],
)  # fmt: skip
def test_an_answer_and_its_line_settle_a_question_about_an_sbatch_option(option: str, name: str, answer: str) -> None:
    label = {"partition": "Partition", "account": "Account", "time": "Time"}.get(name)
    other = {"partition": "other", "account": "other", "time": "1:00:00"}.get(name)
    after = f"\n- **{label}:** {other}\n" if label else ""
    local = f"{local_md()}\n## SLURM Defaults\n\n```\n#SBATCH {option}\n```\n{after}"
    with pytest.raises(Refused) as caught:
        parsed(summary(), local)
    (question,) = caught.value.ask
    told_line = int(question.where.split("line ")[1].split(";")[0])
    experiment = parse_experiment((SUMMARY, summary()), (LOCAL, local), lambda _: True, answers={name: answer})
    assert experiment.environment[name].value == answer
    (said,) = experiment.answers
    lines = local.split("\n")
    lines[told_line - 1] = said.add
    if label:
        lines.remove(f"- **{label}:** {other}")
    again = parsed(summary(), "\n".join(lines)).environment
    assert again[name].value == answer
    assert again.keys() == experiment.environment.keys()


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("## Weights & Biases\n\nAlways log online.", "wandb_mode"),
        ("## Notes\n\nRuns log online to W&B.", "wandb_mode"),
        ("## Preferences\n\n- Do not use W&B.", "wandb_mode"), ("## SLURM\n\nUse 2 GPUs per job.", "gpus"),
        ("## Environment\n\n```bash\nexport WANDB_MODE=online\n```", "wandb_mode"),
        ("## SLURM\n\n<pre>\n#SBATCH --account=lab\n</pre>", "sbatch"),
        ("## Commands\n\n```bash\nsbatch --account=lab --time=4:00:00 finetune.slurm\n```", "sbatch"),
        ("## GitHub\n\nWe log online to W&B.", None), ("## SLURM\n\nThe cluster has 8 GPUs per node.", None),
        ("## Weights & Biases\n\nLog offline, and sync later.", None), ("## SLURM\n\nUse 1 GPU.", None),
    ],
)  # fmt: skip
def test_a_statement_in_claude_local_md_that_fits_no_run_is_a_warning(text: str, field: str | None) -> None:
    plan = planned(summary(), f"{local_md()}\n{text}\n")
    found = [(w.field, w.file) for w in plan.warnings if w.severity is Severity.WARNING]
    assert found == ([] if field is None else [(field, LOCAL)])


def test_options_in_bullets_are_read_as_on_the_command_line() -> None:
    local = f"{local_md()}\n## SLURM\n\n- `--account=lab`\n- `--partition gpu`\n- `-t 2:00:00`\n"
    assert values_of(summary(), "account", "partition", "time", local=local) == ["lab", "gpu", "2:00:00"]


PROMPTS = ['"Q: {input}\\nA:"', "`{input} ->`", "{input} ->", "`<{input}>`", '"{input}\\t-"', "Word: {input} Answer:"]
PROMPT_FORMS = ["- **{}:** {}", "{}: {}", "| Key | Value |\n|---|---|\n| {} | {} |"]


@pytest.mark.parametrize("written", PROMPTS)
@pytest.mark.parametrize("form", PROMPT_FORMS)
@pytest.mark.parametrize(("label", "field"), [("Prompt", "prompt"), ("System prompt", "system_prompt")])
def test_a_prompt_with_escapes_or_arrows_in_another_section_is_reported(
    label: str, field: str, form: str, written: str
) -> None:
    lines = form.format(label, written)
    text = summary(extra=f"## Method\n\n{lines}\n")
    at = text.splitlines().index(lines.splitlines()[-1]) + 1
    assert told(refusal(parsed, text)) == [("ambiguous", field, SUMMARY, at)]
    text = summary().replace("### Dataset\n", f"### Dataset\n\n{lines}\n\n")
    at = text.splitlines().index(lines.splitlines()[-1]) + 1
    assert told(parsed(text).warnings) == [("unused-field", field, SUMMARY, at)]


@pytest.mark.parametrize("below", ["\n  ```\n  Q: {input} ->\n  ```", "\n  > Q: {input} ->"])
def test_a_prompt_below_its_label_in_another_section_is_reported(below: str) -> None:
    text = summary(extra=f"## Overview\n\n- **Prompt:**{below}\n")
    (found,) = refusal(parsed, text)
    assert (found.code, found.field, found.actual) == ("ambiguous", "prompt", "Q: {input} ->")
    assert found.line == text.splitlines().index("- **Prompt:**") + 1


@pytest.mark.parametrize("stated", ["`{input} ->`", "{input} ->", '"{input} ->"'])
def test_a_prompt_elsewhere_that_the_runs_use_is_not_reported(stated: str) -> None:
    same = {"Prompt": "`{input} ->`"}
    assert values_of(summary(extra=f"## Overview\n\n- **Prompt:** {stated}\n", training=same), "prompt") == [
        "{input} ->"
    ]
    block = {"Prompt": "\n  ```\n  Q: {input}\n  A:\n  ```"}
    text = summary(extra='## Overview\n\n- **Prompt:** "Q: {input}\\nA:"\n', training=block)
    assert values_of(text, "prompt") == ["Q: {input}\nA:"]


@pytest.mark.parametrize("stated", ["see Configuration", "same as above", "none", "TODO", "{input}", "no"])
def test_a_reference_to_a_prompt_is_not_reported(stated: str) -> None:
    assert values_of(summary(extra=f"## Overview\n\n- **Prompt:** {stated}\n"), "prompt") == [None]


@pytest.mark.parametrize(
    "line",
    ["Checkpoint every: 1 epoch", "Save every: 1 epoch", "Evaluate every: 1 epoch", "Save strategy: 1 epoch",
     "Checkpointing: 1 epoch", "Log frequency: 1 epoch", "Keep: 1 epoch", "Evaluation: batch size 8, 1 epoch",
     "Inference: lr 3"],
)  # fmt: skip
@pytest.mark.parametrize("title", ["Configuration", "Overview"])
def test_an_interval_is_not_the_length_of_the_training(line: str, title: str) -> None:
    label, _, value = line.partition(": ")
    text = summary(extra=f"## {title}\n\n- **{label}:** {value}\n")
    codes = [w.code for w in planned(text).warnings if w.severity is Severity.WARNING]
    assert codes == (["unused-field"] if title == "Configuration" else [])


@pytest.mark.parametrize(
    "sentence", ["We run a validation every 1 epoch.", "The run is kept after 1 epoch.", "All runs log each 1 epoch."]
)
def test_an_interval_in_a_sentence_is_not_the_length_of_the_training(sentence: str) -> None:
    assert values_of(summary(extra=f"## Overview\n\n{sentence}\n"), "epochs") == [2]


def test_the_length_of_the_training_after_another_label_is_still_compared() -> None:
    for line in ("Schedule: 1 epoch", "Training: 1 epoch", "Training per model: 1 epoch"):
        (found,) = refusal(parsed, summary(extra=f"## Overview\n\n- {line}\n"))
        assert (found.code, found.field, found.actual) == ("ambiguous", "epochs", 1)


def test_a_value_that_no_run_has_is_added_to_configuration_and_not_replaced_by_a_dash() -> None:
    text = summary(extra="## Overview\n\n- Gradients are clipped at 1.0.\n")
    (found,) = all_findings(text)
    assert (found.code, found.field) == ("levels-differ", "clip_grad_norm")
    line = found.fix.partition("`")[2].partition("`")[0]
    assert found.fix.startswith(f"add `{line}` to Configuration")
    assert line.endswith(":** 1")
    assert all_findings(text.replace("- **Epochs", f"{line}\n- **Epochs")) == []


def all_findings(text: str) -> list[Finding]:
    try:
        return [w for w in planned(text).warnings if w.severity is Severity.WARNING]
    except Refused as refused:
        return [*refused.problems]


def test_settings_after_one_label_are_added_as_lines_of_their_own() -> None:
    text = summary(training={"Epochs": None, "Training": "3 epochs, batch size 4"})
    found = {each.field: each for each in refusal(parsed, text)}
    assert found["epochs"].code in {"ambiguous", "missing-field"}
    assert any("`- **Epochs:** 3` to Configuration" in each.fix for each in refusal(parsed, text))
    fixed = planned(text.replace("- **Batch", "- **Epochs:** 3\n- **Batch"))
    assert [fixed.runs[0].value(name) for name in ("epochs", "batch_size")] == [3, 4]


@pytest.mark.parametrize("label", ["Checkpoints", "Checkpoint file", "Models", "Data sets"])
def test_a_similar_label_is_only_suggested_if_configuration_reads_it(label: str) -> None:
    (found,) = [w for w in parsed(summary(training={label: "every epoch"})).warnings if w.field == label]
    assert found.code == "unused-field"
    (found,) = refusal(parsed, summary(training={"Epohcs": "3"}))
    assert (found.code, found.field) == ("misspelt-field", "Epohcs")


@pytest.mark.parametrize("cell", ["no", "None", "(none)", "no prompt"])
def test_a_cell_without_a_prompt_is_refused_with_its_own_text(cell: str) -> None:
    (found,) = refusal(parsed, summary(table=runs(2, Prompt=["{input}", cell])))
    assert (found.code, found.field, found.actual, found.line) == ("invalid-value", "prompt", cell, 7)
