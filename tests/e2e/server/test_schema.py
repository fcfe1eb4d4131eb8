"""schemathesis: whatever fits the server's own OpenAPI document, and much that does not, is
answered without a failure of the server."""

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error

from served import Served

EXAMPLES = 12  # of either kind, for each operation
# A long answer says no more than a short one.
COUNTS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n")


def test_no_server_error(served: Served) -> None:
    document = schemathesis.openapi.from_url(f"{served.address}/openapi.json")
    operations = [each.ok() for each in document.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:
        for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
            if mode is GenerationMode.NEGATIVE and not operation.body:
                continue  # it takes nothing

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Case) -> None:
                if isinstance(case.body, dict):
                    case.body.update({name: 2 for name in COUNTS if case.body.get(name)})
                case.call_and_validate(checks=[not_a_server_error], timeout=60)

            ask()
