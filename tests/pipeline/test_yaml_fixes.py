"""Fixes of experiment_summary.yaml: each is in its form, and ends its finding if it is followed literally."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.findings import Finding, Refused
from scaffold_torchtune.pipeline import prepare, steps
from scaffold_torchtune.pipeline.reporting import status
from scaffold_torchtune.request import Request
from support.corpus_cases import CASES, documents_of, plan_of
from support.example import EXAMPLE_LOCAL
from support.experiments import change, make_experiment
from support.job_outputs import corpus
from support.scaffolding import scaffold
from support.stand_in_slurm import answers
from support.wording import absent

pytestmark = pytest.mark.long

YML = "experiment_summary.yaml"
SUMMARY = """\
experiment:
  name: caps
variables:
  lora_rank: [8, 16]
  lr: [1e-5, 5e-5]
controls:
  epochs: 2
  batch_size: 4
  num_warmup_steps: 4
  system_prompt: "Capitalize"
models:
  base:
    - name: Llama-3.2-1B-Instruct
      path: /scratch/models/Llama-3.2-1B-Instruct
data:
  training:
    path: data/words.json
output:
  wandb_project: caps
runs:
  - name: r8_lr1e-5
    type: fine-tuned
    model: Llama-3.2-1B-Instruct
    parameters:
      lora_rank: 8
      lr: 1e-5
  - name: r8_lr5e-5
    type: fine-tuned
    model: Llama-3.2-1B-Instruct
    parameters:
      lora_rank: 8
      lr: 5e-5
  - name: r16_lr1e-5
    type: fine-tuned
    model: Llama-3.2-1B-Instruct
    parameters:
      lora_rank: 16
      lr: 1e-5
  - name: r16_lr5e-5
    type: fine-tuned
    model: Llama-3.2-1B-Instruct
    parameters:
      lora_rank: 16
      lr: 5e-5
