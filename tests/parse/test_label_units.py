"""Units in labels: the value gets the unit, or the label is refused; the unit is never dropped."""

import pytest

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.models import Experiment
from scaffold_torchtune.parse import parse_experiment
from support.documents import LOCAL, MODEL, local_md, parsed, refusal, runs, summary, table

READ: list[tuple[str, str, str, Scalar]] = [
    ("Memory (GB)", "32", "mem", "32G"),
    ("Memory [GiB]", "32", "mem", "32G"),
    ("mem_gb", "32", "mem", "32G"),
    ("Memory, GB", "32", "mem", "32G"),
    ("Memory (GB per node)", "32", "mem", "32G"),
    ("Mem (MB)", "64,000", "mem", "64000M"),
    ("Memory (TB)", "1", "mem", "1T"),
    ("Memory (GB)", "32G", "mem", "32G"),
    ("Memory (GB)", "512000 MB", "mem", "512000M"),
    ("Memory (GB)", "32 (peak)", "mem", "32G"),
    ("Memory in gigabytes", "32", "mem", "32G"),
    ("Memory-GB", "32", "mem", "32G"),
    ("Memory / GB", "32", "mem", "32G"),
    ("Time (in hours)", "2", "time", "2:00:00"),
    ("Time (max hours)", "2", "time", "2:00:00"),
    ("LR ×10⁻⁵", "3", "lr", 3e-5),
    ("Time (h)", "2", "time", "2:00:00"),
    ("Time (hours)", "1.5", "time", "1:30:00"),
    ("time_hours", "2", "time", "2:00:00"),
    ("Walltime in minutes", "90", "time", "1:30:00"),
    ("Time limit (min)", "90", "time", "1:30:00"),
    ("Time (h)", "2:30", "time", "2:30:00"),
    ("Time (hh:mm)", "2:30", "time", "2:30:00"),
    ("Time (h)", "2:30:00", "time", "2:30:00"),
    ("Time (HH:MM:SS)", "2:30:00", "time", "2:30:00"),
    ("Time (hours per run)", "2", "time", "2:00:00"),
    ("Time [d]", "1", "time", "24:00:00"),
    ("LoRA dropout (%)", "5", "lora_dropout", 0.05),
    ("Dropout %", "5", "lora_dropout", 0.05),
    ("Weight decay (percent)", "1", "weight_decay", 0.01),
    ("Dropout (%)", "0", "lora_dropout", 0.0),
    ("Learning rate (x1e-5)", "5", "lr", 5e-5),
    ("Learning rate (×10⁻⁵)", "2.5", "lr", 2.5e-5),
    ("LR (x 10^-5)", "1", "lr", 1e-5),
    ("LR (x1e-5)", "1e-4", "lr", 1e-4),
    ("LR (1e-5)", "1e-4", "lr", 1e-4),
    ("Max sequence length (tokens)", "512", "max_seq_len", 512),
    ("Training samples (rows)", "200", "training_samples", 200),
    ("Seed", "3", "seed", 3),
]
REFUSED = [
    ("Memory (GB per GPU)", "32", "mem"),
    ("Memory (per CPU)", "32", "mem"),
    ("Memory (h)", "2", "mem"),
    ("Memory", "64", "mem"),
    ("mem", "4095", "mem"),
    ("Time (GB)", "2", "time"),
    ("Time (per epoch)", "2:00:00", "time"),
    ("Time (epochs)", "2", "time"),
    ("Warmup (epochs)", "1", "num_warmup_steps"),
    ("Warmup epochs", "1", "num_warmup_steps"),
    ("Warmup (tokens)", "1000", "num_warmup_steps"),
    ("Dropout (%)", "0.5", "lora_dropout"),
    ("Learning rate (1e-5)", "5", "lr"),
    ("Learning rate (%)", "5", "lr"),
    ("Training samples (k)", "1", "training_samples"),
    ("Max sequence length (k)", "2", "max_seq_len"),
    ("Max seq len (k tokens)", "2", "max_seq_len"),
    ("Warmup (in epochs)", "1", "num_warmup_steps"),
    ("Warmup (% of first epoch)", "5", "num_warmup_steps"),
    ("Weight decay (x 0.01)", "3", "weight_decay"),
    ("Seed (%)", "2", "seed"),
    ("Epochs (steps)", "100", "epochs"),
]


