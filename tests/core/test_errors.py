"""Foreign errors in few words."""

from __future__ import annotations

from edgeship.core.errors import in_one_line


def test_an_error_of_keras_has_no_bold_type_and_no_names_of_functions() -> None:
    error = ValueError(
        "Exception encountered when calling Conv2D.call().\n\n"
        "\x1b[1m{{function_node __wrapped__Conv2D_device_/job:localhost}} Only NHWC on a CPU\x1b[0m\n\nArguments: ..."
    )
    assert in_one_line(error) == "ValueError: Only NHWC on a CPU (Conv2D.call())"


def test_an_error_without_text_is_its_type() -> None:
    assert in_one_line(KeyError()) == "KeyError"
