"""What Dagster's tests use of its package `dagster_test`, which is published nowhere."""
