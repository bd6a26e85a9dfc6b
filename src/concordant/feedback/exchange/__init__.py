"""Votes in the forms in which others keep them, into the store and out of it.

`importing` and `exporting` are where the other rooms come in. A file of votes is read by the format its first
row shows: one file per format, all listed in `formats`. Each makes `Ballot`s (`ballots`), which `keeping`
writes into the store. Views go out as rows (`rows`) in a file of a kind (`exporting`); raw votes go out and
come back by `raw_votes`.
"""
