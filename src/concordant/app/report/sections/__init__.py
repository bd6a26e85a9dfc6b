"""The sections of the report, one file each: a function from a run to a section, or to nothing."""
