"""How many connections each client has, as far as a replica knows."""

from fedplane.authorizer.crowds import Crowd


def test_a_client_is_let_in_until_it_has_as_many_connections_as_it_may():
    crowd = Crowd()

    assert [crowd.let_in("a", 2) for _ in range(4)] == [True, True, False, False]
    assert crowd.let_in("b", 1)


def test_what_was_seen_counts_in_place_of_what_was_let_in():
    crowd = Crowd()
    assert crowd.let_in("a", 1)
    crowd.saw({"b": 1})

    assert [crowd.let_in("a", 1), crowd.let_in("b", 1)] == [True, False]
