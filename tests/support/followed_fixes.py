"""Follow the fixes of findings literally, as a machine can: edit the line, cell or column, or give the option.

`FOLLOWED` has a pattern of each form of a fix, and the function that follows it.
"""

import re
import shlex
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaffold_torchtune.findings import Finding, Refused
from scaffold_torchtune.models import PlannedRun
from scaffold_torchtune.pipeline import prepare, steps
from scaffold_torchtune.pipeline.explain import explain
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import ScaffoldResult, StepResult

SUMMARY_FILE = "experiment_summary.md"

Step = Callable[[Request], Any]


@dataclass
class Case:
    """An experiment in which a step has a finding of a code; `given` are the arguments of the step."""

    experiment: Path
    step: Step = steps.plan
    given: dict[str, Any] = field(default_factory=dict)

    def findings(self) -> list[Finding]:
        try:
            result = self.step(Request(self.experiment, **self.given))
        except Refused as refused:
            return list(refused.problems)
        if isinstance(result, ScaffoldResult):
            return [*result.plan.warnings, *result.validation.all_findings()]
        return list(result.all_findings()) if isinstance(result, StepResult) else []

    @property
    def summary(self) -> Path:
        return self.experiment / SUMMARY_FILE


def lines_of(file: Path) -> list[str]:
    return file.read_text().splitlines()


def write(file: Path, lines: Iterable[str]) -> None:
    file.write_text("\n".join(lines) + "\n")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def edit(file: Path, number: int, new: Callable[[str], str | None]) -> None:
    """Replace a line of a file by the result of a function; None removes it."""
    lines = lines_of(file)
    made = new(lines[number - 1])
    lines[number - 1 : number] = [] if made is None else [made]
    write(file, lines)


def with_cell(line: str, column: int, value: str) -> str:
    row = cells(line)
    row[column] = value
    return f"| {' | '.join(row)} |"


def header_of(case: Case, row: int) -> list[str]:
    """Return the header of the table that a row belongs to."""
    lines = lines_of(case.summary)
    above = (lines[number] for number in range(row - 1, -1, -1))
    return cells(next(line for line in above if line.startswith("| Run Name")))


def add_to_configuration(case: Case, _found: Finding, match: re.Match[str]) -> None:
    lines = lines_of(case.summary)
    lines.insert(lines.index("### Training") + 1, match["line"])
    write(case.summary, lines)


def replace_in_line(case: Case, _found: Finding, match: re.Match[str]) -> None:
    def new(line: str) -> str:
        assert match["old"] in line, (line, match[0])
        return line.replace(match["old"], match["new"], 1)

    edit(case.experiment / match["file"], int(match["line"]), new)


def replace_count_and_total(case: Case, _found: Finding, match: re.Match[str]) -> None:
    def new(line: str) -> str:
        line = line.replace(f"{match['old']} fine-tuned", f"{match['new']} fine-tuned")
        return line.replace(f"{match['old_total']} total", f"{match['new_total']} total")

    edit(case.experiment / match["file"], int(match["line"]), new)


def replace_in_column(case: Case, _found: Finding, match: re.Match[str]) -> None:
    for number in map(int, re.findall("[0-9]+", match["lines"])):
        column = header_of(case, number).index(match["column"])
        edit(case.summary, number, lambda line, at=column: with_cell(line, at, match["new"]))  # type: ignore[misc]


def values_of_column(match: re.Match[str]) -> dict[str, str]:
    """Return the values that a fix gives runs in a new column, by directory; `the others` are the rest."""
    groups = re.findall(r"`([^`]+)` for (.+?)(?=,? (?:and )?`[^`]+` for |$)", match["cells"])
    return {name: value for value, names in groups for name in re.split(r", and |, | and ", names)}


def add_column(case: Case, _found: Finding, match: re.Match[str]) -> None:
    values = values_of_column(match)
    lines = lines_of(case.summary)
    start = next(number for number, line in enumerate(lines) if line.startswith("| Run Name"))
    for number in range(start, len(lines)):
        if not lines[number].startswith("|"):
            break
        run, is_run = cells(lines[number])[0], "| Fine-tuned |" in lines[number]
        run = run if run in values else run.removeprefix("Llama-3.2-1B-Instruct_")
        own = [value for name, value in values.items() if run.startswith(re.split("_bs|_[ab]$", name)[0])]
        cell = match["column"] if number == start else "---" if number == start + 1 else "-"
        assert len(own) < 2, (run, values)
        lines[number] += f" {(own or [values['the others']])[0] if is_run else cell} |"
    write(case.summary, lines)


