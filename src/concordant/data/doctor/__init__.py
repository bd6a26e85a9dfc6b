"""The data doctor: what a data set holds, and what is wrong with it, before any model is loaded.

`checkup` reads a source once and keeps nothing of its rows in memory: figures go to `figures`, hashes and problems
to the `ledger` on disk, which finds what repeats and contradicts itself. `advice` says of each kind of problem what
was expected and what to do; `cure` reads the source again and writes what is worth keeping to a file of its own.
"""
