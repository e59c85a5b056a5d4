"""Names of runs that state a value other than the planned one, and paths that SLURM cannot use."""

from typing import Any

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, escape, number_text
from scaffold_torchtune.models import DiskState, PlannedRun
from scaffold_torchtune.preflight import check_plan, log_path_problem
from scaffold_torchtune.preflight.design import is_misnamed
from support.documents import MODEL, planned, summary, table
from support.plans import LINES, SUMMARY, plan_of, run_of
from support.wording import absent


def named(name: str, changes: dict[str, Any] | None = None, number: int = 0, **more: Any) -> PlannedRun:
    return run_of(changes or {}, number, **more).model_copy(update={"name": name})


def mismatches(*named_runs: PlannedRun) -> list[Finding]:
    return [each for each in check_plan(plan_of(*named_runs), DiskState(), {}) if each.code == "name-mismatch"]


@pytest.mark.parametrize(
    "name",
    [
        "Llama-3.2-1B-Instruct_rank8_lr1e-5", "r8-lr0.00001-bs4-ep2", "lora_rank=8, lr=1e-05", "rank-8_alpha16",
        "lr1e5", "lr1", "r1", "sweep_r2", "R1_rank8", "deepseek-r1x", "run8", "rank9b", "rank9.5.1", "bs12", "bs4",
        "rank", "",
        "wd0.01 lora_dropout0", "words_seed3_rank8", "Llama-3.2-1B-Instruct", "xlr3", "rank 3", "a" * 400 + "_rank3",
    ],
)  # fmt: skip
def test_names_that_match_the_plan_or_state_no_value_are_accepted(name: str) -> None:
    run = named(name, {"seed": 7, "gradient_accumulation_steps": 3}, data="/data/words_seed3.json")
    assert mismatches(run) == []


def test_the_name_of_the_model_states_no_value() -> None:
    changes = {"torchtune_model_name": "My_r16_seed3"}
    assert mismatches(named("My_r16_seed3_rank8", changes)) == []
    assert len(mismatches(named("My_r16_rank8", changes))) == 1


def test_a_number_that_is_not_finite_is_ignored() -> None:
    assert mismatches(named("rank1e999_lr1e999")) == []


@pytest.mark.parametrize(
    ("name", "said", "setting", "number"),
    [
        ("x_rank16_lr1e-5", "rank16", "lora_rank", 16), ("r16_lr1e-5", "r16", "lora_rank", 16),
        ("lora_rank-4", "lora_rank-4", "lora_rank", 4), ("alpha8", "alpha8", "lora_alpha", 8),
        ("lora_alpha8", "lora_alpha8", "lora_alpha", 8), ("lr2e-5", "lr2e-5", "lr", 2e-5),
        ("lr=0.1", "lr=0.1", "lr", 0.1), ("a_bs8", "bs8", "batch_size", 8),
        ("batch_size16", "batch_size16", "batch_size", 16), ("ep3", "ep3", "epochs", 3),
        ("epoch3", "epoch3", "epochs", 3), ("epochs3", "epochs3", "epochs", 3), ("seed1", "seed1", "seed", 1),
        ("wd0.1", "wd0.1", "weight_decay", 0.1), ("weight_decay0.1", "weight_decay0.1", "weight_decay", 0.1),
        ("lora_dropout0.1", "lora_dropout0.1", "lora_dropout", 0.1), ("bs 4_rank_9", "rank_9", "lora_rank", 9),
    ],
)  # fmt: skip
def test_a_name_that_states_a_different_value_is_a_warning_at_its_row(
    name: str, said: str, setting: str, number: float
) -> None:
    (found,) = mismatches(named(name, number=4))
    assert (found.severity, found.field, found.expected) == (Severity.WARNING, setting, number)
    assert (found.file, found.line) == (SUMMARY, 7)
    assert absent(found.message, f"'{name}'", f"'{said}'", setting, number_text(found.actual)) == []
    assert found.message.count(f"'{said}'") == (2 if name == said else 1), "the whole of what the name says"
    assert " runs" not in found.message, "it is one run"
    (default,) = mismatches(named(name, number=4, defaults=[setting]))
    assert len(default.message) > len(found.message), "of a default it is said that it is one"


def test_a_whole_name_of_a_setting_in_a_run_name_is_not_a_part_of_it() -> None:
    run = {"max_steps_per_epoch": 10, "batch_size_val": 8, "num_warmup_steps": 5, "gpus": 2}
    for right in ("max_steps_per_epoch10", "batch_size_val8", "num_warmup_steps5", "effective_batch_size8", "gpus2"):
        assert mismatches(named(right, run)) == []
    for wrong, field in {
        "max_steps_per_epoch9": "max_steps_per_epoch",
        "num_warmup_steps6": "num_warmup_steps",
    }.items():
        (found,) = mismatches(named(wrong, run))
        assert (found.field, found.actual) == (field, run[field])


@pytest.mark.parametrize(
    ("directory", "name", "by_author", "expected"),
    [
        ("r16_lr1e-5", "r16_lr1e-5", False, True), ("r16_lr1e-5", "other", True, True),
        ("r16_lr1e-5", "other", False, False), ("r8_lr1e-5", "r8_lr1e-5", False, False),
        ("rank8", "rank16", True, False), ("r1", "r1", False, False), ("big", "big", False, False),
    ],
)  # fmt: skip
def test_a_directory_is_misnamed_if_a_run_name_contradicts_a_value(
    directory: str, name: str, *, by_author: bool, expected: bool
) -> None:
    update = {"directory": directory, "name": name, "by_author": by_author}
    assert is_misnamed(run_of({}).model_copy(update=update)) is expected


