"""The arguments that a data set node may pass on to datasets.load_dataset."""

import inspect

# Arguments of load_dataset itself, and of its JSON and parquet builders. Lists of our own, each argument asserted to
# exist, so that a newer release of datasets does not change the facts.
LOADER_ARGUMENTS = ("cache_dir", "data_dir", "data_files", "features", "name", "num_proc", "revision", "split")
JSON_ARGUMENTS = ("encoding", "field")
PARQUET_ARGUMENTS = ("columns", "filters")


def loader_arguments() -> dict[str, list[str]]:
    """Return the arguments that a data set node may pass on, by source; exit if the installed datasets rejects one."""
    import datasets
    from datasets.packaged_modules.json.json import JsonConfig
    from datasets.packaged_modules.parquet.parquet import ParquetConfig

    known = set(inspect.signature(datasets.load_dataset).parameters)
    sources = {"json": (JSON_ARGUMENTS, JsonConfig), "parquet": (PARQUET_ARGUMENTS, ParquetConfig)}
    for names, config in sources.values():
        missing = set(names) - set(inspect.signature(config).parameters) | set(LOADER_ARGUMENTS) - known
        if missing:
            raise SystemExit(f"datasets {datasets.__version__} does not take {sorted(missing)}")
    return {source: sorted(LOADER_ARGUMENTS + names) for source, (names, _) in sources.items()}
