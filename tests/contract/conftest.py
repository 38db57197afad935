"""The suite's own module asserts as tests do, so its assertions are to be explained as theirs are."""

import pytest

pytest.register_assert_rewrite("contract.suite", "contract.machine")
