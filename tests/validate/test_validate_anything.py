"""The validate stage with any text in the files."""

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scaffold_torchtune.finding_codes import CODES
from scaffold_torchtune.findings import Finding
from scaffold_torchtune.validate import validate_run
from support.examples import some_of
from support.good_files import CONFIG, SETUP, SLURM, files_of, planned


def check_anything(found: tuple[Finding, ...]) -> None:
    for item in found:
        assert item.code in CODES
        assert not re.search(r"[\x00-\x1f\x7f]", item.sentence())
        item.model_dump_json()


ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=[]), max_size=300)


@pytest.mark.examples
@settings(max_examples=some_of(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ANY_TEXT, ANY_TEXT, ANY_TEXT, st.booleans())
@example("a: &a [*a]", "a: 0x" + "f" * 5000, "#SBATCH -\n#SBATCH --\n#SBATCH -Ax --=\n<<A\n\\", True)  # noqa: FBT003
@example("\ud800", "a: ${a}${a}\nb: ${b", "#!/bin/sh\n#SBATCH --gres= --time= --nodes=9999999999\n'", False)  # noqa: FBT003
def test_any_text_gives_findings_and_no_exception(setup: str, config: str, slurm: str, bundled: bool) -> None:
    check_anything(validate_run(planned(), {SETUP: setup, CONFIG: config, SLURM: slurm}, bundled=bundled))


@pytest.mark.examples
@settings(max_examples=some_of(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_mutation_gives_findings_and_no_exception(data: Any) -> None:
    run = planned()
    files = files_of(run)
    name = data.draw(st.sampled_from([SETUP, CONFIG, SLURM]))
    text = str(files[name])
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 30)))
        piece = data.draw(
            st.sampled_from(["${", "}", "<<X", "'", '"', "\\", "[", "- ", ": ", "\n", "#SBATCH -", "\x00"])
        )
        text = text[:start] + data.draw(st.one_of(st.just(piece), st.just(""), st.text(max_size=8))) + text[end:]
    files[name] = text
    check_anything(validate_run(run, files, bundled=data.draw(st.booleans())))
