def scrub_tox_uv_project_environment() -> None:
    """Nothing: these tests don't run under tox."""