HEADER, ROW = ["Run Name", "Model", "LoRA Rank", "Type"], ["a", MODEL, "8", "Fine-tuned"]


def with_column(label: str, text: str) -> str:
    """Return a summary with a column in the table of its single run."""
    return summary(
        table=table([*HEADER, label], [[*ROW, text]]), training={"Epochs": None if label.startswith("Epochs") else "2"}
    )


def with_line(label: str, text: str) -> str:
    """Return a summary with a line in Configuration."""
    lines = {"Epochs": None if label.startswith("Epochs") else "2", label: text}
    return summary(table=table(HEADER, [ROW]), training=lines)


def in_yaml(key: str, text: str, *, shared: bool) -> str:
    """Return a summary in the YAML form with a key for all runs or for its single run."""
    key = repr(key)
    line, run = f"  {key}: {text!r}\n", f", parameters: {{lora_rank: 8, {key}: {text!r}}}"
    return (
        "experiment: {name: words}\nmodels: {base: [{name: Llama-3.2-1B-Instruct, path: /models/x}]}\n"
        "data: {training: {path: /data/words.json}}\noutput: {wandb_project: words}\n"
        f"controls:\n  epochs: 2\n  batch_size: 4\n{line if shared else ''}"
        f"runs:\n  - {{name: a, type: fine-tuned, model: Llama-3.2-1B-Instruct{'' if shared else run}}}\n"
    )


def parsed_yaml(text: str) -> Experiment:
    """Return the experiment of a summary in the YAML form."""
    return parse_experiment(("experiment_summary.yaml", text), (LOCAL, local_md()), lambda _: True)


@pytest.mark.parametrize(("label", "text", "name", "value"), READ)
def test_a_value_gets_the_unit_of_its_label(label: str, text: str, name: str, value: Scalar) -> None:
    by_column, by_line = parsed(with_column(label, text)), parsed(with_line(label, text))
    assert by_column.runs[0].parameters[name].value == value
    assert by_line.config[name].value == value
    for warnings in (by_column.warnings, by_line.warnings):
        assert [each.code for each in warnings if each.code != "ignored-remark"] == []
    if "(peak)" not in text:
        assert parsed_yaml(in_yaml(label, text, shared=True)).config[name].value == value
        assert parsed_yaml(in_yaml(label, text, shared=False)).runs[0].parameters[name].value == value


@pytest.mark.parametrize(("label", "text", "name"), REFUSED)
def test_a_value_that_cannot_have_the_unit_of_its_label_is_refused(label: str, text: str, name: str) -> None:
    for document in (with_column(label, text), with_line(label, text)):
        found = [each for each in refusal(parsed, document) if each.code != "missing-field"]
        assert [(each.code, each.field) for each in found] == [("invalid-value", name)]
    for shared in (True, False):
        problems = refusal(parsed_yaml, in_yaml(label, text, shared=shared))
        assert ("invalid-value", name) in [(each.code, each.field) for each in problems]


@pytest.mark.parametrize(
    "label",
    ["Warmup (%)", "Warmup %", "warmup_percent", "Warmup (% of steps)", "Warmup (% of training)", "Warmup ratio (%)"],
)
def test_a_warm_up_in_percent_is_a_ratio(label: str) -> None:
    assert parsed(with_column(label, "5")).runs[0].parameters["warmup_ratio"].value == 0.05
    assert parsed(with_line(label, "5")).config["warmup_ratio"].value == 0.05


@pytest.mark.parametrize(
    ("label", "name"),
    [("Warmup (steps)", "num_warmup_steps"), ("Batch size (per GPU)", "batch_size"), ("GPUs (per node)", "gpus")],
)
def test_a_label_that_contains_its_unit_is_read_as_before(label: str, name: str) -> None:
    assert parsed(with_line(label, "4")).config[name].value == 4


