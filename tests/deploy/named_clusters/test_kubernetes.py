"""The Kubernetes examples and the image, checked without Kubernetes and Docker.

The fields are those that the operator of dask-kubernetes reads (kubernetes.dask.org/v1: its
documentation of DaskCluster and DaskAutoscaler) and those of Kubernetes' own batch/v1 and core/v1.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.clusters.existing import checked_address
from deploy.clusters.worker_environment import KEPT_MEMORY, torch_threads
from flows.cli.main import make_parser

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "deploy/kubernetes"
SPECS = {
    "DaskCluster": {"idleTimeout", "worker", "scheduler"},
    "DaskAutoscaler": {"cluster", "minimum", "maximum"},
    "Job": {"backoffLimit", "podFailurePolicy", "template"},
}
POD = {"containers", "volumes", "restartPolicy", "terminationGracePeriodSeconds"}
CONTAINER = {"name", "image", "imagePullPolicy", "args", "env", "ports", "resources",
             "volumeMounts", "readinessProbe", "livenessProbe"}  # fmt: skip


@pytest.fixture(scope="module")
def objects():
    """Return all objects by kind."""
    texts = [path.read_text() for path in sorted(EXAMPLES.glob("*.yaml"))]
    return {one["kind"]: one for text in texts for one in yaml.safe_load_all(text)}


def pods(objects):
    spec = objects["DaskCluster"]["spec"]
    return [spec["worker"]["spec"], spec["scheduler"]["spec"],
            objects["Job"]["spec"]["template"]["spec"]]  # fmt: skip


def test_every_object_has_valid_fields_only(objects):
    assert set(objects) == set(SPECS)
    for kind, known in SPECS.items():
        version = "batch/v1" if kind == "Job" else "kubernetes.dask.org/v1"
        assert objects[kind]["apiVersion"] == version
        assert set(objects[kind]) == {"apiVersion", "kind", "metadata", "spec"}
        assert set(objects[kind]["spec"]) <= known
    assert set(objects["DaskCluster"]["spec"]["worker"]) == {"replicas", "spec"}
    assert set(objects["DaskCluster"]["spec"]["scheduler"]) == {"spec", "service"}
    for pod in pods(objects):
        assert set(pod) <= POD
        for container in pod["containers"]:
            assert set(container) <= CONTAINER
            assert all(isinstance(word, str) for word in container["args"]), "YAML reads numbers"


def test_used_volumes_and_ports_are_defined(objects):
    for pod in pods(objects):
        there = {volume["name"] for volume in pod.get("volumes", ())}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= there
    scheduler = objects["DaskCluster"]["spec"]["scheduler"]
    ports = {port["name"] for port in scheduler["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in scheduler["service"]["ports"]} <= ports


def test_the_job_reaches_the_scheduler_of_the_cluster_by_arguments_that_the_shell_takes(objects):
    name = objects["DaskCluster"]["metadata"]["name"]
    assert objects["DaskAutoscaler"]["spec"]["cluster"] == name
    selector = objects["DaskCluster"]["spec"]["scheduler"]["service"]["selector"]
    assert selector == {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
    command = objects["Job"]["spec"]["template"]["spec"]["containers"][0]["args"]
    options = make_parser().parse_args(command[1:])
    assert checked_address(options.cluster) == f"tcp://{name}-scheduler:8786"
    rules = objects["Job"]["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onExitCodes"]["values"] == [2], "bad input is not tried again"


def test_workers_take_a_unit_of_the_device_per_thread_within_their_memory(objects):
    (worker,) = objects["DaskCluster"]["spec"]["worker"]["spec"]["containers"]
    words = worker["args"]
    after = {word: words[index + 1] for index, word in enumerate(words[:-1])}
    assert after["--resources"] == f"device={after['--nthreads']}"
    assert int(after["--memory-limit"][:-3]) < int(worker["resources"]["limits"]["memory"][:-2])


def test_workers_compute_with_their_cores_and_keep_their_memory(objects):
    (worker,) = objects["DaskCluster"]["spec"]["worker"]["spec"]["containers"]
    told = {one["name"]: one["value"] for one in worker["env"]}
    assert told == {**torch_threads(worker["resources"]["limits"]["cpu"]), **KEPT_MEMORY}


def test_the_image_contains_the_installed_files_and_runs_as_an_ordinary_user():
    text = (ROOT / "Dockerfile").read_text()
    copied = set(re.findall(r"^COPY (.+) \S+$", text, re.M))
    packages = {"overtile", "pipeline", "unet", "flows", "deploy"}
    assert copied == {"pyproject.toml README.md LICENSE constraints.txt", *packages}
    extras = set(re.findall(r"^(cuda\d*) = ", (ROOT / "pyproject.toml").read_text(), re.M))
    assert set(re.findall(r"^ +(cuda\d*)\)", text, re.M)) == extras
    assert re.findall(r"^USER (.+)$", text, re.M)[-1] == "overtile"
    assert "PYTHONSAFEPATH=1" in text


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="no hadolint here")
def test_hadolint_reports_nothing_about_the_image():
    subprocess.run(["hadolint", "--ignore", "DL3042", ROOT / "Dockerfile"], check=True)
