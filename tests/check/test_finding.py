"""How findings are shown and judged, for people and for scripts."""

import json

from kepler_ebpf.check.finding import Finding, Status, can_run, to_json, to_table

SHOWN = [
    Finding("kernel", Status.OK, "new"),
    Finding("CAP_X", Status.LACK, "not held", "grant it", required=True),
    Finding("bcc", Status.NOTE, "absent"),
    Finding("host PIDs", Status.LACK, "a container's", "share them"),
]


def test_table_has_each_lack_with_its_remedy() -> None:
    """Required lacks stand out, remedies follow their finding, the verdict comes last."""
    assert to_table(SHOWN).splitlines() == [
        "ok    kernel     new",
        "LACK  CAP_X      not held",
        "                 -> grant it",
        "note  bcc        absent",
        "lack  host PIDs  a container's",
        "                 -> share them",
        "",
        "`run` cannot work here, for lack of: CAP_X",
    ]


def test_lack_that_is_not_required_does_not_stop() -> None:
    """Only what `run` cannot do without decides."""
    assert not can_run(SHOWN)
    assert can_run(SHOWN[2:])
    assert to_table(SHOWN[2:]).endswith("`run` can work here.")


def test_json_says_what_the_table_says() -> None:
    """The JSON form has every field of every finding, and the verdict."""
    answer = json.loads(to_json(SHOWN))
    assert answer["can_run"] is False
    assert answer["findings"][1] == {
        "name": "CAP_X",
        "status": "lack",
        "detail": "not held",
        "remedy": "grant it",
        "required": True,
    }
