"""The `quire` command: one file a sub-command, loaded when it is called."""
