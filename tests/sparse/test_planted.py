"""Does selection find the blocks of a sparse teacher? Beside a fixed random pattern, which cannot."""

from procosm.benchmarks.sparse.planted import planted


def test_stored_blocks_are_selected_as_a_planted_teacher_has_them():
    """Found by chance: 10 %. Nothing but the defaults, and a learning rate at which 600 steps move no weight far."""
    for seed in (0, 1):
        error, found = planted("procrustes", seed, 1)
        chance, random = planted("static", seed, 1)
        assert found > 0.8 and random < 0.25
        assert error < 0.6 * chance


def test_stored_blocks_of_two_layers_learn_more_than_a_random_pattern():
    assert planted("procrustes", 0, 2)[0] < 0.75 * planted("static", 0, 2)[0]


def test_the_exact_form_finds_them_too():
    """The masked dense weight of the same blocks, whose every gradient competes: what stored blocks approximate."""
    (error, found), (chance, random) = planted("exact", 0, 1), planted("static", 0, 1)
    assert error < 0.6 * chance and found > 3 * random
