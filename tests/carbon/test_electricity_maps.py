"""Hours of Electricity Maps come whole, in time and once, whatever a server on this machine does to us."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from energyprof.carbon import electricity_maps
from energyprof.carbon.asking import Unanswered
from energyprof.carbon.electricity_maps import WORD, Hours, hours, zone_asked, zone_of
from energyprof.carbon.site import site_of
from energyprof.footprint import of_run
from energyprof.reasons import INTENSITY_FALLBACK
from tests.test_footprint import T0_NS, meter

HOUR = 3600
NOW = 500_000 * HOUR + 1800.0  # 2027-01-15T08:30:00Z
OLD = int(NOW) - int(NOW) % HOUR - 30 * 24 * HOUR
TOKEN = "a-secret-token"


def utc(second: float) -> str:
    return (
        datetime.fromtimestamp(second, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def row(hour: int, g: object = None, **more: object) -> dict[str, object]:
    said = {
        "zone": "FR",
        "carbonIntensity": hour // HOUR % 90 + 20 if g is None else g,
        "datetime": utc(hour),
    }
    return {**said, "emissionFactorType": "lifecycle", "isEstimated": False, "estimationMethod": None, **more}


class Server:
    """An API on this machine: `say` makes an answer of a path and its query, and `asked` is what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], str | None]] = []
        self.say: Callable[[str, dict[str, str], BaseHTTPRequestHandler], Any] = true_answer
        self.ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                outer.asked.append((parts.path, query, self.headers.get("auth-token")))
                answer = outer.say(parts.path.rpartition("/")[2], query, self)
                if answer is None:
                    return
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that gave up

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v3"
        self.thread = threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self.thread.start()

    def close(self) -> None:
        self.ended.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def true_answer(path: str, query: dict[str, str], _: object) -> Any:
    """What the API says, in its own form."""
    last = int(NOW) - int(NOW) % HOUR
    if path == "latest":
        return row(last, isEstimated=True, estimationMethod="TIME_SLICER_AVERAGE")
    if path == "history":
        return {"zone": "FR", "history": [row(last - HOUR * n) for n in range(23, 0, -1)]}
    begin, end = (
        int(datetime.fromisoformat(query[key].replace("Z", "+00:00")).timestamp()) for key in ("start", "end")
    )
    assert end - begin <= 10 * 24 * HOUR
    return {"zone": "FR", "data": [row(hour) for hour in range(begin, end, HOUR)]}


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENERGYPROF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "electricitymaps" / "FR.json"


def at(server: Server, begin: float, end: float, timeout_s: float = 5.0, zone: str = "FR") -> Hours:
    return hours(zone, begin, end, TOKEN, url=server.url, timeout_s=timeout_s, clock=lambda: NOW)


def test_past_hours_are_every_hour_that_overlaps_the_run_in_order(server: Server) -> None:
    found = at(server, OLD + 100, OLD + 3 * HOUR + 1)
    assert [hour for hour, _ in found.points] == [OLD, OLD + HOUR, OLD + 2 * HOUR, OLD + 3 * HOUR]
    assert [g for _, g in found.points] == [row(hour)["carbonIntensity"] for hour, _ in found.points]
    assert found.source == "Electricity Maps, zone FR"
    ((path, query, token),) = server.asked
    assert path == "/v3/carbon-intensity/past-range"
    assert token == TOKEN
    assert (query["zone"], query["emissionFactorType"]) == ("FR", "lifecycle")


@pytest.mark.parametrize("answers", [True, False])
def test_a_run_has_the_intensities_of_its_hours_or_says_that_the_yearly_one_stands_in(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answers: bool
) -> None:
    monkeypatch.setenv("ELECTRICITYMAPS_TOKEN", TOKEN)
    monkeypatch.setenv("ELECTRICITYMAPS_URL", server.url if answers else "http://127.0.0.1:9")
    begin = int(time.time()) // HOUR * HOUR - 72 * HOUR - 10  # ten seconds in one hour, twenty in the next
    facts = {"t_ns": T0_NS, "started_unix_ns": begin * 10**9, "site": {"country": "FRA", "intensity": WORD}}
    row_, flags = of_run(facts, [meter([300.0], 30)], [(T0_NS, T0_NS + 30 * 10**9)])
    assert row_["intensity_place"] == "FRA"
    assert (INTENSITY_FALLBACK in flags) != answers
    if answers:
        first, second = (float(str(row(hour)["carbonIntensity"])) for hour in (begin + 10 - HOUR, begin + 10))
        assert row_["intensity_g_per_kwh"] == pytest.approx((first + 2 * second) / 3, rel=1e-3)
        assert row_["intensity_source"].startswith("Electricity Maps, zone FR")
        assert row_["intensity_scope"] == electricity_maps.SCOPE
    else:
        assert row_["intensity_source"].startswith("Our World in Data")
        assert "it stands in, since" in row_["intensity_source"]
        assert "another intensity stands in" in capsys.readouterr().err


