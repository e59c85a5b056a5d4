"""A real Slurm accepts QOS, mail, typed GPUs and other options as written, and interprets them as intended."""

import re
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.external_checks import sbatch
from scaffold_torchtune.settings import parameters
from support import needs
from support.one_node_slurm import Slurm
from support.setup_texts import script_of

pytestmark = needs.SLURM

ASKED: dict[str, Any] = {
    "gpus": 2,
    "gpu_type": "a100",
    "qos": "normal",
    "exclude": "gpu[02-03]",
    "requeue": True,
    "mail_user": "ada+jobs@example.org",
    "mail_type": "END,FAIL,TIME_LIMIT_80",
    "comment": "second # try; of (two) & more, é",
}
READ = [
    "TresPerNode=gres:gpu:a100:2",
    "ExcNodeList=gpu[02-03]",
    "Requeue=1",
    "MailUser=ada+jobs@example.org",
    "MailType=END,FAIL,TIME_LIMIT_80",
    "Comment=second # try; of (two) & more, é",
]


def written(script: str, folder: Path) -> Path:
    file = folder / "finetune.slurm"
    file.write_text(script)
    return file


def submitted(slurm: Slurm, *words: str | Path) -> str:
    """Return Slurm's description of a job that is submitted on hold."""
    tested = slurm.call("sbatch", "--test-only", *words)
    assert tested.returncode == 0, tested.stderr
    done = slurm.call("sbatch", "--hold", "--parsable", *words)
    assert done.returncode == 0, done.stderr
    shown = slurm.call("scontrol", "show", "job", done.stdout.strip()).stdout
    slurm.call("scancel", done.stdout.strip())
    return shown


def test_directives_are_interpreted_as_intended(slurm: Slurm, tmp_path: Path) -> None:
    shown = submitted(slurm, written(script_of(**ASKED), tmp_path))
    assert [part for part in READ if part not in shown] == []
    assert "Requeue=0" in submitted(slurm, written(script_of(requeue=False), tmp_path))


def test_options_of_the_submit_line_override_the_script(slurm: Slurm, tmp_path: Path) -> None:
    script = script_of(gpus=2, exclude="gpu03", mail_user="bob@example.org", requeue=False, comment="first")
    options = [*parameters.directives(ASKED), ("gres", parameters.gres(2, "a100"))]
    shown = submitted(slurm, *sbatch.words(options), written(script, tmp_path))
    assert [part for part in READ if part not in shown] == []


@pytest.mark.parametrize("kind", ["BEGIN", "NONE", "ALL", "REQUEUE,INVALID_DEPEND,STAGE_OUT", "TIME_LIMIT_90"])
def test_every_kind_of_mail_is_known(kind: str, slurm: Slurm, tmp_path: Path) -> None:
    assert "JobId" in submitted(slurm, written(script_of(mail_user="a@b.org", mail_type=kind), tmp_path))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gpu_type": "h100"}, "Requested node configuration"),
        ({"reservation": "nowhere"}, "Requested reservation is invalid"),
        ({"exclude": "nonode"}, "Invalid node name"),
    ],
)
def test_resources_that_the_cluster_lacks_are_rejected(
    changes: dict[str, Any], reason: str, slurm: Slurm, tmp_path: Path
) -> None:
    done = slurm.call("sbatch", "--test-only", written(script_of(**changes), tmp_path))
    assert done.returncode != 0
    assert re.search(reason, done.stderr)
