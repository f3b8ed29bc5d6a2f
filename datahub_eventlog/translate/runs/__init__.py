"""What happened in a run, and the job, ops, run and steps that DataHub gets of it.

`progress` and `asset_events` read the run's events, each in one pass; `plan` knows which op a step
belongs to. `jobs`, `run` and `steps` make the proposals.
"""
