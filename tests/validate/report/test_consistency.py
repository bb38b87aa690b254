from __future__ import annotations

import dataclasses

import pytest

from edgeship.core.evidence import Histogram
from edgeship.core.measurement import Report
from edgeship.validate.report.consistency import check_report
from tests.support.report_records import FLOATS, classifier, regression

WHOLE = classifier()
ROW = WHOLE.rows[1]


def with_row(**changes: object) -> Report:
    return dataclasses.replace(WHOLE, rows=(dataclasses.replace(ROW, **changes),))


def test_a_report_of_our_own_is_consistent() -> None:
    check_report(WHOLE)


@pytest.mark.parametrize(("report", "message"), [
    (dataclasses.replace(WHOLE, verdict="fine"), "verdict: expected one of pass, .* found 'fine'"),
    (with_row(scheme="int3"), r"rows\[0\]\.scheme: expected one of"),
    (with_row(runtime="abacus"), r"rows\[0\]\.runtime: expected one of"),
    (with_row(classes=dataclasses.replace(FLOATS, right=(1, 2))), r"rows\[0\]\.classes: expected lists of one length"),
    (with_row(classes=dataclasses.replace(FLOATS, confusion=((1,),))), "lists of one length, found 1, 3"),
    (
        with_row(deviations=dataclasses.replace(
            regression().rows[1].deviations, scores=Histogram(edges=(0.0, 1.0), counts=(1, 2))
        )),
        r"rows\[0\]\.deviations: expected one more edge than counts, found 2 and 2",
    ),
    (
        dataclasses.replace(WHOLE, float_classes=dataclasses.replace(
            FLOATS, examples=(1,), answered=(1,), right=(1,), confusion=None
        )),
        "as many classes everywhere",
    ),
    (dataclasses.replace(WHOLE, ship=(dataclasses.replace(WHOLE.ship[0], verdict="maybe"),)), r"ship\[0\]\.verdict"),
])
def test_what_no_version_wrote(report: Report, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_report(report)
