"""The settings that nobody chose: told once for the experiment, so that no default is mistaken for a choice."""

from typing import Final

from scaffold_torchtune.findings import Finding, Scalar, finding
from scaffold_torchtune.models.base import SourceKind
from scaffold_torchtune.models.plan import Plan
from scaffold_torchtune.settings.kinds import shortest_number
from scaffold_torchtune.shared.text import few
from scaffold_torchtune.validate.values import quoted

_LISTED: Final = 40


def unchosen(plan: Plan) -> list[Finding]:
    """One finding that lists the settings whose value is a default in some run; none where every value was chosen."""
    values: dict[str, Scalar] = {}
    runs: dict[str, int] = {}
    for run in plan.runs:
        for name, setting in run.settings.items():
            if setting.source.kind is SourceKind.DEFAULT:
                values[name] = setting.value
                runs[name] = runs.get(name, 0) + 1
    if not values:
        return []
    total = len(plan.runs)
    listed = few([_part(name, value, runs[name], total) for name, value in values.items()], _LISTED)
    return [
        finding(
            "defaults-unchosen",
            f"settings that come from a default, as no document gives them: {listed}",
            actual=len(values),
            fix="Give a setting in the summary where another value is meant.",
        )
    ]


def _part(name: str, value: Scalar, runs: int, total: int) -> str:
    shown = shortest_number(value) if isinstance(value, float) else quoted(value)
    return f"{name} {shown}" + ("" if runs == total else f" (in {runs} of {total} runs)")
