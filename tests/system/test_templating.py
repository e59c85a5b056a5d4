"""Templates of users: the limits on their resources, and the problem reported if one is exceeded."""

import os
import resource
import threading
import time
from pathlib import Path

import pytest

from scaffold_torchtune.system.layout import TEMPLATES
from scaffold_torchtune.system.templating import (
    MAX_TEMPLATE,
    Limits,
    TemplateProblem,
    TemplateStopped,
    render,
    render_each,
)
from support.sampling import mostly_long, spread
from support.waiting import PATIENCE, wait_until
from support.wording import absent

LIMITS = Limits(megabytes=100, seconds=60)
SHORT = Limits(megabytes=100, seconds=1)  # reached on purpose
NESTED = 100


def problem_of(folder: Path, source: str, limits: Limits = LIMITS) -> TemplateProblem:
    (folder / "own.j2").write_text(source)
    with pytest.raises(TemplateProblem) as caught:
        render_each("own.j2", [{"settings": {"lr": 1e-5}}], [folder, TEMPLATES], limits=limits)
    return caught.value


DOUBLES = "{% set n = namespace(x=VALUE) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}"


@pytest.mark.long
@pytest.mark.parametrize(
    "source",
    mostly_long(
        [
            "{{ 'x' * 10**10 }}",
            "{{ ([1] * 10**9) | length }}",
            DOUBLES.replace("VALUE", "'x'"),
            DOUBLES.replace("VALUE", "[1]"),
            "{{ 'x' | center(10**10) }}",
            "{{ '%010000000000d' % 1 }}",
            "{{ 'x'.ljust(10**10) }}",
            "{{ [1] | tojson(indent=10**10) }}",
            "{{ lipsum(n=10**7, html=false) }}",
        ],
        "{{ 'x' * 10**10 }}",
        DOUBLES.replace("VALUE", "[1]"),
    ),
)
def test_the_memory_of_a_template_is_limited(tmp_path: Path, source: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert problem_of(tmp_path, source).message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes, of this process


@pytest.mark.long
@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        pytest.param(
            "{% macro m(n) %}{% for i in range(9) %}{{ m(n - 1) if n else '' }}{% endfor %}{% endmacro %}{{ m(60) }}",
            marks=pytest.mark.long,
        ),
    ],
)
def test_the_time_of_a_template_is_limited(tmp_path: Path, source: str) -> None:
    message = problem_of(tmp_path, source, SHORT).message
    assert absent(message, f"{SHORT.seconds} s", f"{SHORT.megabytes} MB") == []


@pytest.mark.long
def test_an_operation_that_cannot_be_interrupted_is_ended_with_its_process(tmp_path: Path) -> None:
    power = "{{ (3**(3**16)) ** 3 % 7 }}"  # minutes, with a few hundred megabytes
    limits = Limits(megabytes=2000, seconds=1)
    assert absent(problem_of(tmp_path, power, limits).message, "1 s") == []


@pytest.mark.parametrize(
    ("source", "limit"),
    [
        ("{% for i in range(99999) %}{{ 'x' * 100 }}{% endfor %}", f"{MAX_TEMPLATE} characters"),
        ("x" * (MAX_TEMPLATE + 1), f"{MAX_TEMPLATE / 1e6:g} MB"),
    ],
)
def test_output_and_size_of_a_template_are_limited(tmp_path: Path, source: str, limit: str) -> None:
    assert absent(problem_of(tmp_path, source).message, limit) == []


@pytest.mark.long
@pytest.mark.parametrize(
    "source",
    spread(
        [
            "{% for i in [1] %}" * NESTED + "x" + "{% endfor %}" * NESTED,
            "{% if 1 %}" * NESTED + "x" + "{% endif %}" * NESTED,
            "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
            "{{ " + "-" * 100_000 + "1 }}",
            "{{ " + "1+" * 100_000 + "1 }}",
            "{% include 'own.j2' %}",
            "{% extends 'own.j2' %}",
            "{{ settings.no.such }}",
            "{{ 1 / 0 }}",
            "{{ [1][5] }}",
            "{{ settings() }}",
            "{{ ''.__class__.__mro__ }}",
            "{{ settings.update(lr=1) }}",
            "{{ [] | first | upper }}",
            "{{ settings | sort(attribute='x.y') }}",
            "{% set x = cycler() %}{{ x.next() }}",
        ],
        every=3,
    ),
)
def test_any_exception_in_a_template_is_a_problem(tmp_path: Path, source: str) -> None:
    assert problem_of(tmp_path, source).message


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    mostly_long(
        ["pipe", "zero", "loop", "folder", "large", "../own.j2", "/etc/hostname", "n" * 300],
        "pipe",
        "zero",
        "large",
        "../own.j2",
    ),
)
def test_files_that_a_template_includes_are_read_with_the_same_limits(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 10 * 2**30)
    assert name[:8] in problem_of(tmp_path, f"{{% include '{name}' %}}").message


@pytest.mark.long
def test_a_problem_has_the_number_of_its_values(tmp_path: Path) -> None:
    (tmp_path / "own.j2").write_text("{{ 1 / n }}\n")
    assert render_each("own.j2", [{"n": 1}, {"n": 2}], [tmp_path]) == ["1.0\n", "0.5\n"]
    with pytest.raises(TemplateProblem) as caught:
        render_each("own.j2", [{"n": 1}, {"n": 2}, {"n": 0}], [tmp_path])
    assert caught.value.number == 2


def test_rendering_ends_when_it_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "own.j2").write_text("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")
    stop = threading.Event()
    ended: list[BaseException] = []

    def work() -> None:
        try:
            render_each("own.j2", [{}], [tmp_path], stop, Limits(seconds=int(PATIENCE)))
        except TemplateStopped as stopped:
            ended.append(stopped)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.1)
    stop.set()
    wait_until(lambda: ended)
    thread.join()


def test_a_template_renders_the_same_in_a_separate_process(tmp_path: Path) -> None:
    source = "{% for k in ['lr'] %}\n  {{ settings | entries([k]) }}{% endfor %}é {{ 'a b' | sh }} {{ 1e-5 | yaml }}\n"
    (tmp_path / "own.j2").write_text(source)
    values = {"settings": {"lr": 1e-5}}
    assert render_each("own.j2", [values], [tmp_path]) == [render("own.j2", values, [tmp_path])]
