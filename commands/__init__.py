"""The commands of the command line: options, tables, progress. They call stages through `abaw.pipeline`."""