@pytest.mark.parametrize("label", ["GPU hours", "Node hours", "Time per epoch (min)", "Epoch time (s)"])
def test_a_column_about_a_cost_is_not_a_setting(label: str) -> None:
    assert parsed(with_column(label, "12")).runs[0].parameters.keys() == {"model", "lora_rank"}


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("Memory (GB): 64", "mem", "64G"),
        ("mem_gb: 64", "mem", "64G"),
        ("Time (h): 2", "time", "2:00:00"),
        ("Default memory [GiB]: 64", "mem", "64G"),
        ("Time limit in minutes: 90", "time", "1:30:00"),
        ("Memory: 64000", "mem", "64000"),
        ("Default time (h): 2:30", "time", "2:30:00"),
        ("memory (GB)=64", "mem", "64G"),
    ],
)
def test_a_line_of_the_local_file_gets_the_unit_of_its_label(line: str, name: str, value: str) -> None:
    local = local_md() + f"\n## SLURM Defaults\n\n- {line}\n"
    assert parsed(summary(), local).environment[name].value == value
    front = local_md().partition("\n\n")[2].replace("- ", "") + f"slurm:\n  {line.replace('=', ': ')}\n"
    found = parsed(summary(), f"---\n{front}---\n# Local\n")
    assert found.environment[name].value == value


@pytest.mark.parametrize(
    "line", ["Memory: 64", "Memory (per GPU): 64", "mem: 4095", "Time (epochs): 3", "Memory (h): 3"]
)
def test_a_line_of_the_local_file_with_another_unit_or_none_is_refused(line: str) -> None:
    (problem,) = refusal(parsed, summary(), local_md() + f"\n## SLURM Defaults\n\n- {line}\n")
    assert (problem.code, problem.file, problem.line) == ("invalid-value", LOCAL, 9)


@pytest.mark.parametrize(("written", "mem"), [("64", "64M"), ("64000", "64000"), ("64G", "64G")])
def test_memory_without_a_unit_after_an_option_of_sbatch_is_in_megabytes(written: str, mem: str) -> None:
    local = local_md() + f"\n## SLURM Defaults\n\n```bash\n#SBATCH --mem={written}\n```\n"
    assert parsed(summary(), local).environment["mem"].value == mem


def test_memory_without_a_unit_is_refused_with_the_values_that_may_be_intended() -> None:
    (problem,) = refusal(parsed, with_line("Memory", "64"))
    assert {"`64G`", "`64M`"} <= {*problem.fix.split()}
    for unit in "GM":
        assert parsed(with_line("Memory", f"64{unit}")).config["mem"].value == f"64{unit}"


def test_a_table_of_settings_has_a_column_of_units() -> None:
    rows = [
        ["Memory", "32", "GB"],
        ["Time", "2", "h"],
        ["Warmup", "5", "%"],
        ["Seed", "3", "-"],
        ["Epochs", "2", "epochs"],
    ]
    extra = "## Configuration\n\n" + table(["Setting", "Value", "Unit"], rows)
    config = parsed(summary(training={"Epochs": None}, extra=extra)).config
    found = {name: setting.value for name, setting in config.items()}
    expected = {"mem": "32G", "time": "2:00:00", "warmup_ratio": 0.05, "seed": 3, "epochs": 2}
    assert found == {"batch_size": 4, **expected}


def test_levels_get_the_unit_of_their_label() -> None:
    rows = [["LoRA Rank", "8, 16"], ["Learning Rate (x1e-5)", "1, 5"]]
    extra = "## Variables\n\n" + table(["Factor", "Levels"], rows)
    runs_text = runs(2, LoRA_Rank=["8", "16"], Learning_Rate=["1e-5", "5e-5"])
    assert [each.code for each in parsed(summary(table=runs_text, extra=extra)).warnings] == []
    changed = parsed(summary(table=runs_text, extra=extra.replace("1, 5", "1, 2")))
    assert [(each.code, each.field) for each in changed.warnings] == [("levels-differ", "lr")]


def test_a_misspelt_label_keeps_its_unit_in_the_fix() -> None:
    (problem,) = refusal(parsed, with_line("Memmory (GB)", "32"))
    assert (problem.code, problem.fix) == ("misspelt-field", "write `memory (GB)`")
    assert parsed(with_line("memory (GB)", "32")).config["mem"].value == "32G"
    (plural,) = refusal(parsed, with_line("GPU(s)", "1"))
    assert parsed(with_line(plural.fix.split("`")[1], "1")).config["gpus"].value == 1


