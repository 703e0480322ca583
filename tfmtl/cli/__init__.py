"""The `tfmtl` command line."""
