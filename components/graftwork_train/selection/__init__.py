"""Choosing documents, one module a method. Nothing is imported here, since only one is needed.

The stage `select` imports the module that the method's name says; it registers with `base.select`.
"""
