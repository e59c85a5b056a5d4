"""White space does not change the plan, and both forms of a summary give the same outputs."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.models import Plan
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.system import markdown
from support.corpus_cases import plan_of
from support.document_forms import LOC, LOCAL, MARKDOWN, MD, YAML, YML, scaffolded, write
from support.experiments import outputs
from support.sampling import spread
from support.wording import absent

BROKEN: dict[str, Callable[[str], str]] = {
    "crlf": lambda text: text.replace("\n", "\r\n"),
    "bom": lambda text: "\ufeff" + text,
    "crlf_and_bom": lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    "trailing_spaces": lambda text: text.replace("\n", "  \n"),
    "tabs": lambda text: text.replace(" | ", "\t|\t").replace("** ", "**\t").replace(":** ", ":**\t"),
    "non_breaking_spaces": lambda text: text.replace(" | ", "\u00a0|\u00a0").replace(":** ", ":**\u00a0"),
    "non_breaking_marks": lambda text: re.sub(r"(?m)^([-#]+) ", "\\1\u00a0", text).replace("- ", "-\u202f"),
    "non_breaking_delimiters": lambda text: text.replace("|---|", "|\u00a0---\u00a0|"),
    "no_outer_pipes": lambda text: "\n".join(line.removeprefix("| ").removesuffix(" |") for line in text.split("\n")),
}


def values(plan: Plan) -> list[tuple[str, dict[str, Any]]]:
    return [(run.directory, {k: s.model_dump() for k, s in run.settings.items()}) for run in plan.runs]


@pytest.mark.parametrize("kind", spread(BROKEN, every=2))
def test_white_space_changes_neither_the_plan_nor_the_outputs(tmp_path: Path, kind: str) -> None:
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
def test_line_endings_and_a_bom_do_not_change_the_outputs_of_the_yaml_form(tmp_path: Path, kind: str) -> None:
    plain = scaffolded(tmp_path / "plain", yml=YAML)
    assert outputs(plain) == outputs(scaffolded(tmp_path / "other", yml=BROKEN[kind](YAML)))


# --- both forms


@pytest.mark.parametrize("names", ["varying", "table"])
def test_both_forms_give_identical_run_directories(tmp_path: Path, names: Literal["varying", "table"]) -> None:
    one = scaffolded(tmp_path / "one", names, md=MARKDOWN)
    other = scaffolded(tmp_path / "other", names, yml=YAML)
    assert outputs(one) == outputs(other)
    expected = ["rank16_lr5e-5", "rank8_lr1e-5"] if names == "varying" else ["first", "second"]
    files = ["finetune.slurm", "finetune.yaml", "setup_finetune.yaml"]
    assert sorted(outputs(one)) == [f"{run}/{file}" for run in expected for file in files]


def test_the_yaml_form_is_used_if_both_exist_and_this_is_reported(tmp_path: Path) -> None:
    folder = write(tmp_path / "sweep", md=MARKDOWN, yml=YAML)
    plan = steps.plan(Request(folder))
    (remark,) = [w for w in plan.warnings if w.code == "two-summaries"]
    assert (remark.file, [run.directory for run in plan.runs]) == (MD, ["first", "second"])
    assert absent(remark.message, MD, YML) == []


def test_the_markdown_form_is_used_if_the_request_names_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "sweep", md=MARKDOWN, yml=YAML)
    plan = steps.plan(Request(folder / MD))
    (remark,) = [w for w in plan.warnings if w.code == "two-summaries"]
    assert (remark.file, [run.directory for run in plan.runs]) == (YML, ["rank8_lr1e-5", "rank16_lr5e-5"])
    assert absent(remark.message, MD, YML) == []


@pytest.mark.parametrize(
    ("old", "new", "run", "setting"),
    [
        ("**Seed:** 7", "**Seed:** 8", "first", "seed"),
        ("| 16 | 5e-5 |", "| 16 | 6e-5 |", "second", "lr"),
        ("/data/words.json", "/data/others.json", "first", "dataset_label"),
        ("/data/words.json", "/data/words.parquet", "first", "dataset_ext"),
        ("Capitalize the word", "Capitalise the word", "first", "system_prompt"),
    ],
)
def test_a_value_that_differs_between_the_forms_is_refused_with_run_and_setting(
    tmp_path: Path, old: str, new: str, run: str, setting: str
) -> None:
    assert old in MARKDOWN
    folder = write(tmp_path / "sweep", md=MARKDOWN.replace(old, new), yml=YAML)
    with pytest.raises(Refused) as refused:
        steps.plan(Request(folder))
    problems = refused.value.problems
    assert {problem.code for problem in problems} == {"ambiguous"}
    matching = [p for p in problems if p.field == setting and absent(p.message, run, setting, f"{YML}:", "here") == []]
    assert {(p.file, p.line is not None) for p in matching} == {(MD, True)}


@pytest.mark.parametrize("document", [MD, YML])
def test_a_title_in_words_does_not_conflict_with_the_name_in_the_yaml_form(tmp_path: Path, document: str) -> None:
    both = write(tmp_path / "sweep", md=MARKDOWN.replace("# sweep", "# How rank changes capitalization"), yml=YAML)
    plan = steps.plan(Request(both / document))
    assert "two-summaries" in [warning.code for warning in plan.warnings]
    (both / MD).write_text(MARKDOWN.replace("# sweep", "# another"))
    with pytest.raises(Refused):
        steps.plan(Request(both / document))


def test_parsing_does_not_modify_the_cached_tree_of_a_document() -> None:
    trees = [markdown.read(text) for text in (MARKDOWN, LOCAL)]
    before = copy.deepcopy(trees)
    assert plan_of((MD, MARKDOWN), (LOC, LOCAL)).runs
    assert [markdown.read(text) for text in (MARKDOWN, LOCAL)] == before
    assert all(markdown.read(text) is tree for text, tree in zip((MARKDOWN, LOCAL), trees, strict=True)), "read once"
