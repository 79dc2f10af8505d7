"""The language of the YAML: pydantic and PyYAML, and nothing else.

It imports nothing heavy, so that a spec can be checked on any machine, in CI and in a launcher
that has neither torch nor kfp. `load` reads a spec, `workflow` is what it becomes; neither is
imported here, since a step that is done already has no use for the reader.
"""
