"""`new`: any valid options scaffold to exactly the given values."""

import itertools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaffold_torchtune.new import create
from scaffold_torchtune.parse import values
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import ScaffoldResult
from scaffold_torchtune.torchtune_facts import known_models
from support.examples import some_of
from support.new_experiments import PARAMETER, scaffolded

pytestmark = pytest.mark.usefixtures("no_local_file")


def is_said(name: str) -> bool:
    return not values.is_unset(name)


NAMES: st.SearchStrategy[str] = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,12}", fullmatch=True).filter(is_said)
FOLDERS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
COUNTS = st.integers(1, 10**9)
RATES = st.builds(lambda digits, places: float(f"{digits}e-{places}"), st.integers(1, 999_999), st.integers(5, 17))
RATES |= st.sampled_from([1e-5, 2.5e-4, 10.0, 5e-324])
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs", "Cf"), include_characters=" \n\t")
).filter(lambda text: "${" not in text and text != "???" and not all(quote in text for quote in "\"'“"))


def several(values: st.SearchStrategy[Any], most: int = 2) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=1, max_size=most, unique=True)


@pytest.mark.long
@pytest.mark.examples
@settings(deadline=None, max_examples=some_of(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_options_scaffold_to_exactly_these_values(data: st.DataObject) -> None:
    wanted: dict[str, list[Any]] = {
        "--model": data.draw(
            several(st.sampled_from([m for m in known_models() if not m.startswith(("Mistral", "gemma"))]))
        ),
        "--rank": data.draw(several(COUNTS.map(lambda n: min(n, 10**6)))),
        "--lr": data.draw(several(RATES)),
        "--batch-size": data.draw(several(COUNTS)),
        "--epochs": [data.draw(COUNTS)],
        "--seed": data.draw(several(st.integers(0, 10**9))),
        "--data": [data.draw(FOLDERS) + data.draw(st.sampled_from([".json", ".parquet"]))],
        "--model-dir": [data.draw(st.sampled_from(["", "/"])) + data.draw(FOLDERS)],
        "--conda-env": [data.draw(NAMES)],
    }
    optional: dict[str, st.SearchStrategy[Any]] = {
        "--name": NAMES,
        "--system-prompt": TEXTS,
        "--project": NAMES,
        "--output-dir": FOLDERS,
        "--account": NAMES,
        "--partition": NAMES,
        "--qos": NAMES,
        "--gpu-type": NAMES.filter(lambda name: any(map(str.isalpha, name))),
        "--mail-user": NAMES.map("{}@example.org".format),
        "--mail-type": st.sampled_from(["END", "END,FAIL"]),
        "--entity": NAMES,
        "--time": st.integers(1, 59).map(lambda minutes: f"1:{minutes:02d}:00"),
        "--gpus": st.integers(1, 8),
        "--module": NAMES,
    }
    for flag, drawn in optional.items():
        if data.draw(st.booleans()):
            wanted[flag] = [data.draw(drawn)]
    texts = {flag: [repr(v) if isinstance(v, float) else str(v) for v in values] for flag, values in wanted.items()}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder).resolve() / "sweep"
        create(Request(experiment=directory), {PARAMETER[flag]: values for flag, values in texts.items()})
        plan = steps.plan(Request(experiment=directory))
        done = scaffolded(directory)
        common = {name: setting.value for name, setting in plan.common.items()}
        _check_plan(done, wanted, common, directory)


def _check_plan(
    done: ScaffoldResult, wanted: Mapping[str, list[Any]], common: Mapping[str, Any], directory: Path
) -> None:
    keys = {"model": "--model", "lora_rank": "--rank", "lr": "--lr", "batch_size": "--batch-size", "seed": "--seed"}
    product = [
        dict(zip(keys, row, strict=True)) for row in itertools.product(*(wanted[flag] for flag in keys.values()))
    ]
    assert len(done.plan.runs) == len(product)
    for run, row in zip(done.plan.runs, product, strict=True):
        assert {key: run.parameters.get(key, common.get(key)) for key in keys} == row
        assert run.parameters["epochs"] == wanted["--epochs"][0]
    simple = (
        "--conda-env", "--project", "--account", "--partition", "--time", "--gpus", "--module", "--system-prompt",
        "--qos", "--gpu-type", "--mail-user", "--mail-type", "--entity",
    )  # fmt: skip
    for flag in simple:
        if flag in wanted:
            assert common[PARAMETER[flag]] == wanted[flag][0]
    assert done.parse.experiment == wanted.get("--name", ["sweep"])[0]
    assert common["input_dir_base"] == f"{(directory / wanted['--data'][0]).parent}/"
    assert common["models_dir"] == str(directory / wanted["--model-dir"][0])
    assert common["output_dir_base"] == str(directory / wanted.get("--output-dir", ["outputs"])[0])
    assert {"account", "partition", "constraint", "modules"} & common.keys() == {
        PARAMETER[flag] for flag in ("--account", "--partition", "--module") if flag in wanted
    }
