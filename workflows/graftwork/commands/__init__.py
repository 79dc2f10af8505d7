"""The subcommands, one module each with `run(arguments) -> int`; `table` says what they take."""
