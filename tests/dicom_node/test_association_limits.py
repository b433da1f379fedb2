from dataclasses import dataclass

from dicom_node.association_limits import AssociationLimits
from dicom_node.config import Service
from dicom_node.door import Caller, Permit

CT1 = Caller("PSOAS", "CT1", "192.0.2.10")
CT2 = Caller("PSOAS", "CT2", "192.0.2.20")
PERMIT = Permit(frozenset(Service), maximum_associations=2, associations_per_minute=5)


@dataclass
class Association:
    alive: bool = True

    def is_alive(self) -> bool:
        return self.alive


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_peer_cannot_take_the_places_of_another() -> None:
    limits = AssociationLimits(25, Seconds())
    for _ in range(2):
        assert limits.excess(CT1, PERMIT) == ""
        limits.begin(CT1, Association())
    assert "at a time" in limits.excess(CT1, PERMIT)
    assert limits.excess(CT2, PERMIT) == ""


def test_a_place_is_free_when_its_association_has_ended() -> None:
    limits, associations = AssociationLimits(25, Seconds()), [Association(), Association()]
    for association in associations:
        limits.begin(CT1, association)
    associations[0].alive = False
    assert limits.excess(CT1, PERMIT) == ""


def test_the_places_of_all_are_counted() -> None:
    limits = AssociationLimits(1, Seconds())
    limits.begin(CT1, Association())
    assert "all 1 places" in limits.excess(CT2, PERMIT)


def test_the_rate_of_a_peer_is_limited_for_a_minute() -> None:
    clock = Seconds()
    limits = AssociationLimits(25, clock)
    for _ in range(5):
        limits.begin(CT1, Association(alive=False))
    assert "in a minute" in limits.excess(CT1, PERMIT)
    assert limits.excess(CT2, PERMIT) == ""
    clock.now = 60.0
    assert limits.excess(CT1, PERMIT) == ""
