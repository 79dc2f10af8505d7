"""graftwork: efficient language-model pre-training, written as YAML and run as Kubeflow pipelines.

This is the light side: the language, the plan, the compiler, the launcher and the command line.
It never imports torch or ray; what runs in the containers is `graftwork_train`.
"""

__version__ = "0.1.0"
