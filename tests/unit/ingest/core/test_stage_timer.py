from ingest.core.stage_timer import StageTimer


def test_stages_follow_each_other_and_the_total_goes_on() -> None:
    now = iter([10.0, 11.5, 15.5, 20.0])
    timer = StageTimer(lambda: next(now))
    timer.end("first")
    timer.end("second")
    assert timer.stages == {"first": 1.5, "second": 4.0}
    assert timer.total == 10.0
