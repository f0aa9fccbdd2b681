"""Messages show the scores of a job as they were passed."""

import pytest

from pipeline.objects.definition.lengths import in_steps
from pipeline.objects.preparation.part_words import part_in_words


@pytest.mark.parametrize("highest", [255, 65535])
def test_two_digits_of_a_score_come_back_and_stored_values_differ_in_words(highest):
    for hundredths in range(1, 101):
        score = hundredths / 100
        at_least = -int(-round(score * highest, 6) // 1)
        assert part_in_words("threshold", at_least, highest=highest) == f"{score:g}"
        depth = max(1, round(score * highest))
        assert part_in_words("depth", depth, highest=highest) == f"{score:g}"
        assert part_in_words("seed_distance", in_steps(score), highest=highest) == f"{score:g}"
    words = {part_in_words("threshold", value, highest=255) for value in range(1, 256)}
    assert len(words) == 255
