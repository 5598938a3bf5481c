"""The page of a run: what `xmodel report` writes, a folder that opens from disk, without a server."""