def add_below(case: Case, found: Finding, match: re.Match[str]) -> None:
    lines = lines_of(case.experiment / str(found.file))
    filled = match["line"].replace("NUMBER", "2").replace("NAME", "ada")
    lines.insert(int(match["below"]), filled)
    write(case.experiment / str(found.file), lines)


def write_cells_and_remove_line(case: Case, found: Finding, match: re.Match[str]) -> None:
    replace_in_column(case, found, match)
    remove_line(case, found, match)


def remove_from_line(case: Case, _found: Finding, match: re.Match[str]) -> None:
    def new(line: str) -> str:
        left = re.sub(rf"\w+[= ]{match['value']}(?:, |$)", "", line, count=1)
        left = left if left != line else re.sub(rf"(?:, )?\w+ {match['value']}", "", line, count=1)
        assert left != line, (line, match[0])
        return left

    edit(case.experiment / match["file"], int(match["line"]), new)


def set_in_line(case: Case, _found: Finding, match: re.Match[str]) -> None:
    def new(line: str) -> str:
        words = match["name"].partition("_steps")[0].replace("_", " ")
        return line.replace(f"{words} {match['old']}", f"{words} {match['new']}")

    edit(case.experiment / match["file"], int(match["line"]), new)


def write_ratio(case: Case, _found: Finding, match: re.Match[str]) -> None:
    edit(case.experiment / match["file"], int(match["line"]), lambda line: line.replace(match["old"], match["new"]))


def add_with_an_empty_line(case: Case, found: Finding, match: re.Match[str]) -> None:
    lines = lines_of(case.experiment / str(found.file))
    lines[int(match["below"]) : int(match["below"])] = [match["line"], ""]
    write(case.experiment / str(found.file), lines)


def remove_line(case: Case, _found: Finding, match: re.Match[str]) -> None:
    edit(case.experiment / match["file"], int(match["line"]), lambda _line: None)


def take_out(case: Case, found: Finding, _match: re.Match[str]) -> None:
    file = case.given["template"] if "template" in case.given else case.experiment / str(found.file)
    edit(file, int(found.line or 0), lambda _line: None)


def keep_one_column(case: Case, _found: Finding, _match: re.Match[str]) -> None:
    lines = lines_of(case.summary)
    start = next(number for number, line in enumerate(lines) if line.startswith("| Run Name"))
    at = cells(lines[start]).index("BS")
    for number in range(start, len(lines)):
        if not lines[number].startswith("|"):
            break
        row = cells(lines[number])
        lines[number] = f"| {' | '.join([*row[:at], *row[at + 1 :]])} |"
    write(case.summary, lines)


def write_name(case: Case, found: Finding, match: re.Match[str]) -> None:
    edit(case.summary, int(found.line or 0), lambda line: line.replace(str(found.field), match["name"]))


def write_cell(case: Case, found: Finding, match: re.Match[str]) -> None:
    row = int(found.line or 0)
    wanted = {"lr": "Learning Rate", "lora_rank": "LoRA Rank"}[str(found.field)]
    column = header_of(case, row).index(wanted)
    edit(case.summary, row, lambda line: with_cell(line, column, match["new"]))


def remove_path(case: Case, _found: Finding, match: re.Match[str]) -> None:
    (case.experiment / match["path"]).unlink()


def leave_answer_out(case: Case, found: Finding, _match: re.Match[str]) -> None:
    del case.given["answers"][found.field]


def option(name: str, value: Callable[[re.Match[str]], object]) -> Callable[..., None]:
    def follow(case: Case, _found: Finding, match: re.Match[str]) -> None:
        case.given[name] = value(match)

    return follow


def overwrite(case: Case, _found: Finding, _match: re.Match[str]) -> None:
    if case.step is steps.validate:
        steps.setup(Request(case.experiment, overwrite=True))
    else:
        case.given["overwrite"] = True


def scaffold_over(case: Case, _found: Finding, _match: re.Match[str]) -> None:
    steps.scaffold(Request(case.experiment, overwrite=True))


def named_run(case: Case, _found: Finding, match: re.Match[str]) -> None:
    case.step = lambda request: explain(request, match["run"], None)


def again(*these: Step) -> Callable[..., None]:
    def follow(case: Case, _found: Finding, _match: re.Match[str]) -> None:
        for step in these:
            step(Request(case.experiment))

    return follow