"""
FIRST, SECOND, THIRD, FOURTH = RUNS = ("r8_lr1e-5", "r8_lr5e-5", "r16_lr1e-5", "r16_lr5e-5")
TEXTS = {one.name: one.text.decode() for one in corpus()}


@pytest.fixture(autouse=True)
def _no_sbatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAFFOLD_TORCHTUNE_SBATCH", "off")


def experiment(folder: Path, *edits: tuple[str, str]) -> Path:
    """Write the experiment, with each text replaced once."""
    local = EXAMPLE_LOCAL.replace("/scratch/gpfs/LAB/ada/ck-outputs", str(folder / "outputs"))
    made = make_experiment(folder / "caps", summary=None, local=local)
    text = SUMMARY
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    (made / YML).write_text(text)
    return made


def findings(place: Path) -> list[Finding]:
    try:
        return list(steps.plan(Request(place)).warnings)
    except Refused as refused:
        return list(refused.problems)


def found_in(place: Path, code: str, field: str) -> Finding:
    every = findings(place)
    found = [each for each in every if (each.code, each.field) == (code, field)]
    assert len(found) == 1, [(each.code, each.field, each.message) for each in every]
    return found[0]


def quoted(fix: str) -> list[str]:
    """Return the lines in backticks, without the names of sections."""
    return [text for text in re.findall("`([^`]+)`", fix) if text != "controls"]


def edit(place: Path, line: int | None, new: str | None) -> None:
    """Replace the content of a line, or remove the line."""
    lines = (place / YML).read_text().splitlines()
    assert line is not None
    old = lines[line - 1]
    lines[line - 1 : line] = [] if new is None else [old[: len(old) - len(old.lstrip())] + new]
    (place / YML).write_text("\n".join(lines) + "\n")


def in_parameters(place: Path, run: str, line: str) -> None:
    """Write a line in the parameters of a run; it replaces a line of the same key."""
    before, name, after = (place / YML).read_text().partition(f"- name: {run}\n")
    assert name, run
    own, dash, rest = after.partition("\n  - name:")
    key = line.partition(":")[0]
    own = re.sub(rf"\n      {key}: .*", "", own).rstrip("\n")
    (place / YML).write_text(f"{before}{name}{own}\n      {line}{dash}{rest}" + ("" if dash else "\n"))


def errors(place: Path) -> list[tuple[str, str | None]]:
    return [(each.code, each.field) for each in findings(place) if each.severity == "error"]


def values(place: Path, name: str, **given: Any) -> list[object]:
    return [run.value(name) for run in prepare.prepare(Request(place, **given)).plan.runs]


# --- documents


def test_values_of_several_runs_are_compared_with_the_runs(tmp_path: Path) -> None:
    place = experiment(tmp_path, ("  epochs: 2\n", "  epochs: 2\n  seeds: [42, 43]\n"))
    found = found_in(place, "ambiguous", "seed")
    assert (found.expected, found.actual, found.line) == ("14", "42, 43", 8)
    assert "keep one" not in found.fix
    for run, seed in zip(RUNS, (42, 43, 43, 42), strict=True):
        in_parameters(place, run, f"seed: {seed}")
    assert errors(place) == []


def test_a_value_below_a_key_for_their_number_has_the_line_of_the_value(tmp_path: Path) -> None:
    place = experiment(tmp_path, ("  epochs: 2\n", "  epochs: 2\n  seeds: 42\n"))
    found = found_in(place, "ambiguous", "seed")
    edit(place, found.line, quoted(found.fix)[0])
    assert errors(place) == []
    assert values(place, "seed") == [42] * 4


@pytest.mark.parametrize("part", ["compute", "parameters", "controls"])
def test_memory_without_a_unit_has_both_units_in_the_fix(tmp_path: Path, part: str) -> None:
    places = {
        "compute": ("lr: 1e-5\n", "lr: 1e-5\n    compute:\n      mem: 80\n"),
        "parameters": ("lr: 1e-5\n", "lr: 1e-5\n      mem: 80\n"),
        "controls": ("  epochs: 2\n", "  epochs: 2\n  mem: 80\n"),
    }
    place = experiment(tmp_path, places[part])
    found = found_in(place, "invalid-value", "mem")
    assert absent(found.fix, "80G", "80M") == []
    assert "quotes" not in found.fix
    edit(place, found.line, "mem: 80G")
    assert errors(place) == []
    assert values(place, "mem")[0] == "80G"


@pytest.mark.parametrize("part", ["controls", "parameters"])
def test_lora_that_is_switched_off_is_replaced_by_the_recipe(tmp_path: Path, part: str) -> None:
    ranks = [("      lora_rank: 8\n", ""), ("      lora_rank: 8\n", "")] if part == "controls" else []
    if part == "controls":
        ranks += [("      lora_rank: 16\n", "      epochs: 3\n"), ("      lora_rank: 16\n", "      epochs: 3\n")]
        given = ("  epochs: 2\n", "  epochs: 2\n  use_lora: false\n")
    else:
        given = ("      lora_rank: 8\n", "      use_lora: false\n")
    place = experiment(tmp_path, ("  lora_rank: [8, 16]\n", ""), given, *ranks)
    (found,) = [each for each in findings(place) if each.code == "unsupported-setting"]
    (line,) = quoted(found.fix)
    edit(place, found.line, line)
    assert errors(place) == []
    methods = [run.parameters.get("recipe") for run in steps.plan(Request(place)).runs]
    assert methods[0] == "full"
    assert methods.count("full") == (4 if part == "controls" else 1)


def test_a_rank_of_full_fine_tuning_is_removed_with_its_key(tmp_path: Path) -> None:
    place = experiment(tmp_path, ("      lora_rank: 8\n", "      lora_rank: 8\n      recipe: full\n"))
    found = found_in(place, "unsupported-setting", "lora_rank")
    assert absent(found.fix, "remove lora_rank from the parameters") == []
    edit(place, found.line, None)
    assert errors(place) == []


@pytest.mark.parametrize("to", ["controls", "claude.local.md"])
def test_an_account_of_a_run_is_moved_to_a_place_that_is_read(tmp_path: Path, to: str) -> None:
    place = experiment(tmp_path, ("lr: 1e-5\n", "lr: 1e-5\n    compute:\n      account: physics\n"))
    found = found_in(place, "misspelt-field", "runs.0.compute.account")
    assert absent(found.fix, "controls", "claude.local.md") == []
    assert "parameters" not in found.fix
    change(place / YML, "    compute:\n      account: physics\n", "")
    if to == "controls":
        change(place / YML, "  epochs: 2\n", "  epochs: 2\n  account: physics\n")
    else:
        local = place / "claude.local.md"
        local.write_text(re.sub(r"(?m)^.*Account.*$", "- **Account**: `physics`", local.read_text()))
    assert errors(place) == []
    assert values(place, "account") == ["physics"] * 4


def test_a_setting_that_is_not_read_is_removed_from_its_line(tmp_path: Path) -> None:
    given = ("  epochs: 2\n", "  epochs: 2\n  gpus: 2\n  validation_during_training: true\n")
    place = experiment(tmp_path, given)
    found = found_in(place, "unread-setting", "run_val_every_n_steps")
    assert "remove run_val_every_n_steps" not in found.fix
    edit(place, found.line, None)
    assert "unread-setting" not in {each.code for each in findings(place)}


def test_equal_runs_are_distinguished_by_a_parameter(tmp_path: Path) -> None:
    place = experiment(tmp_path, ("      lr: 5e-5\n", "      lr: 1e-5\n"))
    found = found_in(place, "identical-runs", "runs")
    assert "column" not in found.fix
    in_parameters(place, SECOND, "seed: 2")
    assert "identical-runs" not in {each.code for each in findings(place)}


def test_missing_runs_of_a_grid_are_runs(tmp_path: Path) -> None:
    place = experiment(tmp_path, (SUMMARY[SUMMARY.index("  - name: r16_lr5e-5") :], ""))
    told = [each for each in findings(place) if each.code == "incomplete-factorial"]
    assert all("table" not in each.fix for each in told)
    assert told


def test_levels_do_not_contain_a_shared_rank_that_only_full_fine_tuning_has(tmp_path: Path) -> None:
    full = ("      lora_rank: 8\n      lr: 5e-5\n", "      recipe: full\n      lr: 5e-5\n")
    shared = ("  epochs: 2\n", "  epochs: 2\n  lora_rank: 32\n")
    place = experiment(tmp_path, full, shared)
    assert "levels-differ" not in {each.code for each in findings(place)}
    change(place / YML, "      lora_rank: 8\n", "      lora_rank: 64\n")
    found = found_in(place, "levels-differ", "lora_rank")
    assert absent(found.fix, "with `16, 64`") == []
    assert "32" not in found.message


@pytest.mark.parametrize("key", ["type", "model"])
def test_a_missing_key_of_a_run_is_not_a_column(tmp_path: Path, key: str) -> None:
    line = {"type": "    type: fine-tuned\n", "model": "    model: Llama-3.2-1B-Instruct\n"}[key]
    place = experiment(tmp_path, (line, ""))
    found = found_in(place, "missing-field", key)
    assert "column" not in found.fix
    assert "Markdown" not in found.message
    change(place / YML, f"  - name: {FIRST}\n", f"  - name: {FIRST}\n{line}")
    assert errors(place) == []


def test_a_text_is_quoted_where_yaml_needs_it(tmp_path: Path) -> None:
    shared = ('system_prompt: "Capitalize"', "system_prompt: 'Rule: capitalize'")
    place = experiment(tmp_path, shared, ("      lr: 1e-5\n", "      lr: 1e-5\n      system_prompt: Capitalize\n"))
    found = found_in(place, "overridden", "system_prompt")
    prompts = values(place, "system_prompt")
    for run in RUNS[1:]:
        in_parameters(place, run, quoted(found.fix)[0])
    change(place / YML, "  system_prompt: 'Rule: capitalize'\n", "")
    assert values(place, "system_prompt") == prompts == ["Capitalize", *["Rule: capitalize"] * 3]


# --- failed runs


def started(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, *finished: str) -> Path:
    """Return a scaffold in which the first run failed with an output, and some others finished."""
    place = experiment(folder)
    (folder / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    answers(place, squeue="true", sacct="true")
    assert scaffold(place).ok
    (place / FIRST / "slurm-1.out").write_text(TEXTS[text])
    for run in finished:
        for epoch in range(2):
            (folder / "outputs" / "caps" / f"ck-out-{run}" / f"epoch_{epoch}").mkdir(parents=True)
    return place


def cause_in(place: Path) -> Finding:
    found = {run.directory: run for run in status(Request(place)).runs}[FIRST]
    assert found.cause is not None
    return found.cause


@pytest.mark.parametrize(
    ("text", "code", "lines"),
    [
        ("gpu_memory_after_steps", "job-gpu-memory", ["batch_size: 2", "gradient_accumulation_steps: 2"]),
        ("node_memory", "job-node-memory", ["mem: "]),
        ("time_limit", "job-time-limit", ["time: "]),
    ],
)
@pytest.mark.parametrize("shared", [True, False])
def test_a_failed_run_has_a_fix_that_changes_no_run_with_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: str, lines: list[str], shared: bool
) -> None:
    place = started(tmp_path, monkeypatch, text, *([SECOND, FOURTH] if shared else []))
    cause = cause_in(place)
    assert cause.code == code
    assert "- **" not in cause.fix
    written = quoted(cause.fix.partition("; then scaffold")[0].partition(", or ")[0])
    assert [line for line, start in zip(written, lines, strict=True) if not line.startswith(start)] == []
    for line in written:
        if shared:
            assert absent(cause.fix, f"`{line}` in the parameters of the run '{FIRST}'") == []
            in_parameters(place, FIRST, line)
        else:
            lines_now = (place / YML).read_text()
            key = line.partition(":")[0]
            kept = re.sub(rf"(?m)^  {key}: .*\n", "", lines_now)
            (place / YML).write_text(kept.replace("controls:\n", f"controls:\n  {line}\n"))
    key, value = written[0].replace('"', "").split(": ", 1)
    result = scaffold(place, started=f"replace={FIRST}")
    assert result.ok
    changed = [str(each) == value for each in values(place, key, started=f"replace={FIRST}")]
    assert changed == ([True, False, False, False] if shared else [True] * 4)


def test_no_fix_of_a_yaml_summary_is_in_the_form_of_markdown() -> None:
    found: list[Finding] = []
    for case in CASES:
        summary, local = documents_of(case)
        if summary[0] == YML:
            try:
                found += plan_of(summary, local).warnings
            except Refused as refused:
                found += refused.problems
    of_yaml = [each for each in found if each.file == YML]
    assert len({each.code for each in of_yaml}) > 5
    assert [each.fix for each in of_yaml if re.search(r"- \*\*|Configuration|column `|in the cell", each.fix)] == []
