"""Data sets as people have them: a layout is recognised by its columns, and its rows are turned into ours.

`reading` is where the other rooms come in. One file per kind of row (`demonstrations`, `judgements`,
`preferences`, `prompts`) has the readers and, at its end, the table of layouts. They are put together from
`exchange` (what was asked and answered), `transcripts` and `cells`. `layout` has what a layout is, and `account`
what is said about a row that is left out or mended: nothing is dropped in silence.
"""
