"""What the code locations of a workspace define, whether or not it ever ran."""