LINE = r"`(?P<line>[^`]+)`"
COLUMN = r"add a column `(?P<column>[^`]+)` to the table of runs, with (?P<cells>.+?)(?=, or |; | \(|$)"
COUNT = r"replace `(?P<old>\d+)` with `(?P<new>\d+)` and the total `(?P<old_total>\d+)` with `(?P<new_total>\d+)`"
ROWS = r"the column '(?P<column>[^']+)' \(lines? (?P<lines>[\d, and]+)\)"
CELLS = rf"write `(?P<new>[^`]+)` in {ROWS}"
FOLLOWED: list[tuple[str, Callable[..., None]]] = [
    (rf"add {LINE} to Configuration", add_to_configuration),
    (rf"{COUNT} in (?P<file>[\w.]+):(?P<line>\d+)", replace_count_and_total),
    (r"replace `(?P<old>.+?)` with `(?P<new>.+?)` in (?P<file>[\w.]+):(?P<line>\d+)", replace_in_line),
    (rf"replace `[^`]+` with `(?P<new>[^`]+)` in {ROWS}", replace_in_column),
    (COLUMN, add_column),
    (
        r"set (?P<name>\w+) to `(?P<new>[^`]+)` instead of `(?P<old>[^`]+)` in (?P<file>[\w.]+):(?P<line>\d+)",
        set_in_line,
    ),
    (rf"{CELLS}, then remove line (?P<line>\d+) of (?P<file>[\w.]+)", write_cells_and_remove_line),
    (r"remove only \w+ \((?P<value>[^)]+)\) from line (?P<line>\d+) of (?P<file>[\w.]+)", remove_from_line),
    (
        r"write `(?P<new>[^`]+)` instead of `(?P<old>[^`]+)` as the warm-up ratio in (?P<file>[\w.]+):(?P<line>\d+)",
        write_ratio,
    ),
    (CELLS, replace_in_column),
    (rf"add {LINE} below line (?P<below>\d+), followed by an empty line", add_with_an_empty_line),
    (rf"add this line below line (?P<below>\d+) \([^)]*\): {LINE}", add_below),
    (r"remove line (?P<line>\d+) of (?P<file>[\w.]+)", remove_line),
    (r"remove (?P<path>\.scaffold/\S+) and render again", remove_path),
    (r"omit the answer", leave_answer_out),
    (r"keep one of the two columns", keep_one_column),
    (r"keep one of the two values|remove one of the rows", take_out),
    (r"remove (?:it|the line|this (?:text|setting)|'[^']*' if|epochs_to_save)", take_out),
    (r"take it out|correct or remove the key|remove \w+ from the template", take_out),
    (r"write `?(?P<new>[^`\s]+)`? for \w+ in this row", write_cell),
    (r"write `?(?P<new>[^`\s]+)`? in (?:these rows|this row)", write_cell),
    (r"write `(?P<name>[\w .()-]+)`(?=$|, or )", write_name),
    (r"--names table", option("names", lambda _: "table")),
    (r"--setup-script bundled|say 'bundled'", option("setup_script", lambda _: "bundled")),
    (r"--started keep", option("started", lambda _: "keep")),
    (r"--root (?P<root>[^\s`]+)", option("roots", lambda match: (Path(shlex.split(match["root"])[0]),))),
    (r"`scaffold --overwrite`", scaffold_over),
    (r"--overwrite", overwrite),
    (r"(?:name|specify) one of (?P<run>[^,\s]+)", named_run),
    (r"[Rr]un setup again", again(steps.setup)),
    (r"run render", again(steps.render)),
    (r"scaffold again", again(steps.scaffold)),
]


def follow(case: Case, found: Finding) -> re.Match[str]:
    """Follow the first alternative of a fix that a machine can follow."""
    matches = [(match, do) for pattern, do in FOLLOWED if (match := re.search(pattern, found.fix))]
    assert matches, found.fix
    match, do = min(matches, key=lambda each: each[0].start())
    do(case, found, match)
    return match


def planned(case: Case) -> list[PlannedRun]:
    """Return the runs of the documents as they are now; empty if they cannot be planned."""
    with suppress(Refused):
        return list(prepare.prepare(Request(case.experiment, **case.given)).plan.runs)
    return []


def is_named(run: PlannedRun, match: re.Match[str]) -> bool:
    """Return whether a fix that sets a value in some rows names the row of a run."""
    groups = match.groupdict()
    if "lines" in groups:
        return str(run.line) in re.findall("[0-9]+", groups["lines"])
    return run.directory in values_of_column(match)
