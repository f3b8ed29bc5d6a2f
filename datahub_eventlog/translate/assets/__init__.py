"""What an asset is: its properties, columns, tags, owners, and when its data changed.

`emitter` makes the proposals of all assets of a run. Its lineage is found in `lineage`.
"""
