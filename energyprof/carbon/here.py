"""Where this machine stands, by what its cloud says of it in files and variables: nothing is asked over a network.

In this order, and only for a region that the tables know:

1. cloud-init's `/run/cloud-init/instance-data.json`, which anybody may read: written at this boot from the cloud's
   own metadata.
2. Variables that a platform sets itself: AWS Lambda, ECS and CloudShell (AWS_EXECUTION_ENV with AWS_REGION),
   SageMaker training (TRAINING_JOB_ARN), Azure App Service (REGION_NAME), SkyPilot (SKYPILOT_CLUSTER_INFO).
3. Where the machine's firmware (DMI) says that it is a cloud's: the search domain that this cloud's DHCP gives
   (`/etc/resolv.conf`), then the variables for the cloud's own tools.

AWS_REGION on a laptop says where its calls go, not where it stands, and so does a VPN's search domain: neither counts
without the firmware. It takes well below a millisecond. Standard library alone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from energyprof.carbon import cloud, tables
from energyprof.carbon.intensity import Intensity, MissingTable, UnknownPlace, resolve

_CLOUD_INIT = "run/cloud-init/instance-data.json"
_DMI = "sys/class/dmi/id"
_LARGEST_FILE = 4 << 20
_CLOUD_OF_NAME = {"aws": "aws", "azure": "azure", "gce": "gcp"}  # cloud-init's `cloud_name`
# What Azure writes as the asset tag of its machines' chassis; its vendor alone is that of every Hyper-V guest.
# cloud-init, ChassisAssetTag in sources/azure/identity.py.
_AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
# What AWS_EXECUTION_ENV begins with where AWS itself runs the program; AWS_ECS_EXTERNAL is anybody's machine.
_AWS_RUNS = ("AWS_Lambda_", "AWS_ECS_FARGATE", "AWS_ECS_EC2", "CloudShell")
_OF_TOOLS = {
    "aws": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "gcp": ("CLOUDSDK_COMPUTE_REGION", "CLOUDSDK_COMPUTE_ZONE"),
    "azure": ("AZURE_LOCATION",),
}
# "eu-west-3.compute.internal", "ec2.internal" (us-east-1), "europe-west9-b.c.PROJECT.internal"
_AWS_DOMAIN = re.compile(r"([a-z]{2}(?:-[a-z]+)+-\d)\.compute\.internal\.?")
_GOOGLE_DOMAIN = re.compile(r"([a-z]+-[a-z]+\d-[a-z])\.c\..+\.internal\.?")


def found(root: str = "/", environ: Mapping[str, str] | None = None) -> str | None:
    """The code of the region where this machine stands, such as "aws:eu-west-3"; None where nothing says it."""
    at = where(root, environ)
    return at[0] if at is not None else None


def where(root: str = "/", environ: Mapping[str, str] | None = None) -> tuple[str, str] | None:
    """The code of the region where this machine stands, and what says so; None where nothing does.

    Parameters
    ----------
    root
        The folder in place of `/`.
    environ
        The environment in place of the process's own.
    """
    variables = os.environ if environ is None else environ
    regions = google = None
    for provider, region, by in _claims(Path(root), variables):
        name = cloud.region_of(provider, region.strip().casefold())
        regions = cloud.known() if regions is None else regions
        if name in regions.get(provider, {}).get("regions", {}):
            return f"{provider}:{name}", by
        if provider == "gcp":
            folder = tables.shipped()
            google = cloud.google(folder) if google is None and folder is not None else google or {}
            if name in google:
                return f"gcp:{name}", by
    return None


def place(
    root: str = "/", environ: Mapping[str, str] | None = None, *, data_dir: Path | None = None
) -> Intensity | None:
    """The intensity where this machine stands, its source saying what named the place; None where nothing does."""
    at = where(root, environ)
    if at is None:
        return None
    try:
        return named_by(resolve(at[0], data_dir=data_dir), at[1])
    except (UnknownPlace, MissingTable):
        return None


def named_by(intensity: Intensity, by: str) -> Intensity:
    """The same figure, its source saying what named the place."""
    return replace(intensity, source=f"{intensity.source}; place named by {by}")


def _claims(root: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """What names a region, the surest first: provider, region, and what it is."""
    yield from _cloud_init(root)
    yield from _platforms(environ)
    provider = _firmware(root)
    if not provider:
        return
    if region := _search_domain(root, provider):
        yield provider, region, "the cloud's search domain in /etc/resolv.conf"
    for variable in _OF_TOOLS[provider]:
        if environ.get(variable):
            yield provider, environ[variable], f"{variable}, on a machine whose firmware is {provider}'s"


def _cloud_init(root: Path) -> Iterator[tuple[str, str, str]]:
    standard = _object(_text(root / _CLOUD_INIT)).get("v1")
    if not isinstance(standard, dict):
        return
    provider = _CLOUD_OF_NAME.get(str(standard.get("cloud_name", "")).casefold())
    for key in ("region", "availability_zone"):
        value = standard.get(key)
        if provider and isinstance(value, str) and value:
            yield provider, value, "the cloud's metadata (cloud-init)"


def _platforms(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    if environ.get("AWS_EXECUTION_ENV", "").startswith(_AWS_RUNS) and environ.get("AWS_REGION"):
        yield "aws", environ["AWS_REGION"], "AWS_REGION, set by AWS"
    arn = environ.get("TRAINING_JOB_ARN", "").split(":")  # arn:aws:sagemaker:REGION:ACCOUNT:training-job/NAME
    if arn[0] == "arn" and arn[2:3] == ["sagemaker"] and len(arn) > 4:
        yield "aws", arn[3], "TRAINING_JOB_ARN, set by SageMaker"
    if environ.get("WEBSITE_INSTANCE_ID") and environ.get("REGION_NAME"):
        yield "azure", environ["REGION_NAME"], "REGION_NAME, set by Azure App Service"
    sky = _object(environ.get("SKYPILOT_CLUSTER_INFO", ""))
    name, region = sky.get("cloud"), sky.get("region")
    if isinstance(region, str) and str(name).casefold() in ("aws", "gcp", "azure"):
        yield str(name).casefold(), region, "SKYPILOT_CLUSTER_INFO, set by SkyPilot"


def _firmware(root: Path) -> str:
    """The cloud whose machine this is by its firmware's names; empty where they name none."""
    folder = root / _DMI
    vendor = _text(folder / "sys_vendor").strip()
    if vendor == "Amazon EC2":
        return "aws"
    if vendor == "Google" and _text(folder / "product_name").startswith("Google Compute Engine"):
        return "gcp"
    return "azure" if _text(folder / "chassis_asset_tag").strip() == _AZURE_TAG else ""


def _search_domain(root: Path, provider: str) -> str:
    for line in _text(root / "etc/resolv.conf").splitlines():
        keyword, *domains = line.split() or [""]
        for domain in domains if keyword in ("search", "domain") else ():
            if provider == "aws" and domain.rstrip(".") == "ec2.internal":
                return "us-east-1"
            pattern = {"aws": _AWS_DOMAIN, "gcp": _GOOGLE_DOMAIN}.get(provider)
            if pattern is not None and (match := pattern.fullmatch(domain)):
                return match[1]
    return ""


def _text(path: Path) -> str:
    """A file's text, empty where it cannot be read; a pipe in its place would make us wait."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return file.read(_LARGEST_FILE).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def _object(text: str) -> dict[str, object]:
    """A JSON object, empty where the text is none."""
    try:
        content = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
