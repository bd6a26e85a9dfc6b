"""The options of the commands: nothing here runs anything, and nothing heavy is imported."""
