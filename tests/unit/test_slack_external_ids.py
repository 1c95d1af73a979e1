"""Ids lead back to places."""

from __future__ import annotations

from colloquy_slack.external_ids import (
    Place,
    channel_external_id,
    place_of,
    request_id,
    thread_external_id,
)


def test_ids_lead_back_to_places() -> None:
    place = Place("T1", "C1", "5.0")
    assert place_of(thread_external_id(place)) == place
    assert place_of(channel_external_id("T1", "C1", 3)) == Place("T1", "C1")
    assert place_of("somebody's own") is None
    assert request_id("T1", "C1", "5.0") == "T1:C1:5.0"