def test_without_a_token_the_service_is_not_taken_for_an_intensity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELECTRICITYMAPS_TOKEN", raising=False)
    with pytest.raises(ValueError, match="needs a token of Electricity Maps in ELECTRICITYMAPS_TOKEN"):
        site_of({"country": "FRA", "intensity": WORD})


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("ELECTRICITYMAPS_URL", "http://example.org/v3", "is not https"),
        ("ELECTRICITYMAPS_URL", "https://[::", "is no address"),
        ("ELECTRICITYMAPS_TOKEN", "two words", "the token is"),
    ],
)
def test_what_will_never_be_asked_is_told_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, why: str
) -> None:
    monkeypatch.setenv("ELECTRICITYMAPS_TOKEN", TOKEN)
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=why) as refused:
        site_of({"country": "FRA", "intensity": WORD})
    assert value not in str(refused.value) or variable == "ELECTRICITYMAPS_URL"


def test_an_instant_is_its_hour(server: Server) -> None:
    assert [hour for hour, _ in at(server, OLD + 5, OLD + 5).points] == [OLD]
    assert [hour for hour, _ in at(server, OLD, OLD).points] == [OLD]


def test_the_last_day_is_asked_of_what_every_token_may_ask_and_estimates_are_told(server: Server) -> None:
    found = at(server, NOW - 2 * HOUR, NOW)
    assert [path.rpartition("/")[2] for path, _, _ in server.asked] == ["history", "latest"]
    assert len(found.points) == 3
    assert found.estimated == 1
    assert found.source == "Electricity Maps, zone FR; 1 of 3 hours estimated"


def test_past_hours_are_asked_once_and_the_running_hour_again(server: Server) -> None:
    first = at(server, OLD, OLD + 5 * HOUR)
    assert at(server, OLD, OLD + 5 * HOUR) == first
    assert at(server, OLD + 2 * HOUR, OLD + 3 * HOUR).points == first.points[2:3]
    assert len(server.asked) == 1
    at(server, OLD + 4 * HOUR, OLD + 7 * HOUR)
    assert server.asked[1][1]["start"] == utc(OLD + 5 * HOUR).replace(".000", "")
    at(server, NOW - 10, NOW)
    at(server, NOW - 10, NOW)
    assert [path.rpartition("/")[2] for path, _, _ in server.asked[2:]] == ["history", "latest"] * 2


def test_a_run_of_two_days_that_is_still_in_its_last_hour_is_whole(server: Server) -> None:
    def to_the_hour(path: str, query: dict[str, str], handler: object) -> Any:
        answer = true_answer(path, query, handler)
        return {**answer, "data": answer["data"][:-1]} if path == "past-range" else answer

    server.say = to_the_hour
    found = at(server, NOW - 48 * HOUR, NOW)
    assert (len(found.points), found.estimated) == (49, 1)
    assert [path.rpartition("/")[2] for path, _, _ in server.asked] == ["past-range", "latest"]


def test_a_month_is_asked_in_pieces(server: Server) -> None:
    assert len(at(server, OLD, OLD + 25 * 24 * HOUR).points) == 25 * 24
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 1, "zone": "FR", "hours": {"1": [2]}}', '{"version": 2}', "\x00" * 9,
                '{"version": 1, "zone": "FR", "hours": {"HOUR": [-5, false]}}']
)  # fmt: skip
def test_a_damaged_file_of_past_hours_is_as_good_as_none(
    server: Server, own_cache: Path, content: str
) -> None:
    own_cache.parent.mkdir(parents=True)
    own_cache.write_text(content.replace("HOUR", str(OLD)))
    assert at(server, OLD, OLD + 1).points[0][1] == row(OLD)["carbonIntensity"]
    assert json.loads(own_cache.read_text())["hours"] == {str(OLD): [row(OLD)["carbonIntensity"], False]}


def test_a_cache_that_cannot_be_written_changes_nothing(server: Server, own_cache: Path) -> None:
    own_cache.parent.parent.mkdir(parents=True)
    own_cache.parent.write_text("a file where the folder should be")
    assert at(server, OLD, OLD + 1).points


def hang(path: str, query: dict[str, str], handler: BaseHTTPRequestHandler) -> None:
    handler.server.ended_by_test.wait(5)  # type: ignore[attr-defined]


