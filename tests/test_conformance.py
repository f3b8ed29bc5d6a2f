"""The comparison of Dagster's tests with and without the wrapper can fail, and says why."""

from conformance.comparison import MISSING, Outcome, Verdict, verdict
from conformance.report import Report, Result, left_out, total
from conformance.suites import LEFT_OUT, SUITES, Suite, selected, suite_of

PASSED = Outcome("passed")
FAILED = Outcome("failed", "AssertionError at test_event_log.py:7")
SKIPPED = Outcome("skipped", "this storage can't")
SUITE = Suite("event log", ("tests/test_event_log.py",), is_captured=True)


def report(
    *results: Result,
    instances: int = 1,
    touched: int = 1,
    complaints: int = 0,
    suite: Suite = SUITE,
) -> Report:
    named = {f"test_{number}": each for number, each in enumerate(results)}
    return Report(suite, named, instances, touched, complaints)


def test_a_test_that_ends_alike_is_the_same() -> None:
    assert verdict([PASSED], [PASSED]) is Verdict.SAME
    assert verdict([FAILED], [FAILED]) is Verdict.SAME


def test_a_test_that_fails_only_with_the_wrapper_is_a_difference() -> None:
    assert verdict([PASSED] * 4, [FAILED] * 4) is Verdict.DIFFERENT


def test_a_test_that_passes_only_with_the_wrapper_is_a_difference() -> None:
    assert verdict([FAILED] * 4, [PASSED] * 4) is Verdict.DIFFERENT


def test_a_test_that_is_skipped_for_another_reason_is_a_difference() -> None:
    other = Outcome("skipped", "this storage can't either")
    assert verdict([SKIPPED] * 4, [other] * 4) is Verdict.DIFFERENT


def test_a_test_that_fails_elsewhere_is_a_difference() -> None:
    elsewhere = Outcome("failed", "AssertionError at test_event_log.py:8")
    assert verdict([FAILED] * 4, [elsewhere] * 4) is Verdict.DIFFERENT


def test_a_test_that_was_not_run_is_a_difference() -> None:
    assert verdict([PASSED] * 4, [MISSING] * 4) is Verdict.DIFFERENT


def test_a_test_that_fails_now_and_then_with_the_wrapper_is_a_difference() -> None:
    assert verdict([PASSED] * 4, [FAILED, PASSED, FAILED, PASSED]) is Verdict.DIFFERENT


def test_a_test_that_fails_now_and_then_anyway_is_none() -> None:
    assert verdict([PASSED, FAILED, PASSED, PASSED], [FAILED, PASSED, PASSED, FAILED]) is (
        Verdict.UNSTEADY
    )


def test_a_test_that_differed_once_but_in_no_repetition_is_none() -> None:
    assert verdict([PASSED] * 4, [FAILED, PASSED, PASSED, PASSED]) is Verdict.UNSTEADY


def test_a_test_that_no_longer_differs_counts_what_the_wrapper_alone_did() -> None:
    outcomes = [FAILED, PASSED, PASSED, PASSED]
    assert verdict(outcomes, [SKIPPED, PASSED, PASSED, PASSED]) is Verdict.DIFFERENT


def test_a_suite_without_differences_is_good() -> None:
    whole = report(Result([PASSED], [PASSED]), Result([SKIPPED], [SKIPPED]), touched=3)
    assert whole.is_good
    assert list(whole.lines()) == [
        "event log: 2 tests, 0 differences (1 passed, 1 skipped; 3 runs captured by 1 instances)"
    ]


def test_a_difference_is_named_with_all_its_outcomes() -> None:
    whole = report(Result([PASSED, PASSED], [FAILED, FAILED]), Result([PASSED], [PASSED]))
    assert not whole.is_good
    assert list(whole.lines())[1:] == [
        "  different: test_0",
        "    plain:   passed, then passed",
        f"    wrapped: {FAILED}, then {FAILED}",
    ]


def test_a_suite_is_not_good_if_the_wrapper_captured_nothing() -> None:
    result = Result([PASSED], [PASSED])
    assert not report(result, touched=0).is_good
    assert not report(result, instances=0).is_good
    assert not report(result, complaints=1).is_good
    plain = Suite("run storage", ("tests/test_run_storage.py",))
    assert report(result, touched=0, suite=plain).is_good
    assert not report(result, instances=0, suite=plain).is_good


def test_a_suite_is_not_good_if_nothing_in_it_passes() -> None:
    assert not report().is_good
    assert not report(Result([FAILED], [FAILED])).is_good


def test_a_test_belongs_to_the_suite_that_names_it_most_closely() -> None:
    for suites in SUITES.values():
        for suite in suites:
            for tests in suite.tests:
                assert suite_of(f"{tests}::test_something") == suite
    assert suite_of("dagster_tests/storage_tests/test_else.py::test_something") is None


def test_a_class_is_not_selected_twice() -> None:
    files = selected("sqlite")
    assert "dagster_tests/storage_tests/test_event_log.py" in files
    assert not [each for each in files if "::" in each]


def test_what_is_left_out_is_not_selected() -> None:
    assert not {*selected("sqlite"), *selected("postgres")} & LEFT_OUT.keys()


def test_the_last_line_counts_all_suites() -> None:
    good, bad = Result([PASSED], [PASSED]), Result([PASSED, PASSED], [FAILED, FAILED])
    assert total([report(good), report(good, bad)]) == (
        "All together: 3 tests, 1 differences (3 passed)"
    )


def test_what_is_left_out_is_told_with_its_reason() -> None:
    lines = [*left_out("sqlite"), *left_out("postgres")]
    assert {*lines} == {f"left out: {test} ({reason})" for test, reason in LEFT_OUT.items()}
    assert all(LEFT_OUT.values())
