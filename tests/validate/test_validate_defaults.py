"""The list of default values that nobody chose."""

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import escape
from scaffold_torchtune.models import Plan, Setting, Source, SourceKind
from scaffold_torchtune.validate import unchosen
from support.plans import plan_of_directories
from support.wording import absent


def plan(*runs: dict[str, Setting]) -> Plan:
    made = plan_of_directories(*(f"run{n}" for n in range(len(runs))))
    planned = tuple(run.model_copy(update={"settings": given}) for run, given in zip(made.runs, runs, strict=True))
    return made.model_copy(update={"runs": planned})


def setting(value: bool | float | str, kind: SourceKind = SourceKind.DEFAULT) -> Setting:
    return Setting(value=value, source=Source(kind=kind))


def test_defaults_are_listed_once_with_their_values() -> None:
    given = {
        "lr": setting(1e-4),
        "epochs": setting(2, SourceKind.ROW),
        "packed": setting(value=False),
        "prompt": setting("a\nb"),
    }
    (told,) = unchosen(plan(given, given))
    assert (told.code, told.severity, told.actual) == ("defaults-unchosen", Severity.INFO, 3)
    assert told.message.endswith(f": lr 1e-4, packed False and prompt '{escape(chr(97) + chr(10) + 'b')}'")
    assert told.fix


def test_a_default_of_only_some_runs_is_listed_with_their_number() -> None:
    (told,) = unchosen(plan({"seed": setting(14)}, {"seed": setting(15, SourceKind.ROW)}))
    assert absent(told.message.partition(": ")[2], "seed 14", "1 of 2") == []


def test_without_unchosen_defaults_nothing_is_reported() -> None:
    assert unchosen(plan({"seed": setting(15, SourceKind.ROW)}, {"seed": setting(14, SourceKind.LOCAL)})) == []


def test_the_list_is_limited() -> None:
    (told,) = unchosen(plan({f"s{n}": setting(n) for n in range(41)}))
    assert absent(told.message.partition("s39 39")[2], 1) == []
    assert "s40" not in told.message
    (told,) = unchosen(plan({f"s{n}": setting(n) for n in range(40)}))
    assert told.message.endswith("s38 38 and s39 39")
