"""Text tasks: the answers are right by evaluation of the text alone."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitf.data import arithmetic as a
from minitf.data.copying import CopyTask, NgramLookupTask, phone_book


def total_of(prompt):
    x, terms = re.fullmatch(r"x=(\d):(.*)=", prompt).groups()
    return sum(int(term[0]) * int(x) ** int(term[2]) for term in terms.split("+"))


def chain(prompt):
    *clauses, asked = prompt.split(";")
    rules = dict(clause.split("=") for clause in clauses)
    name, sign = asked[:-1], 1
    while name != "1":
        sign *= int(rules[name][0] + "1")
        name = rules[name][1:]
    return f"{sign:+d}"


numbers = lambda prompt: [int(n) for n in prompt[:-1].split()]
#: the task, and its answer from the text of the problem
TASKS = [
    (a.AdditionTask(), lambda prompt: str(eval(prompt[:-1]))),
    (a.MultiplicationTask(), lambda prompt: str(eval(prompt[:-1]))),
    (a.ParityTask(), lambda prompt: "01"[prompt.count("1") % 2]),
    (a.SumModTask(), lambda prompt: str(sum(numbers(prompt)))[-1]),
    (a.PolynomialTask(), lambda prompt: str(total_of(prompt))[-1]),
    (a.SortTask(), lambda prompt: " ".join(map(str, np.sort(numbers(prompt))))),
    (
        a.CountTask(30),
        lambda prompt: " ".join(str(i) for i in range(99) if numbers(prompt)[0] <= i <= numbers(prompt)[1]),
    ),
    (a.ModeTask(3), lambda prompt: max("abc", key=prompt.count)),
    (a.LegoTask(), chain),
    (a.LegoTask(shuffled=True), chain),
    (CopyTask("ab"), lambda prompt: prompt[1:-1] + "."),
    (NgramLookupTask("prefix", 2), lambda p: (s := p.split("|")[1])[s.index(p[1:3]) + 2] + "."),
    (NgramLookupTask("suffix", 2), lambda p: (s := p[1:-3])[s.index(p[-2:]) + 2] + "."),
]
SCRATCHPADS = [task for task, _ in TASKS if type(task).steps is not a.TextTask.steps]


@pytest.mark.parametrize(("task", "evaluated"), TASKS, ids=lambda x: type(x).__name__)
@given(more=st.integers(0, 9), seed=st.integers(0, 1000))
def test_answers_are_right(task, evaluated, more, seed):
    length = task.shortest + more
    example = task.sample(length, rng=np.random.default_rng(seed))
    assert example == task.sample(length, rng=np.random.default_rng(seed))
    prompt, answer = task.encode(example)
    assert answer == evaluated(prompt) == task.answer(example)
    items = lambda text: text.split(" ") if task.separator else list(text)
    assert items(task.encode(example, "reversed").answer) == items(answer)[::-1]
    if task in SCRATCHPADS:
        assert re.split("[;>]", task.encode(example, "scratchpad").answer)[-1] == answer
    else:
        with pytest.raises(ValueError, match="has no scratchpad"):
            task.encode(example, "scratchpad")


def test_scratchpads_by_hand():
    written = lambda task, example: task.encode(example, "scratchpad").answer
    assert written(a.AdditionTask(), (4095, 17)) == "5+7+0=12;9+1+1=11;0+0+1=1;4+0+0=4;4112"
    assert written(a.AdditionTask(), (7, 5)) == "7+5+0=12;12"
    assert written(a.MultiplicationTask(), (37, 12)) == "74>74;370>444;444"
    assert written(a.ParityTask(), (1, 0, 1, 1, 0)) == "11011;1"
    assert written(a.SumModTask(), (7, 9, 1)) == "7 6 7;7"
    assert written(a.PolynomialTask(), (3, ((2, 2), (1, 0)))) == "8>8;1>9;9"
    assert written(a.ModeTask(), "acabca") == "a3;b1;c2;a"
    assert written(a.LegoTask(), ((("a", 1), ("b", -1), ("c", 1)), (0, 1, 2), 2)) == "a=+1;b=-1;c=-1;-1"
    assert a.LegoTask().prompt(((("a", 1), ("b", -1), ("c", 1)), (2, 0, 1), 2)) == "c=+b;a=+1;b=-a;c?"


def test_distributions():
    rng = np.random.default_rng(0)
    pairs = [a.AdditionTask().sample(2, rng=rng) for _ in range(800)]
    assert {max(len(str(n)) for n in pair) for pair in pairs} == {2}
    assert {tuple(len(str(n)) for n in pair) for pair in pairs} == {(1, 2), (2, 1), (2, 2)}
    assert {n for pair in pairs for n in pair} == set(range(100))
    assert {n for _ in range(200) for n in a.MultiplicationTask().sample(1, rng=rng)} == set(range(10))
    counts = Counter(a.CountTask(6).sample(3, rng=rng) for _ in range(400))
    assert counts.keys() == {(0, 2), (1, 3), (2, 4), (3, 5)}
    assert min(counts.values()) > 60
    modes = Counter(a.ModeTask(2).answer(a.ModeTask(2).sample(4, rng=rng)) for _ in range(400))
    assert min(modes.values()) > 140
    lego = [a.LegoTask(shuffled=True).sample(5, rng=rng) for _ in range(300)]
    assert {asked for _, _, asked in lego} == {3, 4}
    assert len({order for _, order, _ in lego}) > 90
    copies = [CopyTask("ab").sample(3, rng=rng) for _ in range(300)]
    assert set(copies) == {"".join(letters) for letters in itertools.product("ab", repeat=3)}
    places = Counter(NgramLookupTask(n=2).sample(6, rng=rng)[1] for _ in range(400))
    assert places.keys() == {0, 1, 2, 3}
    assert min(places.values()) > 60


def test_the_letters_looked_up_are_there_once():
    rng = np.random.default_rng(0)
    task = NgramLookupTask("suffix", 2, "ab")  # where most strings have repetitions
    for _ in range(100):
        text, place = task.sample(5, rng=rng)
        assert len(re.findall(f"(?={text[place : place + 2]})", text)) == 1


@given(n=st.integers(3, 30), seed=st.integers(0, 99))
def test_phone_book(n, seed):
    prompt, answer = phone_book(n, rng=np.random.default_rng(seed))
    lines = prompt.split("\n")
    assert len(lines) == n + 4
    assert lines[n] == ""
    book = dict(line.split(": ") for line in lines[:n])
    assert len(book) == n
    assert all(re.fullmatch(r"[6-9]\d{9}", number) for number in book.values())
    assert all(line in lines[:n] for line in lines[n + 1 : n + 3])
    assert lines[-1] + answer in lines[:n]
    assert len(set(lines[n + 1 : n + 3]) | {lines[-1] + answer}) == 3


def test_buckets_do_not_meet():
    assert a.SortTask().length_buckets(3, 6) == ([1, 2, 3], [4, 5, 6])
    assert NgramLookupTask(n=3).length_buckets(5, 6) == ([4, 5], [6])
    with pytest.raises(ValueError, match="SortTask: needs 1 <= train_max < test_max, got 3 and 3"):
        a.SortTask().length_buckets(3, 3)


def test_wrong_calls():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="AdditionTask: a length must be at least 1, got 0"):
        a.AdditionTask().sample(0, rng=rng)
    with pytest.raises(ValueError, match="LegoTask: a length must be at least 1 and at most 26, got 27"):
        a.LegoTask().sample(27, rng=rng)
    with pytest.raises(ValueError, match="format must be one of plain, reversed, scratchpad, got 'fancy'"):
        a.ParityTask().encode((1,), "fancy")
    with pytest.raises(ValueError, match="form must be one of prefix, suffix, got 'infix'"):
        NgramLookupTask("infix")
    with pytest.raises(ValueError, match="phone_book: needs more entries than the 2 shots, got 2"):
        phone_book(2, rng=rng)
