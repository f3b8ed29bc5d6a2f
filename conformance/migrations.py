"""Makes instances cheaper: each makes its databases, and looks at their migrations, anew."""

from __future__ import annotations

from functools import cache

from alembic.config import Config
from alembic.script import ScriptDirectory


def read_once() -> None:
    """From now on, have Alembic read a folder of migrations once in this process.

    It does so several times an instance otherwise, which takes half the time of many tests.
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
