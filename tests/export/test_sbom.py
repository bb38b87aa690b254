"""`sbom.spdx.json`: valid SPDX, whole, and the same bytes each time."""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

import pytest

pytest.importorskip("spdx_tools", reason='needs pip install "edgeship[train]"')
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from edgeship.core.version import __version__
from edgeship.export.sbom import installed_closure, sbom_bytes

SHA256 = "5" * 64
TOOLS = ("onnx", "onnxruntime", "tf-keras")


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sbom_bytes(TOOLS, manifest_sha256=SHA256))
    return found


def test_it_is_valid_and_names_every_tool_with_its_version() -> None:
    parsed = JsonLikeDictParser().parse(document())
    assert validate_full_spdx_document(parsed) == []
    versions = {package.name: package.version for package in parsed.packages}
    assert versions["edgeship"] == __version__
    for name in TOOLS:
        assert versions[name] == importlib.metadata.version(name)
    assert {"protobuf", "numpy"} <= set(versions)  # what onnx needs


def test_relations_say_what_needs_what() -> None:
    relations = {
        (item["spdxElementId"], item["relationshipType"], item["relatedSpdxElement"])
        for item in document()["relationships"]
    }
    assert ("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-edgeship") in relations
    assert ("SPDXRef-edgeship", "DEPENDS_ON", "SPDXRef-tf-keras") in relations
    assert ("SPDXRef-onnx", "DEPENDS_ON", "SPDXRef-protobuf") in relations
    assert ("SPDXRef-edgeship", "DEPENDS_ON", "SPDXRef-protobuf") not in relations


def test_the_same_manifest_gives_the_same_bytes_and_another_one_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    first = sbom_bytes(TOOLS, manifest_sha256=SHA256)
    assert first == sbom_bytes(reversed(TOOLS), manifest_sha256=SHA256)
    assert document()["documentNamespace"].endswith(SHA256)
    assert document()["creationInfo"]["created"] == "1970-01-01T00:00:00Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert document()["creationInfo"]["created"] == "1970-01-02T00:00:00Z"


def test_what_is_needed_is_followed_to_its_end() -> None:
    needs = installed_closure(["tf_keras"])
    assert "tensorflow" in needs["tf-keras"] and "numpy" in needs["tensorflow"]
    assert all(name in needs for others in needs.values() for name in others)
