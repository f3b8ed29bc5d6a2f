"""What an asset is made of, which table it is, and what ops and steps read and write.

`asset_lineage` answers for an asset. It collects from six sources:

1. `evidence`: which table of a data platform the asset is. The strongest evidence wins: the
   metadata `datahub_urn`, the user's converter, a long key, `table_uri`, `dagster/table_name`,
   `dagster/uri`, `path`. `platforms` knows how integrations name platforms and tables, `paths`
   which dataset is at a path.
2. `queries`: what the SQL in its metadata reads and writes. `sql` parses it, with the columns of
   tables that `schema_resolver` knows.
3. Its definition and the input versions that Dagster noted: the assets upstream of it.
4. The metadata `datahub.inputs` and `datahub.outputs`.
5. The tables of upstream assets that Dagster does not make.
6. The metadata `dagster/column_lineage`.

All six count together. Only within the first, the asset's own table, does one win.

`op_lineage` answers for ops and steps. It puts together `asset_ports` (the datasets of asset
events and definitions), `stored_paths` (where I/O managers stored and loaded), `declared`
(`datahub.inputs` and `datahub.outputs` on ops) and the user's extractor.
"""
