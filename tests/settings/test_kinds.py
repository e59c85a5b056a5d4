"""The shared reader of kinds: documents and setup_finetune.yaml accept the same texts, with the same values."""

import pytest

from scaffold_torchtune.findings import Refused, Scalar
from scaffold_torchtune.parse import values
from scaffold_torchtune.parse.drafts import SourceText
from scaffold_torchtune.settings.kinds import NotTyped, ValueKind, read
from scaffold_torchtune.settings.parameters import KEYS, PARAMETERS
from scaffold_torchtune.setup.keys import read_keys
from scaffold_torchtune.system.serialization import yaml_scalar
from support.documents import SUMMARY

# Valid and invalid texts of each kind, with a key of that kind.
KINDS: dict[ValueKind, tuple[str, list[str], list[str]]] = {
    "int": ("lora_rank", ["1", "8", "1000000000"], ["0", "-8", "+8", "08", "8.0", "1_0", "1e3", "٣", "1000000001", ""]),
    "float": ("lr", ["1e-5", "0.00001", "10", ".5", "2.5E-5"], ["0", "-1", "11", "1,5", "1e400", "nan", "inf", "01"]),
    "bool": ("packed", ["true", "false"], ["1", "maybe", ""]),
    "text": (
        "system_prompt",
        ["", "Say it; now | {input} $x", "two\nlines\tand a tab", "é✓", "x" * 20_000],
        ["${oc.env:HOME}", "???", "a\x00b", "a\x85b", "a\x7fb", "\ud800", "x" * 20_001],
    ),
    "name": (
        "account",
        ["lab", "a100.x_y-z", "0", "x" * 200],
        ["", "a b", "-lab", ".lab", "a..b", "a+b", "a/b", "a;b", "ä", "$(id)", "x" * 201],
    ),
    "label": ("experiment_name", ["a+b", "rank8_lr1e-5"], ["+a", "a b", "a/b", "a..b", "<MEM>", "x" * 201]),
    "modules": (
        "modules",
        ["anaconda3/2025.6", "gcc/13,openmpi/4.1++", ",".join(["x" * 19] * 200), "x" * 200],
        ["/opt/m", "../m", "a,,b", "a;b", "a b", "a/..", "x" * 201, ",".join(["x" * 20] * 200)],
    ),
    "path": (
        "models_dir",
        ["/data/models", "models/x", "./x", "/a b/c[1]", "/a&(b)#~", "/" + "x" * 3999],
        ["", " /a", "/a ", "~/a", "-a", "/a/../b", "..", "/a;b", "/a|b", "/a<b>", "/a*", "/a?", "/{a}", "/a$B",
         "/a'b", '/a"b', "/a`b", "/a\\b", "/a\nb", "/a\u202eb", "/" + "x" * 4000],
    ),
    "pattern_free_path": ("input_dir_base", ["/data/sets", "sets"], ["/data/set[1]", "/data/*", "/a/../b", "/a;b"]),
    "folder": ("input_formatting", ["", "raw", "a/b_c"], ["/raw", "a/../b", "a b", ".x"]),
    "extension": ("dataset_ext", [".json", ".parquet"], ["json", ".csv", ""]),
    "recipe": (
        "custom_recipe",
        ["lora_finetune_single_device", "kit.recipes.lora_stable", "dev/generate_v2", "llama3_2/1B_lora"],
        ["/abs/recipe.py", "../recipe.py", "recipe; ls", "--help", "a..b", "a b"],
    ),
    "time": ("time", ["0:59:00", "1-12:00:00", "1-0", "30:00"], ["0", "0:00", "soon", "", "1:2:3:4", "-1", "~1h"]),
    "memory": ("mem", ["64G", "9000", "1T"], ["0", "0G", "064G", "~64G", "64 x", "", "1.5G"]),
    "constraint": (
        "constraint",
        ["a100", "[a100*2&h100|(b,c)]", "gpu80"],
        ["a100 h100", "a;b", "$(ls)", "a..b", "-a", "x" * 201],
    ),
    "gpu_type": ("gpu_type", ["a100", "nvidia_h100.80gb", "8x"], ["0", "80", "1-2", "", "a b", "a:b", "x" * 201]),
    "mail": ("mail_user", ["ada@example.org", "ada@x"], ["ada", "a b@x", "ada@x --wrap=id", ""]),
    "events": ("mail_type", ["NONE", "END,FAIL", "TIME_LIMIT_90"], ["EVER", "END,END", "NONE,END", "END;FAIL", ""]),
    "reservations": ("reservation", ["course", "a,b"], ["a b", "a;b", "a,,b", "a..b", "a\n,b"]),
    "nodes": ("exclude", ["node01", "gpu[03-05],n7", "r[1,3-4]n"], ["gpu[01", "a b", "a,,b", "[1-2]", "a;b"]),
    "tags": ("wandb_tags", ["lora,4 letters,true", "a/b:c"], ["a,a", "a;b", "a,,b", "x" * 65, "$x"]),
    "files": ("checkpoint_files", ["model.safetensors", "a-1-of-2.bin,a-2-of-2.bin"], ["a/b", "a,a", "..", "$x"]),
    "projections": (
        "lora_attn_modules",
        ["q_proj", "q_proj,v_proj,output_proj", "q_proj,k_proj,v_proj,output_proj"],
        ["", "q_prj", "q_proj,q_proj", "q_proj,,v_proj", "q_proj;v_proj", "mlp", "w1", "up_proj", "all"],
    ),
    "wandb_mode": ("wandb_mode", ["online", "offline", "disabled"], ["", "on", "dryrun", "no", "off line"]),
    "comment": ("comment", ["second # try; of (two)", "a, b"], ['say "hi"', "$(id)", "a\nb", "x" * 201, "<a>", "{a}"]),
}  # fmt: skip

