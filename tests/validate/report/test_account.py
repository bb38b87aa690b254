"""The account: how many kernels of each scheme are int8."""

from __future__ import annotations

from edgeship.core.artifact import Quantization
from edgeship.core.measurement import REPORT_SCHEMA, Report
from edgeship.validate.report.account import account_lines


def test_each_scheme_says_how_many_kernels_are_int8() -> None:
    whole = Quantization(kept_float=(), weights_expected=37, weights_quantized=37, weight_bits=8)
    part = Quantization(kept_float=("head", "gate"), weights_expected=35, weights_quantized=35, weight_bits=8)
    report = Report(
        schema=REPORT_SCHEMA, created_by="edgeship", bundle="bundle", created_at="", machine={}, rows=(), grids=(),
        agreements=(), verdict="pass", failures=(), notes=(), quantization={"int8-ptq": whole, "int8-mixed": part},
    )
    assert list(account_lines(report)) == [
        "int8-ptq: 37 of 37 kernels are int8", "int8-mixed: 35 of 35 kernels are int8, 2 kept in float",
    ]
