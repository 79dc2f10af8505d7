"""The subcommands that talk to a cluster: their names, arguments and help, without their code."""

from __future__ import annotations

import argparse

from graftwork.commands.table import Command, add_json, add_spec


def _server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--endpoint", metavar="URL", help="Kubeflow Pipelines' API; default: $KFP_ENDPOINT"
    )
    parser.add_argument(
        "--namespace", metavar="NAME", help="namespace of the runs; default: $KFP_NAMESPACE"
    )
    parser.add_argument(
        "--token", metavar="TOKEN", help="bearer token; default: $KFP_EXISTING_TOKEN"
    )


def _run_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="RUN", help="id of the run, as `submit` prints it")
    _server(parser)


def _images(parser: argparse.ArgumentParser) -> None:
    add_spec(parser)
    add_json(parser, "the images")


def _submit(parser: argparse.ArgumentParser) -> None:
    add_spec(parser)
    _server(parser)
    parser.add_argument("--experiment", "-e", metavar="NAME", help="default: the workflow's name")
    parser.add_argument(
        "--pipeline-version",
        metavar="NAME",
        help="name of the pipeline version, such as a commit; default: a digest of the pipeline",
    )
    parser.add_argument(
        "--wait", action="store_true", help="follow the run and exit by how it ends"
    )
    add_json(parser, "the run, and with --wait how its stages ended,")


def _status(parser: argparse.ArgumentParser) -> None:
    _run_id(parser)
    parser.add_argument("--wait", action="store_true", help="follow the run until it ends")
    add_json(parser, "the run and its stages")


def _logs(parser: argparse.ArgumentParser) -> None:
    add_spec(parser)
    parser.add_argument("--run", required=True, metavar="RUN", help="id of the run")
    parser.add_argument("--stage", metavar="STAGE", help="only this stage; default: all")
    parser.add_argument(
        "--live",
        action="store_true",
        help="read what is not archived yet from the steps' pods, by the kubeconfig",
    )
    parser.add_argument(
        "--namespace", metavar="NAME", help="of the pods, with --live; default: the kubeconfig's"
    )


def _gc(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--namespace", metavar="NAME", help="default: the pod's, or the kubeconfig's"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    add_json(parser, "what was deleted")


CLUSTER_COMMANDS = (
    Command(
        "images",
        "list the container images that a spec's pods use",
        "Print the images that a compile would use, with the steps that use them, and warn of "
        "those that are not pinned by a digest.",
        "graftwork images spec.yaml\ngraftwork images spec.yaml -f prod.yaml --json",
        _images,
    ),
    Command(
        "submit",
        "run a spec on a cluster",
        "Compile the spec, upload the pipeline version unless it is there, and start a run. With "
        "--wait, exit codes: 0 succeeded, 1 failed or cancelled, 2 the spec is wrong. Interrupting "
        "the wait leaves the run going.",
        "graftwork submit spec.yaml --endpoint http://localhost:8888 --wait\n"
        "graftwork submit spec.yaml -f prod.yaml --pipeline-version $GIT_COMMIT --json",
        _submit,
    ),
    Command(
        "status",
        "show a run on a cluster",
        "Show a run's stages. Exit codes: 0 unless the run failed or was cancelled, then 1.",
        "graftwork status RUN\ngraftwork status RUN --json",
        _status,
    ),
    Command(
        "logs",
        "print the logs of a run on a cluster",
        "Print what the stages of a run have said, from where it was archived in storage when "
        "they ended; with --live also what stages that run have said so far.",
        "graftwork logs spec.yaml --run RUN\n"
        "graftwork logs spec.yaml --run RUN --stage large --live",
        _logs,
    ),
    Command(
        "cancel",
        "end a run on a cluster",
        "Terminate a run. Its launchers delete their Ray clusters within seconds.",
        "graftwork cancel RUN",
        _run_id,
    ),
    Command(
        "gc",
        "delete Ray clusters that no run waits for",
        "Delete RayJobs of graftwork whose run is over or gone. Also runs as a CronJob.",
        "graftwork gc --dry-run\ngraftwork gc --namespace research --json",
        _gc,
    ),
)
