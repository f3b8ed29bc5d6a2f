"""Makes Dagster instances cheaper, each of which creates and migrates its own databases."""

from __future__ import annotations

from functools import cache

from alembic.config import Config
from alembic.script import ScriptDirectory


def install() -> None:
    """Let Alembic read a folder of migrations once a process.

    By default it does so several times an instance, which is half the time of many tests.
    """
    original = ScriptDirectory.from_config

    @cache
    def from_folder(file: str, folder: str) -> ScriptDirectory:
        config = Config(file)
        config.set_main_option("script_location", folder)
        return original(config)

    def from_config(config: Config) -> ScriptDirectory:
        folder = config.get_main_option("script_location") or ""
        return from_folder(str(config.config_file_name), folder)

    ScriptDirectory.from_config = staticmethod(from_config)  # type: ignore[method-assign]
