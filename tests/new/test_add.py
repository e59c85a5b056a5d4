"""`add`: new rows in the table of a full grid, with every other byte of the file unchanged."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.extend import add_runs
from scaffold_torchtune.findings import Refused
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.experiments import everything
from support.new_experiments import MODEL, make
from support.sampling import spread
from support.wording import absent

pytestmark = pytest.mark.usefixtures("no_local_file")


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    make(tmp_path / "sweep", control=True)
    return tmp_path / "sweep"


def changed(folder: Path, change: Callable[[str], str]) -> bytes:
    """Change the summary, and return its bytes."""
    path = folder / "experiment_summary.md"
    path.write_bytes(change(path.read_bytes().decode()).encode())
    return path.read_bytes()


def added(folder: Path, **levels: str) -> list[bytes]:
    """Add levels and return the added lines, after checking that everything else is unchanged."""
    path = folder / "experiment_summary.md"
    before = path.read_bytes()
    add_runs(Request(experiment=folder), {name: [text] for name, text in levels.items()})
    after = path.read_bytes()
    start = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
    start = before.rfind(b"\n", 0, start) + 1
    rest = before[start:]
    assert after.startswith(before[:start])
    assert after.endswith(rest)
    return after[start : len(after) - len(rest)].splitlines()


def refused(folder: Path, **levels: str) -> list[tuple[str, str | None]]:
    before = everything(folder)
    with pytest.raises(Refused) as caught:
        add_runs(Request(experiment=folder), {name: [text] for name, text in levels.items()})
    assert everything(folder) == before
    assert all(problem.fix for problem in caught.value.problems)
    return [(problem.code, problem.field) for problem in caught.value.problems]


def runs(folder: Path) -> list[tuple[str, str]]:
    plan = steps.plan(Request(experiment=folder))
    return [(run.directory, run.name) for run in plan.runs]


def test_new_levels_become_new_runs_after_the_existing_ones(sweep: Path) -> None:
    before = runs(sweep)
    new = added(sweep, lora_rank="32,64")
    assert [re.sub(rb" +", b" ", row) for row in new] == [
        f"| rank{rank}_lr{lr} | {MODEL} | {rank} | {lr} | 4 | Fine-tuned |".encode()
        for rank in (32, 64)
        for lr in ("1e-5", "5e-5")
    ]
    assert len({len(row) for row in new}) == 1
    assert runs(sweep) == [
        *before,
        *((name, name) for name in ("rank32_lr1e-5", "rank32_lr5e-5", "rank64_lr1e-5", "rank64_lr5e-5")),
    ]
    assert len(added(sweep, lr="3e-4", lora_rank="8,128")) == 4 + 3
    assert len(runs(sweep)) == 5 * 3


def with_cells(change: Callable[[list[str]], list[str]]) -> Callable[[str], str]:
    """Return a function that changes the cells of each row of the table of runs, and of the line below its header."""

    def changed_rows(text: str) -> str:
        before, table, after = re.split(r"(?<=## All Runs\n)((?:\|.*\n)+)", text, maxsplit=1)
        rows = [change(row[1:-1].split("|")) for row in table.splitlines()]
        return before + "".join(f"|{'|'.join(row)}|\n" for row in rows) + after

    return changed_rows


def with_remarks(cells: list[str]) -> list[str]:
    first = cells[0].strip()
    return [*cells, " Est. Time " if first == "Run Name" else "---" if first.startswith("-") else f" ~{len(first)}min "]


def with_alpha(cells: list[str]) -> list[str]:
    rank = cells[2].strip()
    return [*cells, " LoRA alpha " if rank == "LoRA Rank" else "---" if rank.startswith("--") else f" {rank} "]


def emphasized(cells: list[str]) -> list[str]:
    return [f" **{cell.strip()}** " if cell.strip() in {"8", "16"} else cell for cell in cells]


def differently_named(old: str, new: str) -> Callable[[str], str]:
    return lambda text: re.sub(rf"\b{old}", new, text)


FORMS: dict[str, Callable[[str], str]] = {
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "a byte order mark": lambda text: f"\ufeff{text}",
    "no bars at the ends": lambda text: re.sub(r"^\|(.*)\|$", r"\1", text, flags=re.MULTILINE),
    "emphasis": with_cells(emphasized),
    "trailing spaces": lambda text: re.sub(r"\|$", "|  ", text, flags=re.MULTILINE),
    "no names": with_cells(lambda cells: cells[1:]),
    "remarks": with_cells(with_remarks),
    "other names": differently_named(r"rank(\d+)_lr(\S+)", r"tune-\2-r\1-x"),
    "models in names": differently_named(r"rank(\d+)_lr", rf"{MODEL}_rank\1_lr"),
}


@pytest.mark.parametrize("form", spread(FORMS, every=3))
def test_the_table_may_have_many_forms(sweep: Path, form: str) -> None:
    before = changed(sweep, FORMS[form])
    count = len(runs(sweep))
    new = added(sweep, lora_rank="32")
    assert (count, len(new)) == (4, 2), before.decode()
    found = runs(sweep)
    assert len(found) == 6
    assert all("32" in directory for directory, _ in found[4:])
    assert form == "no names" or all("32" in name for _, name in found[4:])


def test_a_missing_final_newline_is_added(sweep: Path) -> None:
    def last(text: str) -> str:
        table = text[text.index("## All Runs") : text.index("## Resources")]
        return (text.replace(table, "") + table).rstrip().rsplit("\n", 1)[0]

    changed(sweep, last)
    path = sweep / "experiment_summary.md"
    before = path.read_text()
    add_runs(Request(experiment=sweep), {"lora_rank": ["32"]})
    assert path.read_text().startswith(f"{before}\n| rank32_lr1e-5")
    assert not path.read_text().endswith("\n")


NOT_UNDERSTOOD: dict[str, Callable[[str], str]] = {
    "not a full grid": lambda text: re.sub(r"^\| rank16_lr5e-5.*\n", "", text, flags=re.MULTILINE),
    "names without values": differently_named(r"rank(\d)\d*_lr(\d)e-5", r"run_\1_\2"),
    "two columns that change together": with_cells(with_alpha),
}


@pytest.mark.parametrize("form", NOT_UNDERSTOOD)
def test_an_unsupported_table_is_refused(sweep: Path, form: str) -> None:
    changed(sweep, NOT_UNDERSTOOD[form])
    assert refused(sweep, lora_rank="32") == [("ambiguous", "runs")]


@pytest.mark.parametrize(("levels", "problem"), [
    ({}, ("missing-field", "runs")),
    ({"lora_rank": "8"}, ("identical-runs", "runs")),
    ({"lora_rank": "many"}, ("invalid-value", "lora_rank")),
    ({"seed": "1"}, ("ambiguous", "seed")),
    ({"lora_rank": ",".join(str(n) for n in range(17, 2000))}, ("unsupported-setting", "runs")),
])  # fmt: skip
def test_levels_that_add_no_valid_run_are_refused(
    sweep: Path, levels: dict[str, str], problem: tuple[str, str]
) -> None:
    assert refused(sweep, **levels) == [problem]


def test_an_unknown_model_is_refused_before_anything_is_written(sweep: Path) -> None:
    assert refused(sweep, model="no-such-model")


def test_the_command_prints_the_rows(
    sweep: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.chdir(sweep)
    assert main(["add", "--rank", "64"]) == 0
    out = capsys.readouterr().out
    assert absent(out, "rank64_lr1e-5", "rank64_lr5e-5", 2, 6, "runs-differ", "levels-differ") == []
    assert main(["scaffold", "-q"]) == 0
    assert main(["add", "--rank", "64", "--json"]) == 2
