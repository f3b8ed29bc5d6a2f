"""Comparing what DataHub holds with what Dagster's event log becomes."""
