"""The sections of `report.html`, one subject per file; each returns the blocks that it has something to say in."""
