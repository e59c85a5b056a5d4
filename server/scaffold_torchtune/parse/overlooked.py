"""Finds lines of a Markdown summary that look like settings of training and were not read as such."""

import re
from collections.abc import Iterator
from typing import Final

from scaffold_torchtune.parse import titles
from scaffold_torchtune.parse.draft import Field, SummaryDraft
from scaffold_torchtune.shared.markdown import Section
from scaffold_torchtune.shared.parameters import by_label, normalize

# Names that mean a hyperparameter wherever they stand before a colon. `model`, `time`, `data` are words of any text.
_SETTINGS: Final = frozenset(
    [
        "lora_rank",
        "lora_alpha",
        "lora_dropout",
        "lr",
        "lr_scheduler",
        "num_warmup_steps",
        "weight_decay",
        "batch_size",
        "epochs",
        "max_seq_len",
        "seed",
        "gradient_accumulation_steps",
        "packed",
        "train_on_input",
        "system_prompt",
        "prompt",
        "max_steps_per_epoch",
        "dataset_type",
    ]
)
_WORDS: Final = frozenset({"r", "rank", "alpha", "batch", "epoch", "bs", "dropout", "warmup", "scheduler", "packing"})
_LINE: Final = re.compile(
    r"^[\s>|*+-]*(?:[0-9]+[.)]\s+)?(?:\[[ xX]\]\s+)?(?:<[a-z]+>)*[*_`]*(?P<label>[A-Za-z][A-Za-z _-]{0,40}?)[*_`]*"
    r"\s*[:=]\s*[*_`]*\s*(?P<value>[^\s|].*?)\s*(?:</[a-z]+>)*\|?\s*$"
)


def read(text: str, root: Section, draft: SummaryDraft) -> None:
    """Note in `draft.overlooked` every line that names a hyperparameter and gave nothing to the draft."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    taken = {field.line for _, field in draft.configuration} | {row.line for row in draft.rows}
    taken |= {problem.line for problem in draft.problems if problem.line}
    hidden = _fenced(root) | set(_commented(lines))
    sections = [(section, above) for section, above in _walk(root)]
    for number, line in enumerate(lines, start=1):
        match = _LINE.match(line) if number not in taken and number not in hidden else None
        parameter = by_label(match["label"]) if match else None
        if match is None or parameter is None or parameter.name not in _SETTINGS:
            continue
        here = [one for one in sections if one[0].line <= number][-1:]
        title, above = (here[0][0].title.split("\n")[0], here[0][1]) if here else ("", ())
        if (
            normalize(match["label"]) in _WORDS
            or titles.is_factors(title)
            or any(map(titles.is_elsewhere, (*above, title)))
        ):
            continue
        value = match["value"].strip("`* _")
        if not value:
            continue
        draft.overlooked.append((parameter.name, Field(value, number, title or "the top of the file", value)))


def _walk(root: Section, above: tuple[str, ...] = ()) -> Iterator[tuple[Section, tuple[str, ...]]]:
    for section in root.sections:
        yield section, above
        yield from _walk(section, (*above, section.title))


def _fenced(root: Section, within: bool = False) -> set[int]:
    """Lines of fenced blocks that are examples: all but those in a section of settings."""
    lines: set[int] = set()
    for section in root.sections:
        of_settings = within or titles.is_configuration(section.title)
        for fence in section.fences if not of_settings else ():
            lines |= set(range(fence.line, fence.line + fence.content.count("\n") + 2))
        lines |= _fenced(section, of_settings)
    return lines


def _commented(lines: list[str]) -> Iterator[int]:
    """Lines that an HTML comment covers."""
    inside = False
    for number, line in enumerate(lines, start=1):
        opens = "<!--" in line
        if inside or opens:
            yield number
        inside = (inside or opens) and "-->" not in line.rpartition("<!--")[2]
