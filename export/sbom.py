"""`sbom.spdx.json`: the software that made a bundle, in the form that scanners of supply chains read (SPDX 2.3).

It has edgeship, the tools of the manifest, and whatever these need, with the versions that are installed here.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
from collections.abc import Iterable
from datetime import UTC, datetime

from license_expression import ExpressionError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from spdx_tools.common.spdx_licensing import spdx_licensing
from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    CreationInfo,
    Document,
    ExternalPackageRef,
    ExternalPackageRefCategory,
    Package,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)
from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

from edgeship.core.version import __version__

DOCUMENT = "SPDXRef-DOCUMENT"
OWN = "edgeship"


def sbom_bytes(tools: Iterable[str], *, manifest_sha256: str) -> bytes:
    """Return the document; the same manifest and the same installed packages give the same bytes.

    Args:
        tools: names of the packages that took part, without edgeship.
        manifest_sha256: of the bundle, which the document's name is made of.
    """
    named = sorted(set(tools))
    needs = installed_closure(named)
    packages = [_package(OWN, __version__, None), *(
        _package(name, found.version, _header(found, "License-Expression")) for name, found in _installed(needs)
    )]
    document = Document(
        creation_info=CreationInfo(
            spdx_version="SPDX-2.3", spdx_id=DOCUMENT, name=f"toolchain of the bundle {manifest_sha256[:12]}",
            document_namespace=f"https://spdx.org/spdxdocs/edgeship-{manifest_sha256}",
            creators=[Actor(ActorType.TOOL, f"edgeship-{__version__}")], created=_created(),
            creator_comment="The time is SOURCE_DATE_EPOCH, or 1970: the same export gives the same bytes.",
        ),
        packages=packages,
        relationships=[
            Relationship(DOCUMENT, RelationshipType.DESCRIBES, _id(OWN)),
            *(Relationship(_id(OWN), RelationshipType.DEPENDS_ON, _id(name)) for name in named),
            *(
                Relationship(_id(name), RelationshipType.DEPENDS_ON, _id(other))
                for name, others in sorted(needs.items()) for other in sorted(others)
            ),
        ],
    )
    text = io.StringIO()
    write_document_to_stream(document, text)  # it validates first
    return text.getvalue().encode() + b"\n"


def installed_closure(names: Iterable[str]) -> dict[str, set[str]]:
    """Return each of these packages and all that they need, by name -> what it needs itself, of what is installed."""
    needs: dict[str, set[str]] = {}
    waiting: list[str] = [canonicalize_name(name) for name in names]
    while waiting:
        if (name := waiting.pop()) not in needs:
            needs[name] = set(_needs(name))
            waiting += needs[name]
    return needs


def _needs(name: str) -> Iterable[str]:
    for line in importlib.metadata.requires(name) or ():
        requirement = Requirement(line)
        # Of extras (which none of ours asks for) and of other platforms.
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        other = canonicalize_name(requirement.name)
        try:
            importlib.metadata.version(other)
        except importlib.metadata.PackageNotFoundError:  # what is not there did not take part
            continue
        yield other


def _installed(names: Iterable[str]) -> Iterable[tuple[str, importlib.metadata.Distribution]]:
    return ((name, importlib.metadata.distribution(name)) for name in sorted(names))


def _header(found: importlib.metadata.Distribution, name: str) -> str | None:
    """Return a line of a package's metadata; None where it has none."""
    return next(iter(found.metadata.get_all(name) or ()), None)


def _package(name: str, version: str, licence: str | None) -> Package:
    """Return a package; its licence only where its metadata has it in SPDX's own terms."""
    return Package(
        spdx_id=_id(name), name=name, version=version, download_location=SpdxNoAssertion(), files_analyzed=False,
        license_declared=_licence(licence),
        external_references=[ExternalPackageRef(
            ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", f"pkg:pypi/{name}@{version}"
        )],
    )


def _licence(expression: str | None) -> object:
    if not expression:
        return SpdxNoAssertion()
    try:
        return spdx_licensing.parse(expression, validate=True)
    except ExpressionError:
        return SpdxNoAssertion()


def _id(name: str) -> str:
    return f"SPDXRef-{canonicalize_name(name)}"


def _created() -> datetime:
    # Without a time zone, as the library takes it: it writes UTC.
    return datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH") or 0), UTC).replace(tzinfo=None)
