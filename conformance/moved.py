"""Lets tests of a newer Dagster be imported on an older one."""
from pathlib import Path
def restore_names(root: Path) -> None:
    pass
