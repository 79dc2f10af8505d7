"""The compiler: a plan as a Kubeflow pipeline. The only importer of kfp beside the local run."""

from graftwork.compile.pipeline import compile_plan

__all__ = ["compile_plan"]
