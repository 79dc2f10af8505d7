"""The stages, one module a kind. Nothing is imported here: a step needs one stage, not ten.

`graftwork_train.run` imports the module that a step's kind names.
"""