def drip_body(path: str, query: dict[str, str], handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    drip(handler)


def drip_headers(path: str, query: dict[str, str], handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    drip(handler)


def drip(handler: BaseHTTPRequestHandler) -> None:
    while not handler.server.ended_by_test.wait(0.05):  # type: ignore[attr-defined]
        handler.wfile.write(b"x")
        handler.wfile.flush()


@pytest.mark.parametrize("slowly", [hang, drip_body, drip_headers])
def test_a_server_that_hangs_or_drips_is_left_in_time(server: Server, slowly: Callable[..., None]) -> None:
    server.http.ended_by_test = server.ended  # type: ignore[attr-defined]
    server.say = slowly
    begin = time.monotonic()
    with pytest.raises(Unanswered, match=r"127\.0\.0\.1 did not answer in time"):
        at(server, OLD, OLD + 1, timeout_s=0.3)
    assert time.monotonic() - begin < 2.0


def test_the_time_is_for_all_requests_together(server: Server) -> None:
    def slowly(path: str, query: dict[str, str], handler: BaseHTTPRequestHandler) -> Any:
        time.sleep(0.2)
        return true_answer(path, query, handler)

    server.say = slowly
    with pytest.raises(Unanswered, match="did not answer in time"):
        at(server, OLD, OLD + 25 * 24 * HOUR, timeout_s=0.3)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (401, "refuses the token"),
        (403, "refuses the token"),
        (404, "does not know"),
        (429, "too often"),
        (500, "fault"),
    ],
)
def test_a_refusal_is_told_with_its_number(server: Server, code: int, why: str) -> None:
    def refuse(path: str, query: dict[str, str], handler: BaseHTTPRequestHandler) -> None:
        handler.send_error(code)

    server.say = refuse
    with pytest.raises(Unanswered, match=rf"{why}.*\(HTTP {code}\)") as refused:
        at(server, OLD, OLD + 1)
    assert "\n" not in str(refused.value)
    assert TOKEN not in str(refused.value)


def test_the_token_is_not_carried_to_where_a_server_sends_us(server: Server) -> None:
    other = Server()

    def send_on(path: str, query: dict[str, str], handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", other.url + "/carbon-intensity/past-range?zone=FR")
        handler.end_headers()

    server.say = send_on
    try:
        with pytest.raises(Unanswered, match="elsewhere"):
            at(server, OLD, OLD + 1)
        assert other.asked == []
    finally:
        other.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"<!doctype html><html>Sign in</html>", "no JSON"),
        (b"", "no JSON"),
        (b'{"zone": "FR", "data": [', "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no JSON object"),
        (b"3", "no JSON object"),
        ({}, "format"),
        ({"error": "x"}, "format"),
        ({"zone": "FR", "data": {"a": 1}}, "format"),
        ({"zone": "FR", "data": [1, 2]}, "format"),
        ({"zone": "FR", "data": [{"zone": "FR", "datetime": utc(OLD), "gPerKwh": 5}]}, "format"),
        ({"zone": "DE", "data": [row(OLD, zone="DE")]}, "answered for 'DE'"),
        ({"data": [{"datetime": utc(OLD), "carbonIntensity": 5}]}, "answered for 'None'"),
        ({"zone": "FR", "data": [row(OLD, -1)]}, "cannot be"),
        ({"zone": "FR", "data": [row(OLD, 1e9)]}, "cannot be"),
        ({"zone": "FR", "data": [row(OLD, float("nan"))]}, "cannot be"),
        ({"zone": "FR", "data": [row(OLD, "56")]}, "cannot be"),
        ({"zone": "FR", "data": [row(OLD, True)]}, "cannot be"),
        ({"zone": "FR", "data": [row(OLD, [56])]}, "cannot be"),
        ({"zone": "FR", "data": [row(OLD, 5, emissionFactorType="direct")]}, "life cycle"),
        ({"zone": "FR", "data": [row(OLD, 5, datetime="yesterday")]}, "no hour"),
        ({"zone": "FR", "data": [row(OLD, 5, datetime=OLD)]}, "no hour"),
        ({"zone": "FR", "data": [row(OLD, 5, datetime="2026-01-01T00:00:00")]}, "no hour"),
        ({"zone": "FR", "data": [row(OLD, 5, datetime=utc(OLD + 900))]}, "no hour"),
        ({"zone": "FR", "data": [row(OLD, 5), row(OLD, 6)]}, "two figures"),
        ({"zone": "FR", "data": []}, "no figure of FR for 2 hours"),
        (
            {"zone": "FR", "data": [{**row(OLD), "carbonIntensity": None}, row(OLD + HOUR)]},
            "no figure of FR for 1 hour from",
        ),
    ],
)
def test_an_answer_that_lies_or_has_changed_is_refused_whole(
    server: Server, own_cache: Path, answer: object, why: str
) -> None:
    server.say = lambda *_: answer
    with pytest.raises(Unanswered, match=why) as refused:
        at(server, OLD, OLD + HOUR + 1)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200
    kept = json.loads(own_cache.read_text())["hours"] if own_cache.exists() else {}
    assert set(kept) <= {str(OLD + HOUR)}


