"""Delays from coordinates: the great circle, at the speed of light in fibre."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import asin, atan2, cos, degrees, radians, sin, sqrt

from gannet.netem.formats.base import FormatError

EARTH_KM = 6371.0088  # the mean radius (IUGG)
KM_PER_MS = 299.792458 * 2 / 3  # a third less than in vacuum, as glass of index 1.5 has it
RULE = "delays are one way: the great circle between both ends at 2/3 of the speed of light (0.005004 ms a km)"

Place = tuple[float, float]
"""Latitude and longitude, degrees."""


def great_circle_km(a: Place, b: Place) -> float:
    """The haversine formula."""
    (lat_a, lon_a), (lat_b, lon_b) = (tuple(map(radians, place)) for place in (a, b))
    half = sin((lat_b - lat_a) / 2) ** 2 + cos(lat_a) * cos(lat_b) * sin((lon_b - lon_a) / 2) ** 2
    return 2 * EARTH_KM * asin(min(1.0, sqrt(half)))


def delay_ms(a: Place, b: Place) -> float:
    """One-way delay of a straight fibre between two places."""
    return great_circle_km(a, b) / KM_PER_MS


def check_place(name: str, place: Place) -> Place:
    """The place. Raises FormatError for what is not on the globe."""
    latitude, longitude = place
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 360):
        raise FormatError(f"{name}: latitude {latitude:g}, longitude {longitude:g} is no place on Earth (degrees)")
    return place


def place_all(
    places: Mapping[int, Place], neighbours: Mapping[int, Sequence[int]], names: Sequence[str]
) -> tuple[dict[int, Place], list[int]]:
    """A place for every vertex, and those without coordinates, which get the mean of their neighbours'.

    The mean is that of points on the globe, so that it is right across the 180th meridian. Raises FormatError
    for vertices of whose neighbours none has a place.
    """
    placed, missing = dict(places), [vertex for vertex in range(len(names)) if vertex not in places]
    left = list(missing)
    while left:
        found = {v: _mean([placed[n] for n in neighbours.get(v, ()) if n in placed]) for v in left}
        new = {vertex: place for vertex, place in found.items() if place is not None}
        if not new:
            listed = ", ".join(names[vertex] for vertex in left[:4])
            raise FormatError(
                f"{len(left)} of {len(names)} nodes have no coordinates, and no neighbour that has ({listed}"
                f"{' …' * (len(left) > 4)}): delays are those of distances, so give them coordinates or leave them "
                "out"
            )
        placed |= new
        left = [vertex for vertex in left if vertex not in new]
    return placed, missing


def _mean(places: Sequence[Place]) -> Place | None:
    if not places:
        return None
    points = [
        (cos(radians(a)) * cos(radians(o)), cos(radians(a)) * sin(radians(o)), sin(radians(a))) for a, o in places
    ]
    x, y, z = (sum(axis) for axis in zip(*points, strict=True))
    if (size := sqrt(x * x + y * y + z * z)) < 1e-9:
        return places[0]  # opposite points have no middle
    return degrees(asin(max(-1.0, min(1.0, z / size)))), degrees(atan2(y, x))
