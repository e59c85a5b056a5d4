"""A single odd cell in a grid of runs, values far outside the usual range, and seeds without an effect."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Scalar
from scaffold_torchtune.models import DiskState
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.preflight import check_plan
from scaffold_torchtune.preflight.design import odd_cells
from scaffold_torchtune.request import Request
from scaffold_torchtune.settings.parameters import PARAMETERS
from scaffold_torchtune.torchtune_facts import RECIPES
from support.experiments import change, make_experiment
from support.plans import LINES, SUMMARY, Changes, plan_of, run_of
from support.scaffolding import codes, refusal, scaffold
from support.wording import absent

RANKS, RATES, MODELS = [8, 16], [1e-5, 3e-5, 1e-4, 2e-4], ["1B", "3B", "8B"]
NAMES = ["lora_rank", "lr", "model"]
Rows = list[list[Scalar]]


def grid(*levels: Sequence[Scalar]) -> Rows:
    return [list(each) for each in itertools.product(*levels)]


def factors(rows: Rows, names: Sequence[str] = NAMES) -> dict[str, list[Scalar]]:
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names) if i < len(rows[0])}
    return {name: levels for name, levels in columns.items() if len(set(levels)) > 1}


def odd(rows: Rows, names: Sequence[str] = NAMES) -> list[tuple[int, str, Scalar, Scalar]]:
    return [(each.run, each.factor, each.actual, each.expected) for each in odd_cells(factors(rows, names))]


def with_cells(rows: Rows, *cells: tuple[int, int, Scalar]) -> Rows:
    changed = [list(row) for row in rows]
    for run, column, value in cells:
        changed[run][column] = value
    return changed


@pytest.mark.parametrize(("ranks", "rates"), [(2, 3), (3, 2), (3, 3)])
def test_an_odd_value_of_a_constant_factor_is_found_in_any_run(ranks: int, rates: int) -> None:
    rows = [[*row, 4] for row in grid([8, 16, 32][:ranks], [1e-5, 5e-5, 1e-4][:rates])]
    for run in range(len(rows)):
        found = odd(with_cells(rows, (run, 2, 8)), ["lora_rank", "lr", "batch_size"])
        assert found == [(run, "batch_size", 8, 4)], run


def test_a_level_of_zero_has_no_ratio() -> None:
    rows: Rows = [[8, 0.1], [8, 0.2], [8, 0], [0, 0.1], [0, 0.2], [0, 0], [16, 0.1], [16, 0.3]]
    assert [each[:3] for each in odd(rows, ["lora_rank", "weight_decay"])] == [(7, "weight_decay", 0.3)]


WHOLE = grid(RANKS, RATES, MODELS)
OTHER: dict[str, Scalar] = {"lora_rank": 32, "lr": 3e-4, "model": "70B"}


@pytest.mark.parametrize("run", range(len(WHOLE)))
@pytest.mark.parametrize("column", range(3))
def test_an_odd_cell_of_a_grid_is_found_in_any_place(run: int, column: int) -> None:
    name, meant = NAMES[column], WHOLE[run][column]
    assert odd(with_cells(WHOLE, (run, column, OTHER[name]))) == [(run, name, OTHER[name], meant)]


@pytest.mark.parametrize("usual_and_odd", [(4, 8), (4, 40), ("a.json", "b.json"), (1e-2, 1e-1)])
@pytest.mark.parametrize(("ranks", "rates"), [(2, 3), (3, 2), (3, 3), (2, 5), (5, 2), (4, 4)])
def test_an_odd_value_of_a_shared_factor_is_found_in_any_run(
    ranks: int, rates: int, usual_and_odd: tuple[Scalar, Scalar]
) -> None:
    usual, other = usual_and_odd
    rows = grid([2**i for i in range(ranks)], [1e-5 * (i + 1) for i in range(rates)], [usual])
    for run in range(len(rows)):
        (cell,) = odd_cells(factors(with_cells(rows, (run, 2, other))))
        assert (cell.run, cell.actual, cell.expected, cell.pair) == (run, other, usual, None)


@pytest.mark.parametrize(("ranks", "rates"), [(2, 2), (2, 3), (2, 4), (3, 3), (4, 4)])
def test_four_runs_are_enough_for_a_grid(ranks: int, rates: int) -> None:
    rows = grid([8, 16, 32, 64][:ranks], [1e-5, 3e-5, 1e-4, 2e-4][:rates])
    for run, row in enumerate(rows):
        assert odd(with_cells(rows, (run, 1, 5e-3))) == [(run, "lr", 5e-3, row[1])]


def test_in_a_grid_of_two_levels_either_run_may_be_the_odd_one() -> None:
    rows = with_cells(grid([8, 16], [1e-5, 3e-5]), (3, 1, 5e-3))
    (cell,) = odd_cells(factors(rows))
    assert (cell.run, cell.pair, cell.expected) == (3, 1, 3e-5)
    rows = with_cells(grid(["a", "b"], ["x", "y"]), (1, 1, "z"))
    (cell,) = odd_cells(factors(rows, ["model", "dataset"]))
    assert (cell.run, cell.pair) == (3, 1)  # the later one, because nothing distinguishes them


def test_two_odd_cells_are_found_in_one_row_or_in_two() -> None:
    assert odd(with_cells(WHOLE, (5, 1, 3e-4), (20, 0, 32))) == [(5, "lr", 3e-4, 3e-5), (20, "lora_rank", 32, 16)]
    assert odd(with_cells(WHOLE, (5, 1, 3e-4), (20, 1, 3e-4))) == [(5, "lr", 3e-4, 3e-5), (20, "lr", 3e-4, 1e-4)]
    assert odd(with_cells(WHOLE, (5, 1, 3e-4), (5, 0, 64))) == [(5, "lora_rank", 64, 8), (5, "lr", 3e-4, 3e-5)]
    assert odd(with_cells(WHOLE, *((run, 1, 3e-4) for run in range(0, 24, 4)))) == []  # six of them are intended


def test_an_odd_cell_is_found_if_one_row_is_also_missing() -> None:
    for left_out in range(len(WHOLE)):
        for run in (5, 6, 11):
            if run != left_out:
                changed = with_cells(WHOLE, (run, 1, 3e-4))
                (cell,) = odd_cells(factors([row for i, row in enumerate(changed) if i != left_out]))
                assert (cell.run, cell.factor, cell.gaps) == (run - (left_out < run), "lr", 1)
                gaps = [
                    row
                    for row in (WHOLE[run], WHOLE[left_out])
                    if [row[0], *row[2:]] == [WHOLE[run][0], *WHOLE[run][2:]]
                ]
                assert cell.expected == max(float(str(row[1])) for row in gaps)  # the nearest level to 3e-4
    lacking = [row for i, row in enumerate(with_cells(WHOLE, (5, 1, 3e-4))) if i not in {0, 7, 14, 20}]
    assert odd(lacking) == []  # too few runs are left to decide


def test_dependent_and_constant_factors_are_compared() -> None:
    rows = [[rank, lr, 2 * int(str(rank))] for rank, lr in grid([8, 16, 32], [1e-5, 3e-5, 1e-4])]
    names = ["lora_rank", "lr", "lora_alpha"]
    assert odd(rows, names) == []
    assert odd(with_cells(rows, (4, 2, 64)), names) == [(4, "lora_alpha", 64, 32)]
    rows = [[*row, 3] for row in WHOLE]
    assert odd(with_cells(rows, (7, 3, 30)), [*NAMES, "epochs"]) == [(7, "epochs", 30, 3)]
    sweep: Rows = [[lr, 3] for lr in (1e-5, 2e-5, 3e-5, 5e-5, 1e-4)]
    assert odd(with_cells(sweep, (2, 1, 30)), ["lr", "epochs"]) == [(2, "epochs", 30, 3)]
    assert odd(with_cells(sweep, (4, 1, 30)), ["lr", "epochs"]) == []  # at an end it may be intended


def test_seeds_are_a_factor_unless_each_run_has_its_own() -> None:
    names = ["lora_rank", "lr", "seed"]
    rows = grid([8, 16], [1e-5, 3e-5], [1, 2, 3])
    assert odd(with_cells(rows, (7, 1, 9e-5)), names) == [(7, "lr", 9e-5, 1e-5)]
    assert odd(with_cells(rows, (7, 2, 9)), names) == [(7, "seed", 9, 2)]
    own = [[*row[:2], seed] for seed, row in enumerate(rows)]
    assert odd(own, names) == []
    assert odd(with_cells(own, (7, 1, 9e-5)), names) == [(7, "lr", 9e-5, 1e-5)]


def one_factor_at_a_time(*levels: Sequence[Scalar]) -> Rows:
    base = [each[0] for each in levels]
    return [base, *([*base[:i], level, *base[i + 1 :]] for i, each in enumerate(levels) for level in each[1:])]


@pytest.mark.parametrize("sizes", list(itertools.product(range(1, 6), repeat=3)))
def test_a_design_that_varies_one_factor_at_a_time_has_no_odd_cell(sizes: tuple[int, ...]) -> None:
    rows = one_factor_at_a_time(*(range(10 * i + 1, 10 * i + 1 + size) for i, size in enumerate(sizes)))
    assert odd(rows) == []


@pytest.mark.parametrize(
    "rows",
    [
        *([[2**n, n * 1e-5 + 1e-5] for n in range(count)] for count in range(2, 9)),  # pairs
        [[8, 1e-5], [8, 2e-5], [16, 2e-5], [16, 4e-5]],  # rates that depend on the rank
        WHOLE[:-1],
        WHOLE[:-2],
        [*WHOLE, [8, 3e-4, "1B"]],
        [*WHOLE[:-1], [64, 3e-4, "1B"]],
        [[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]],  # a half fraction
        [[a, b, (a + b) % 3] for a in range(3) for b in range(3)],  # a Latin square
        [[8, 1e-5, "1B"], [8, 1e-5, "3B"], [8, 1e-5, "8B"], [8, 5e-6, "70B"]],  # lower for the largest model
        [[8, lr, 3] for lr in (1e-5, 2e-5, 3e-5)],
    ],
)
def test_other_designs_and_incomplete_grids_have_no_odd_cell(rows: Rows) -> None:
    assert odd(rows) == []


def found(code: str, *runs: Changes, varying: Sequence[str] = ()) -> list[Finding]:
    return [each for each in check_plan(plan_of(*runs, varying=varying), DiskState(), {}) if each.code == code]


def test_an_odd_cell_is_a_warning_at_its_row_that_replaces_the_missing_combinations() -> None:
    runs = [dict(zip(["lora_rank", "lr", "epochs"], row, strict=True)) for row in grid(RANKS, RATES, [1, 2, 3])]
    runs[5]["lr"] = 3e-4
    (finding,) = found("odd-value", *runs, varying=["lora_rank", "lr", "epochs"])
    assert (finding.severity, finding.file, finding.line) == (Severity.WARNING, SUMMARY, 8)
    assert (finding.field, finding.expected, finding.actual) == ("lr", 3e-5, 3e-4)
    assert absent(finding.message, "3e-4", "3e-5", "2 x 4 x 3") == []
    assert not found("incomplete-factorial", *runs, varying=["lora_rank", "lr", "epochs"])


def test_plan_and_validate_report_an_odd_cell_with_the_levels(tmp_path: Path) -> None:
    here = make_experiment(tmp_path / "sweep")
    (row,) = [line for line in (here / SUMMARY).read_text().splitlines() if "16 | 5e-5" in line]
    change(here / SUMMARY, row, row.replace("16 | 5e-5", "16 | 5e-4").replace("lr5e-5", "lr5e-4"))
    plan = steps.plan(Request(here))
    (finding,) = [each for each in plan.warnings if each.code == "odd-value"]
    assert (finding.field, finding.actual) == ("lr", 5e-4)
    assert finding.line == (here / SUMMARY).read_text().splitlines().index(
        row.replace("16 | 5e-5", "16 | 5e-4").replace("lr5e-5", "lr5e-4")
    ) + 1  # fmt: skip
    assert plan.levels == {
        "lora_rank": "8, 16; 2 runs each",
        "lr": "1e-5 in 2 runs, 5e-5 in 1 run, 5e-4 in 1 run",
    }
    assert "odd-value" in [each.code for each in scaffold(here).validation.findings]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0.3), ("lr", 1e-9), ("lora_dropout", 0.9), ("epochs", 3_000), ("lora_rank", 4096), ("lora_alpha", 4096),
        ("batch_size", 4096), ("weight_decay", 1.0), ("num_warmup_steps", 50_000), ("max_seq_len", 4),
        ("max_seq_len", 1_000_000), ("gradient_accumulation_steps", 1000), ("clip_grad_norm", 1000.0), ("gpus", 64),
    ],
)  # fmt: skip
def test_a_value_far_outside_the_usual_range_is_a_warning(name: str, value: Scalar) -> None:
    (finding,) = [each for each in found("unusual-value", {name: value}, {}) if each.field == name]
    assert (finding.severity, finding.actual) == (Severity.WARNING, value)
    assert (finding.file, finding.line) == (SUMMARY, LINES.get(name, 99))
    assert finding.expected
    default = run_of({name: value}, defaults=[name])
    assert not [each for each in check_plan(plan_of(default), DiskState(), {}) if each.code == "unusual-value"]


def test_usual_alphas_depend_on_the_rank_and_usual_rates_on_the_method() -> None:
    assert not found("unusual-value", {"lora_rank": 256, "lora_alpha": 16}, {"lora_rank": 8, "lora_alpha": 256})
    (finding,) = found("unusual-value", {"lora_rank": 1, "lora_alpha": 128})
    assert finding.field == "lora_alpha"
    full: Changes = {"custom_recipe": RECIPES["full"][0], "lr": 5e-3}
    assert [each.field for each in found("unusual-value", full, {"lr": 5e-3})] == ["lr"]


def test_common_values_are_not_unusual() -> None:
    usual: list[dict[str, Any]] = [
        {"lr": 1e-3}, {"lr": 2e-6}, {"lora_rank": 512, "lora_alpha": 1024}, {"lora_rank": 1, "lora_alpha": 2},
        {"epochs": 100}, {"batch_size": 256}, {"weight_decay": 0.0}, {"weight_decay": 0.3}, {"num_warmup_steps": 0},
        {"max_seq_len": 64}, {"max_seq_len": 131_072}, {"lora_dropout": 0.5}, {"clip_grad_norm": 1.0}, {"gpus": 8},
    ]  # fmt: skip
    assert not found("unusual-value", *usual)
    assert all(
        p.usual.hold(float(str(p.default))) for p in PARAMETERS.values() if p.kind in {"int", "float"} and p.default
    )


FULL: Changes = {"custom_recipe": "full_finetune_single_device", "lora_rank": None, "lora_alpha": None}


def test_full_runs_that_differ_only_in_the_seed_are_refused() -> None:
    runs: list[Changes] = [{**FULL, "lr": lr, "seed": seed} for lr in (1e-5, 2e-5) for seed in (1, 2, 3)]
    one, other = found("seed-effect", *runs, varying=["lr", "seed"])
    assert {one.severity, other.severity} == {Severity.ERROR}
    assert (one.line, other.line, one.actual) == (4, 7, 3)
    named: list[Changes] = [{**FULL, "seed": seed, "my_wandb_run_name": f"run{seed}"} for seed in (1, 2)]
    assert len(found("seed-effect", *named)) == 1


def test_seeds_with_a_further_difference_or_with_lora_are_accepted() -> None:
    runs: list[Changes] = [{**FULL, "seed": 1}, {**FULL, "seed": 2, "lr": 3e-5}, {**FULL, "seed": 3, "gpus": 2}]
    assert not found("seed-effect", *runs)
    lora: list[Changes] = [{"seed": 1}, {"seed": 2}]
    (finding,) = found("seed-effect", *lora, {**FULL, "seed": 1}, varying=["seed"])
    assert finding.severity is Severity.INFO
    assert finding.field == "seed"


def test_different_job_settings_do_not_change_the_training() -> None:
    runs: list[Changes] = [{**FULL, "seed": 1, "time": "1:00:00"}, {**FULL, "seed": 2, "time": "2:00:00"}]
    assert len(found("seed-effect", *runs)) == 1


def test_a_refused_scaffold_of_full_replicates_writes_nothing(tmp_path: Path) -> None:
    seeds = {"| LoRA Rank |": "| Recipe |", "| Learning Rate |": "| Seed |", "- **Runs:** 4": "- **Runs:** 2"}
    rows = {
        " | 8 | 1e-5 |": " | full | 1 |",
        " | 8 | 5e-5 |": " | full | 2 |",
        "lr5e-5": "again",
        "lora_fine": "full_fine",
    }
    left_out = ["| 8, 16 |", "| 1e-5, 5e-5 |", "_rank16_"]
    here = make_experiment(tmp_path / "sweep", replace=seeds | rows, without=left_out)
    assert "seed-effect" in codes(refusal(steps.scaffold, here))
    assert not list(here.glob("*/finetune.yaml"))