def test_an_answer_without_end_is_cut_off(server: Server) -> None:
    server.say = lambda *_: b" " * (5 << 20)
    with pytest.raises(Unanswered, match="more than 4 MB"):
        at(server, OLD, OLD + 1)


def test_what_is_no_http_and_what_is_not_there_are_told(server: Server) -> None:
    def babble(path: str, query: dict[str, str], handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"220 smtp ready\r\n")

    server.say = babble
    with pytest.raises(Unanswered, match="no HTTP"):
        at(server, OLD, OLD + 1)
    server.close()
    with pytest.raises(Unanswered, match="cannot be reached"):
        at(server, OLD, OLD + 1)


@pytest.mark.parametrize(
    "url", ["http://example.org/v3", "ftp://example.org", "file:///etc/passwd", "https:x", ""]
)
def test_the_token_goes_over_https_or_to_this_machine_alone(url: str) -> None:
    with pytest.raises(Unanswered, match="is not https"):
        hours("FR", OLD, OLD + 1, TOKEN, url=url, clock=lambda: NOW)


@pytest.mark.parametrize("token", ["", " ", "a b", "a\nX-Other: b", "é"])
def test_a_token_that_would_break_the_request_is_refused(server: Server, token: str) -> None:
    with pytest.raises(Unanswered, match="the token is"):
        hours("FR", OLD, OLD + 1, token, url=server.url, clock=lambda: NOW)
    assert server.asked == []


@pytest.mark.parametrize(
    ("zone", "begin", "end", "why"),
    [
        ("FR", OLD, OLD - 1, "no time"),
        ("FR", float("nan"), OLD, "no time"),
        ("FR", NOW, NOW + 2 * HOUR, "to come"),
        ("FR", OLD - 400 * 24 * HOUR, OLD, "more than a year"),
        ("../../etc", OLD, OLD + 1, "no zone"),
        ("", OLD, OLD + 1, "no zone"),
    ],
)
def test_what_cannot_be_asked_is_not_asked(
    server: Server, zone: str, begin: float, end: float, why: str
) -> None:
    with pytest.raises(Unanswered, match=why):
        at(server, begin, end, zone=zone)
    assert server.asked == []


@pytest.mark.parametrize(
    ("place", "zone"),
    [("FRA", "FR"), ("DEU", "DE"), ("SE3", "SE-SE3"), ("NO1", "NO-NO1"), ("CA-QC", "CA-QC"),
     ("US-CA", ""), ("CN-BJ", ""), ("CA-NL", ""), ("aws:eu-west-3", "FR"),
     ("azure:canadaeast", "CA-QC"), ("aws:us-east-1", ""), ("gcp:europe-west1", "BE"), ("gcp:x", ""),
     ("x:y", ""), ("WORLD", ""), ("", "")],
)  # fmt: skip
def test_a_place_has_the_zone_of_the_same_ground_or_none(place: str, zone: str) -> None:
    assert zone_of(place) == zone


def test_a_zone_is_asked_for_by_the_word_alone_or_with_its_name() -> None:
    assert zone_asked("electricitymaps", "FRA") == "FR"
    assert zone_asked("ElectricityMaps:us-cal-ciso", None) == "US-CAL-CISO"
    assert zone_asked("52", "FRA") is None
    assert zone_asked(52.0, "FRA") is None
    assert zone_asked("intensity.csv", None) is None


@pytest.mark.parametrize(
    ("intensity", "place"),
    [
        ("electricitymaps", "US-CA"),
        ("electricitymaps", None),
        ("electricitymaps:", "FRA"),
        ("electricitymaps:../x", "FRA"),
    ],
)
def test_a_word_without_a_zone_is_refused_in_one_line(intensity: str, place: str | None) -> None:
    with pytest.raises(ValueError, match="say electricitymaps:FR") as refused:
        zone_asked(intensity, place)
    assert "\n" not in str(refused.value)


def test_the_true_api_is_https() -> None:
    assert electricity_maps.URL.startswith("https://")