def test_settings_of_a_section_about_jobs_get_the_unit_of_their_label() -> None:
    text = summary(extra="## Compute\n\n- **Memory (GB):** 32\n- **Time (h):** 2")
    assert {name: parsed(text).config[name].value for name in ("mem", "time")} == {"mem": "32G", "time": "2:00:00"}


def test_a_percent_label_with_a_fraction_is_refused_with_both_readings() -> None:
    (problem,) = refusal(parsed, with_line("Dropout (%)", "0.5"))
    for written, value in (("0.5%", 0.005), ("50%", 0.5)):
        assert f"`{written}`" in problem.fix.split()
        assert parsed(with_line("Dropout (%)", written)).config["lora_dropout"].value == value


@pytest.mark.parametrize(
    ("label", "cells", "limit", "enough"),
    [
        ("Est. Time", ["~10min", "~20min"], "0:15:00", "0:40:00"),
        ("Est. Time (h)", ["1", "0.5"], "0:59:00", "2:00:00"),
        ("Estimated time", ["about 2 hours", "N/A"], None, "4:00:00"),
        ("Est. Time", ["90 min", "-"], "1:00:00", "3:00:00"),
    ],
)
def test_a_time_limit_below_the_estimate_of_the_table_is_a_warning(
    label: str, cells: list[str], limit: str | None, enough: str
) -> None:
    text = summary(table=runs(2, Seed=["1", "2"], Est=cells).replace(" Est ", f" {label} "), training={"Time": limit})
    (finding,) = [each for each in parsed(text).warnings if each.code == "time-limit"]
    assert (finding.field, finding.actual, finding.line) == (
        "time",
        limit or "00:15:00",
        7 if limit == "0:15:00" else 6,
    )
    assert (
        enough in finding.fix.split("`")[1] if limit is None else f"replace `{limit}` with `{enough}` in" in finding.fix
    )
    assert [each.code for each in parsed(text.replace(f"{limit}", enough)).warnings if limit] == []


def test_the_time_limit_of_a_row_is_compared_with_its_own_estimate() -> None:
    table = runs(2, Time=["1:00:00", "3:00:00"], Est=["2h", "2h"]).replace(" Est ", " Est. Time ")
    (finding,) = [each for each in parsed(summary(table=table)).warnings if each.code == "time-limit"]
    assert finding.line == 6
    assert finding.fix.startswith("replace `1:00:00` with `4:00:00` in the column 'Time' (line 6)")


@pytest.mark.parametrize(
    ("label", "cell"),
    [
        ("Est. Time", "10min"),
        ("Est. Time", "10"),
        ("Est. Time", "long"),
        ("Est. Time", "10-90 min"),
        ("Est. Time per epoch (h)", "2"),
        ("Est. time total", "9 h"),
        ("GPU hours", "9"),
    ],
)
def test_an_estimate_that_fits_or_is_unclear_is_not_reported(label: str, cell: str) -> None:
    text = summary(table=runs(1, Est=[cell]).replace(" Est ", f" {label} "), training={"Time": "0:15:00"})
    assert [each for each in parsed(text).warnings if each.code == "time-limit"] == []


@pytest.mark.parametrize(
    ("key", "written", "name", "value"),
    [
        ("mem_gb", "64", "mem", "64G"),
        ("time_hours", "2", "time", "2:00:00"),
        ("time_hours", "1.5", "time", "1:30:00"),
        ("lr (x1e-5)", "5", "lr", 5e-5),
    ],
)
def test_a_number_in_yaml_gets_the_unit_of_its_key(key: str, written: str, name: str, value: Scalar) -> None:
    text = in_yaml("mem_gb", "64", shared=False).replace("'mem_gb': '64'", f"'{key}': {written}")
    assert parsed_yaml(text).runs[0].parameters[name].value == value
    if name != "lr":
        in_compute = text.replace("parameters: {lora_rank: 8, ", "parameters: {lora_rank: 8}, compute: {")
        assert parsed_yaml(in_compute).runs[0].parameters[name].value == value
    shared = in_yaml("mem_gb", "64", shared=True).replace("'mem_gb': '64'", f"'{key}': {written}")
    assert parsed_yaml(shared).config[name].value == value