def test_a_default_that_differs_from_names_is_reported_once_for_all_runs() -> None:
    some = [named(f"rank8_{n}", {"lora_rank": 64}, n, defaults=["lora_rank"]) for n in range(3)]
    (found,) = mismatches(*some, named("rank64", {"lora_rank": 64}, 3))
    assert absent(found.message, "'rank8_0'", "'rank8'", "lora_rank", 64, "default", "3 run names") == []
    assert (found.field, found.expected, found.actual) == ("lora_rank", 8, 64)
    (two,) = mismatches(*some[:2])
    assert absent(two.message, "2 run names") == []


def test_each_setting_in_a_name_has_a_separate_finding() -> None:
    assert [each.field for each in mismatches(named("rank9_lr2e-5"))] == ["lora_rank", "lr"]


def test_a_rank_in_the_name_of_a_full_run_is_reported() -> None:
    full = {"custom_recipe": "full_finetune_single_device", "lora_rank": None, "lora_alpha": None, "seed": None}
    (found,) = mismatches(named("rank16_seed3", full))
    assert absent(found.message, "'rank16_seed3'", "'rank16'") == []
    assert (found.field, found.expected, found.actual) == ("lora_rank", 16, None)
    assert mismatches(named("alpha3", full))
    assert not mismatches(named("rank16", {"lora_rank": None}))  # the default of an external script is unknown


def test_runs_without_the_setting_are_listed_separately_from_runs_with_a_different_value() -> None:
    full = {"custom_recipe": "full_finetune_single_device", "lora_rank": None, "lora_alpha": None}
    found = mismatches(named("rank16", {"lora_rank": 8}), named("rank4", full, 1), named("rank5", full, 2))
    assert [each.actual for each in found] == [8, None]
    assert absent(found[1].message, "2 run names") == []
    assert "run names" not in found[0].message


def test_a_name_may_state_the_batch_size_or_a_total_of_samples() -> None:
    several = {"batch_size": 2, "gradient_accumulation_steps": 3, "gpus": 4}
    for name in ("bs2", "bs6", "bs24"):
        assert not mismatches(named(name, several))
    for name in ("bs4", "bs8", "bs3"):
        assert mismatches(named(name, several))
    assert mismatches(named("ep24", several))  # a number of samples is not a number of epochs
    assert not mismatches(named("bs5", {"batch_size": None}))


def test_a_model_directory_named_after_a_different_model_is_a_warning_at_its_path() -> None:
    for name in ("Llama-3.2-1B-Instruct", "LLAMA-3.2-1b-instruct", "my-llama", "/models/any"):
        assert not mismatches(named("", {"model_checkpoint": name}))
    other = {"model_checkpoint": "Llama-3.2-1B"}
    found = mismatches(named("", other), named("", other, 1), named("", {}, 2))
    (told,) = found
    directory = "'/scratch/me/models/Llama-3.2-1B'"
    assert absent(told.message, "'Llama-3.2-1B-Instruct'", "2 of 3 runs ('run0' and 'run1')", directory) == []
    assert (told.severity, told.field) == (Severity.WARNING, "model_checkpoint")
    assert (told.expected, told.actual) == ("Llama-3.2-1B-Instruct", "Llama-3.2-1B")
    assert (told.file, told.line) == (SUMMARY, LINES["model_checkpoint"])
    assert not mismatches(named("", {"torchtune_model_name": "my-own", "model_checkpoint": "Llama-3.2-1B"}))


def test_a_plan_of_documents_compares_the_name_of_the_row() -> None:
    cells = [["a_rank8", MODEL, "1e-5", "Fine-tuned"]]
    plan = planned(summary(table=table(["Run Name", "Model", "LR", "Type"], cells)))
    (found,) = [each for each in check_plan(plan, DiskState(), {}) if each.code == "name-mismatch"]
    assert (found.field, found.expected, found.actual) == ("lora_rank", 8, 64)
    assert absent(found.message, "'rank8'", 64, "default") == []


@pytest.mark.parametrize(
    ("path", "characters", "renamed"),
    [
        ("/lab/50%/sweep", ["'%'"], ["'50%'"]),
        ("/lab/a%j/b\\c/sweep", ["'%'", "'\\\\'"], ["'a%j'", "'b\\\\c'"]),
        ("/lab/a\tb", ["'\\t'"], ["'a\\tb'"]),
    ],
)
def test_a_path_with_characters_that_slurm_interprets_is_an_error(
    path: str, characters: list[str], renamed: list[str]
) -> None:
    found = log_path_problem(path)
    assert found is not None
    assert (found.code, found.severity, found.file) == ("unsafe-path", Severity.ERROR, escape(path))
    assert absent(found.message, *characters) == []
    assert absent(found.fix, *renamed) == []
    assert "sweep" not in found.fix


@pytest.mark.parametrize("path", ["/", "/lab/it's (a) sweep-1_é", "/lab/$HOME/~/{a}#b"])
def test_other_paths_of_logs_are_accepted(path: str) -> None:
    assert log_path_problem(path) is None
