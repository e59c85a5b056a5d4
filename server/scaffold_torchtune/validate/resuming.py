"""The proof that a job which is to resume does so from its own checkpoint, and begins where there is none yet.

torchtune 0.6.1 reads `recipe_state/recipe_state.pt` in the output directory and the adapter of the newest `epoch_N`
beside it, and ends with an error where there is none (training/checkpointing/_utils.py, get_adapter_checkpoint_path and
get_recipe_checkpoint_path). So at a first start `tune run` must be told otherwise than finetune.yaml says.
"""

from collections.abc import Sequence
from typing import Final

from scaffold_torchtune.validate.arrivals import output_dir
from scaffold_torchtune.validate.report import Report
from scaffold_torchtune.validate.script import Command
from scaffold_torchtune.validate.values import join, normal_path

SETTING: Final = "resume_from_checkpoint"
_OVERRIDE: Final = f"{SETTING}=$resume"
_BEGINS: Final = (("resume=true",), ("resume=false",))


def is_planned(report: Report, word: str) -> bool:
    """Whether a word of `tune run` is the one that decides, at each start, whether it resumes."""
    return word == _OVERRIDE and report.planned(SETTING) is True


def check(report: Report, commands: Sequence[Command]) -> None:
    """Check the commands up to `tune run`, which is the last of them."""
    place = output_dir(report.run)
    if report.planned(SETTING) is not True or place is None or not report.bundled:
        return  # a script of another may be meant for runs that have a checkpoint already
    expected, line = join(place, "recipe_state", "recipe_state.pt"), commands[-1].line
    if _OVERRIDE not in commands[-1].words:
        note = "a first start has nothing to resume from, and torchtune then ends with an error"
        report.differs("missing-value", SETTING, place=_OVERRIDE, expected=True, line=line, note=note)
        return
    words = [command.words for command in commands[:-1]]
    at = [words.index(each) if each in words else -1 for each in _BEGINS]
    between = commands[at[0] + 1 : at[1]] if 0 <= at[0] < at[1] else []
    asked = between[0].words if len(between) == 1 else ()
    actual = asked[2] if len(asked) == 4 and (*asked[:2], asked[3]) == ("[", "-e", "]") else None  # noqa: PLR2004
    if actual is None or normal_path(actual) != expected:
        code = "missing-value" if actual is None else "value-mismatch"
        place = "the file that decides whether `tune run` resumes"
        line = (between or commands)[-1].line
        report.differs(code, SETTING, place=place, expected=expected, actual=actual, line=line)
