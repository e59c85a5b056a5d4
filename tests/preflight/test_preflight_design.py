"""Findings about the design of an experiment."""

import itertools
import re
from typing import Any

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Scalar
from scaffold_torchtune.models import DiskState
from scaffold_torchtune.preflight import check_plan
from support.plans import LINES, SUMMARY, Changes, plan_of
from support.wording import absent


def found(code: str, *runs: Changes, varying: list[str]) -> list[Finding]:
    findings = [each for each in check_plan(plan_of(*runs, varying=varying), DiskState(), {}) if each.code == code]
    assert all(each.severity is Severity.INFO for each in findings)
    return findings


def grid(**levels: list[Scalar]) -> list[dict[str, Scalar]]:
    return [dict(zip(levels, each, strict=True)) for each in itertools.product(*levels.values())]


def test_a_full_grid_has_no_finding() -> None:
    runs = grid(lora_rank=[8, 16], lr=[1e-5, 5e-5])
    assert not found("incomplete-factorial", *runs, varying=["lora_rank", "lr"])
    assert not found("incomplete-factorial", *grid(lr=[1e-5, 5e-5]), varying=["lr"])
    assert not found("incomplete-factorial", {}, varying=[])


def test_missing_combinations_are_listed() -> None:
    runs = grid(lora_rank=[8, 16], lr=[1e-5, 5e-5])
    (finding,) = found("incomplete-factorial", *runs[:3], varying=["lora_rank", "lr"])
    assert absent(finding.message, 1, 4, "lora_rank x lr") == []
    assert finding.message.endswith(": lora_rank 16, lr 5e-5")
    assert (finding.file, finding.line, finding.expected, finding.actual) == (SUMMARY, 3, 4, 3)


def test_only_some_of_many_missing_combinations_are_listed() -> None:
    levels: list[Scalar] = [1, 2, 3, 4]
    runs = grid(lora_rank=levels, batch_size=levels)[:9]
    (finding,) = found("incomplete-factorial", *runs, varying=["lora_rank", "batch_size"])
    assert (finding.expected, finding.actual) == (12, 9)  # no run has the rank 4
    assert absent(finding.message, 3, 12) == []
    runs = grid(lora_rank=levels, batch_size=levels)
    (finding,) = found("incomplete-factorial", *runs[:8], runs[-1], varying=["lora_rank", "batch_size"])
    assert (finding.expected, finding.actual) == (12, 9)
    assert absent(finding.message, 3, 12) == []
    more: list[Scalar] = list(range(1, 7))
    off_diagonal = [each for each in grid(lora_rank=more, batch_size=more) if each["lora_rank"] != each["batch_size"]]
    (finding,) = found("incomplete-factorial", *off_diagonal, varying=["lora_rank", "batch_size"])
    assert (finding.expected, finding.actual) == (36, 30)
    assert absent(finding.message, 6, 36) == []
    assert finding.message.partition(": ")[2].count("; ") == 5
    (finding,) = found("incomplete-factorial", *off_diagonal[1:], varying=["lora_rank", "batch_size"])
    last = finding.message.split("; ")[-1]
    assert absent(last, 1) == []
    assert "lora_rank" not in last


def test_repeated_runs_without_a_seed_are_not_replicates() -> None:
    runs: list[Changes] = [{"lr": 1e-5}, {"lr": 1e-5}, {"lr": 2e-5}]
    assert not found("incomplete-factorial", *runs, varying=["lr"])


def test_a_design_that_varies_one_factor_at_a_time_is_not_a_grid() -> None:
    runs: list[Changes] = [{"lr": lr, "lora_rank": 8, "seed": 1} for lr in (1e-5, 2e-5, 3e-5, 4e-5)]
    runs += [{"lr": 1e-5, "lora_rank": rank, "seed": 1} for rank in (16, 32, 64)]
    assert not found("incomplete-factorial", *runs, varying=["lr", "lora_rank"])


