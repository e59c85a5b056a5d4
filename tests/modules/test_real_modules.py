"""Real module systems, Environment Modules and Lmod: the script has the loaded modules, and failures are reported."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scaffold_torchtune.findings import Finding
from scaffold_torchtune.results.step_results import RefusalError
from scaffold_torchtune.setup.external import Activation, Fault, activate
from support.experiments import log, make_experiment, many_runs, run_directories
from support.logins import home
from support.setup_scripts import MAKE, script
from support.stand_in_conda import StandIn
from support.waiting import PATIENCE
from support.wording import absent

ENVIRONMENT_MODULES = Path("/usr/share/modules/init/bash")
LMOD = Path(__file__).parents[2] / ".lmod/usr/share/lmod/lmod/init/bash"
SYSTEMS = {"Environment Modules": ENVIRONMENT_MODULES, "Lmod": LMOD}
pytestmark = pytest.mark.modules


class Site:
    """A machine with a module system, and module files in a separate directory."""

    def __init__(self, folder: Path, init: Path, profile: str = "") -> None:
        self.init, self.files = init, folder / "modulefiles"
        other = f". {init}\nexport MODULEPATH={self.files}\n"
        self.login = home(folder / "home", other + profile) | {"LMOD_CACHED_LOADS": "no", "TERM": "dumb"}
        self.has("anaconda3/2024.2", "setenv SITE old")
        self.has("anaconda3/2025.6", "setenv SITE anaconda", "setenv SITE_TOKEN secret", "puts stderr {some noise}")
        self.has("broken/1", "error {no licence here}")

    def has(self, name: str, *lines: str) -> None:
        """Add a module."""
        file = self.files / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(["#%Module1.0", *lines, ""]))

    def scaffold(self, experiment: Path, script: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """Scaffold with an external script, as a user who has logged in on this machine."""
        environment = {**self.login, "PYTHONPATH": os.pathsep.join(sys.path)}
        line = [sys.executable, "-m", "scaffold_torchtune", "scaffold", str(experiment), "--setup-script", str(script)]
        return subprocess.run(
            [*line, *options], env=environment, capture_output=True, text=True, check=False, timeout=2 * PATIENCE
        )

    def refusal(self, experiment: Path, script: Path) -> Finding:
        """Return the only problem of a refused scaffold."""
        done = self.scaffold(experiment, script, "--json")
        assert done.returncode == 2, done.stdout + done.stderr
        assert not run_directories(experiment)
        (problem,) = RefusalError.model_validate(json.loads(done.stdout)["error"]).problems
        return problem


@pytest.fixture(params=SYSTEMS)
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Site:
    init = SYSTEMS[request.param]
    if not init.exists():
        pytest.skip(f"{request.param} is not on this machine: `make modules` as root")
    return Site(tmp_path / "site", init)


def loads(site: Site, *names: str) -> dict[str, str] | Fault:
    return activate(Activation(names), site.login, 60)


def test_variables_of_a_module_are_set_without_its_output_and_secrets(site: Site) -> None:
    found = loads(site, "anaconda3/2025.6")
    assert isinstance(found, dict), found
    assert (found["SITE"], found["LOADEDMODULES"]) == ("anaconda", "anaconda3/2025.6")
    assert "SITE_TOKEN" not in found


def test_a_module_without_its_version_is_the_default(site: Site) -> None:
    (site.files / "anaconda3" / ".version").write_text('#%Module1.0\nset ModulesVersion "2024.2"\n')
    found = loads(site, "anaconda3")
    assert isinstance(found, dict), found
    assert (found["SITE"], found["LOADEDMODULES"]) == ("old", "anaconda3/2024.2")


def test_a_module_by_an_alias_of_its_version(site: Site) -> None:
    (site.files / "anaconda3" / ".modulerc").write_text("#%Module1.0\nmodule-version anaconda3/2025.6 latest\n")
    found = loads(site, "anaconda3/latest")
    assert isinstance(found, dict), found
    assert found["SITE"] == "anaconda"


def test_the_module_command_is_found_if_the_login_shell_lacks_it(site: Site, tmp_path: Path) -> None:
    profile = "unset -f module ml _module_raw\nunset MODULESHOME\n"
    bare = Site(tmp_path / "bare", site.init, profile)
    variables = bare.login | {"LMOD_PKG": str(site.init.parents[1])}
    found = activate(Activation(("anaconda3/2025.6",)), variables, 60)
    assert isinstance(found, dict), found
    assert found["SITE"] == "anaconda"


def test_the_script_has_the_variables_of_its_module(site: Site, tmp_path: Path) -> None:
    StandIn(Path(site.login["HOME"]) / "miniconda3", "cruijff")
    experiment = make_experiment(tmp_path / "sweep")
    file = script(tmp_path, "assert os.environ['SITE'] == 'anaconda', os.environ\n" + MAKE)
    done = site.scaffold(experiment, file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r" cruijff\b.*module load anaconda3/2025\.6\n", log(experiment))


def test_a_missing_module_is_reported_with_similar_ones(site: Site, tmp_path: Path) -> None:
    near = "anaconda3/2024.2, anaconda3/2025.6"
    for number, name in enumerate(("anaconda3/2023.9", "anacoda3/2025.6")):
        experiment = make_experiment(tmp_path / f"sweep{number}", replace={"anaconda3/2025.6": name})
        found = site.refusal(experiment, script(tmp_path, MAKE))
        assert (found.code, found.location(), found.expected) == ("module-missing", "claude.local.md:27", near)
        assert absent(found.message, f"'{name}'") == []


def test_a_failing_module_is_distinguished_from_a_missing_one(site: Site, tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", replace={"anaconda3/2025.6": "broken/1"})
    found = site.refusal(experiment, script(tmp_path, MAKE))
    assert (found.code, found.field) == ("activation-failed", "modules")
    assert absent(found.message, "'broken/1'", "no licence here") == []


def test_conda_of_a_module_is_activated_once_for_fifty_runs(site: Site, tmp_path: Path) -> None:
    conda = StandIn(tmp_path / "opt" / "conda", "cruijff")
    site.has("anaconda3/2025.6", f"prepend-path PATH {conda.program.parent}", f"setenv CONDA_EXE {conda.program}")
    experiment = many_runs(tmp_path, 50)
    file = script(tmp_path, "assert os.environ['ENVIRONMENT'] == 'cruijff', os.environ\n" + MAKE)
    done = site.scaffold(experiment, file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(run_directories(experiment)) == 50
    assert conda.activated == ["cruijff"]
