"""The checkpoint files that a finetune.yaml names."""

import pytest

from scaffold_torchtune.system.layout import FINETUNE_YAML
from scaffold_torchtune.validate.finetune import checkpoint_files
from scaffold_torchtune.validate.run_files import RunFiles
from support.good_files import GOOD_CONFIG


def named(text: str) -> tuple[str, ...]:
    return checkpoint_files(RunFiles({FINETUNE_YAML: text}))


def of(node: str) -> tuple[str, ...]:
    return named(f"name: model\ncheckpointer: {{checkpoint_files: {node}}}\n")


def test_files_are_a_list_or_generated_from_a_format() -> None:
    assert named(GOOD_CONFIG) == ("model.safetensors",)
    assert of("[a.safetensors, '${name}.safetensors']") == ("a.safetensors", "model.safetensors")
    assert of("{filename_format: 'model-{}-of-{}.safetensors', max_filename: '00012'}") == tuple(
        f"model-{n:05}-of-00012.safetensors" for n in range(1, 13)
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: [",
        "[" * 5000,
        "- a",
        "model: {}",
        "checkpointer: x",
        "checkpointer: {}",
        "checkpointer: {checkpoint_files: model.safetensors}",
        "checkpointer: {checkpoint_files: []}",
        "checkpointer: {checkpoint_files: [1, null]}",
        "checkpointer: {checkpoint_files: {filename_format: 'model-{}.safetensors', max_filename: '3'}}",
        "checkpointer: {checkpoint_files: {filename_format: 'model-{}-of-{}.safetensors', max_filename: 3}}",
        "checkpointer: {checkpoint_files: {filename_format: 'model-{}-of-{}.safetensors', max_filename: three}}",
        "checkpointer: {checkpoint_files: {max_filename: '3'}}",
    ],
)
def test_a_config_without_valid_file_names_gives_none(text: str) -> None:
    assert named(text) == ()


@pytest.mark.parametrize("last", ["00000", "\u00b2", "9" * 5000])
def test_a_format_with_an_invalid_last_number_gives_no_files(last: str) -> None:
    assert of(f"{{filename_format: 'model-{{}}-of-{{}}.safetensors', max_filename: '{last}'}}") == ()


def test_the_number_of_files_from_a_format_is_limited() -> None:
    found = of("{filename_format: 'model-{}-of-{}.safetensors', max_filename: '999999999'}")
    assert len(found) == 1000