@pytest.mark.parametrize("varying", [["lora_rank", "seed"], ["seed", "lora_rank"]])
def test_missing_seeds_of_a_combination_are_reported(varying: list[str]) -> None:
    runs = grid(lora_rank=[8, 16], seed=[1, 2, 3])
    assert not found("incomplete-factorial", *runs, varying=varying)
    (finding,) = found("incomplete-factorial", *runs[:-1], varying=varying)
    assert (finding.field, finding.expected, finding.actual) == ("seed", 3, 2)
    assert absent(finding.message, "lora_rank 16") == []
    assert absent(finding.message, 2, 3) == []


def test_a_design_of_only_seeds_has_no_finding() -> None:
    assert not found("incomplete-factorial", *grid(seed=[1, 2, 3]), varying=["seed"])


def test_two_parameters_that_change_together_are_confounded() -> None:
    runs: list[Changes] = [{"lr": 1e-5, "seed": 1}, {"lr": 2e-5, "seed": 2}, {"lr": 3e-5, "seed": 3}]
    (finding,) = found("confound", *runs, varying=["lr", "seed"])
    assert absent(finding.message, "lr and seed") == []
    assert (finding.file, finding.line) == (SUMMARY, LINES["lr"])
    assert not found("confound", *runs, {"lr": 1e-5, "seed": 2}, varying=["lr", "seed"])


def test_parameters_that_change_together_are_one_finding() -> None:
    runs: list[Changes] = [{"lr": lr, "seed": n, "epochs": n + 4} for n, lr in enumerate((1e-5, 2e-5, 3e-5, 1e-5))]
    (finding,) = found("confound", *runs, varying=["lr", "seed", "epochs"])
    assert absent(finding.message, "seed and epochs") == []
    assert "lr" not in finding.message
    (finding,) = found("confound", *runs[:3], varying=["lr", "seed", "epochs"])
    assert absent(finding.message, "lr, seed and epochs") == []


def alpha(*pairs: tuple[int, int], varying: list[str] | None = None) -> list[str]:
    runs: list[Any] = [{"lora_rank": rank, "lora_alpha": alpha} for rank, alpha in pairs]
    return [each.message for each in found("confound", *runs, varying=varying or ["lora_rank"])]


def test_alpha_that_changes_with_the_rank_is_reported() -> None:
    (message,) = alpha((8, 16), (16, 32))
    assert absent(message, "lora_alpha", "lora_rank", "alpha / rank", 2) == []


def test_a_constant_alpha_is_reported_if_the_rank_changes() -> None:
    (message,) = alpha((8, 16), (16, 16), (32, 16))
    assert absent(message, "lora_alpha", 16, "alpha / rank", 2, 0.5) == []


def test_alpha_that_is_chosen_by_row_is_not_reported() -> None:
    assert not alpha((8, 16), (16, 16), (8, 32), (16, 32), varying=["lora_rank", "lora_alpha"])
    assert not alpha((8, 16), (8, 16))
    assert not alpha((8, 16), (16, 48))
    (message,) = alpha((8, 16), (16, 32), varying=["lora_rank", "lora_alpha"])
    assert absent(message, "lora_rank and lora_alpha") == []


def test_runs_without_an_adapter_are_not_compared_by_alpha() -> None:
    full: Changes = {"lora_rank": None, "lora_alpha": 16}
    no_alpha: Changes = {"lora_rank": 16, "lora_alpha": None}
    for other in (full, no_alpha):
        assert not found("confound", {"lora_rank": 8, "lora_alpha": 16}, other, varying=["lora_rank"])


def test_different_samples_per_step_are_reported() -> None:
    runs: list[Changes] = [{"batch_size": 4, "gpus": 1}, {"batch_size": 4, "gpus": 2}, {"batch_size": 8, "gpus": 1}]
    (finding,) = found("confound", *runs, varying=["batch_size", "gpus"])
    assert re.findall(r"\d+", finding.message) == ["4", "1", "8", "2"]
    assert finding.line == LINES["batch_size"]
    (finding,) = found("confound", *runs[:2], varying=["gpus"])
    assert (finding.field, finding.line) == ("gpus", LINES["gpus"])
    same: list[Changes] = [{"batch_size": 4, "gpus": 2}, {"batch_size": 8, "gpus": 1}]
    assert not [f for f in found("confound", *same, varying=["batch_size"]) if f.field == "batch_size"]
