"""The compiler: a plan as a Kubeflow pipeline. The only importer of kfp beside the local run."""

from graftwork.compile.pipeline import Compiled, compile_noted, compile_plan

__all__ = ["Compiled", "compile_noted", "compile_plan"]