GOOD = [(key, text) for key, good, _ in KINDS.values() for text in good]
BAD = [(key, text) for key, _, bad in KINDS.values() for text in bad]


def by_documents(key: str, text: str) -> Scalar:
    """Return the value that a document gives, or None if it is refused."""
    try:
        return values.typed(PARAMETERS[key], SourceText(text, 1, SUMMARY, exact=True)).value
    except NotTyped:
        return None


def by_setup(key: str, text: str) -> Scalar:
    """Return the value that setup_finetune.yaml gives, or None if it is refused."""
    number = KEYS[key].kind in {"int", "float"}
    try:
        settings, report = read_keys(f"{key}: {text if number else yaml_scalar(text)}\n", "setup_finetune.yaml")
    except (Refused, UnicodeError):
        return None
    return None if report.errors or key not in settings.given else settings.values[key]


def test_every_kind_has_texts() -> None:
    assert {PARAMETERS[key].kind for key, _, _ in KINDS.values()} == set(KINDS)
    assert {parameter.kind for parameter in PARAMETERS.values()} == set(KINDS)


@pytest.mark.parametrize(("key", "text"), GOOD)
def test_a_valid_text_has_the_same_value_in_both(key: str, text: str) -> None:
    parameter = KEYS[key]
    value = read(parameter.kind, text, parameter.bounds)
    assert (by_documents(key, text), by_setup(key, text)) == (value, value)


@pytest.mark.parametrize(("key", "text"), BAD)
def test_an_invalid_text_is_refused_by_both(key: str, text: str) -> None:
    parameter = KEYS[key]
    with pytest.raises(NotTyped) as refused:
        read(parameter.kind, text, parameter.bounds)
    assert refused.value.allowed
    assert (by_documents(key, text), by_setup(key, text)) == (None, None)


@pytest.mark.parametrize(
    ("key", "written", "value"),
    [
        ("modules", "cuda/12, gcc/13", "cuda/12,gcc/13"),
        ("reservation", "a, b", "a,b"),
        ("mail_type", "end, fail", "END,FAIL"),
        ("exclude", "a, b", "a,b"),
        ("wandb_tags", "a, b", "a,b"),
        ("models_dir", "/models/", "/models"),
        ("packed", "yes", True),
        ("lr", "1 × 10^-5", 1e-5),
        ("lr_scheduler", "cosine", "get_cosine_schedule_with_warmup"),
    ],
)
def test_documents_accept_values_in_common_notations(key: str, written: str, value: Scalar) -> None:
    assert by_documents(key, written) == value


def test_setup_finetune_yaml_accepts_a_list_notation_only_for_modules() -> None:
    assert by_setup("modules", "cuda/12, gcc/13") == "cuda/12,gcc/13"
    for key, text in (("reservation", "a, b"), ("mail_type", "end"), ("wandb_tags", "a, b"), ("packed", "yes")):
        assert by_setup(key, text) is None


def test_only_setup_finetune_yaml_accepts_bare_minutes() -> None:
    assert by_setup("time", "30") == "30"
    assert by_documents("time", "30") is None


@pytest.mark.parametrize("text", ["/a, /b", "/Smith, John/x", "/a or /b", "/a ✓"])
def test_a_document_refuses_a_path_with_a_possible_remark_or_two_paths(text: str) -> None:
    assert by_setup("models_dir", text) == text
    assert by_documents("models_dir", text) is None
