"""One file per group of commands, imported when the command is called."""
