"""Every invariant that is promised has a test that bears its name."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PROMISED = """
    g1 g2 g3 g4 g5 g6 n1 n2 n3 n12 p1 p2 p3 p4 p5 p6 p7 p8 p9 p10 p11 p12 p13 c1 c2 c3 c5 c6 c7 c10
    w1 w2 w3 w4 w5 w6 w7 w8 w10 w11 t1 t2 t3 t4 t5 t6 t8 t9 t10
"""


def test_every_promised_invariant_has_a_test_of_its_name() -> None:
    sources = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    proved = set(re.findall(r"def test_([a-z]+\d+)_", sources))
    assert set(PROMISED.split()) - proved == set()
