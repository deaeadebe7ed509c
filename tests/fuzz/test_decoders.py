"""Whatever anybody sends, a decoder takes it or says why not, in bounded time and memory. `make fuzz` asks the same for longer."""

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutating import mutated
from seeds import seeds
from targets import TARGETS
from trying import CORPUS, corpus, tried

INPUTS = 100
"""For each decoder at every change; `make fuzz` tries a hundred thousand in a minute."""


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_takes_what_it_is_meant_to_read(name: str) -> None:
    meant = seeds(name)[: len(seeds(name)) - len(corpus(name))]

    assert any([tried(TARGETS[name], each) for each in meant])


@pytest.mark.parametrize(("name", "file"), [(name, file) for name in TARGETS for file in corpus(name)])
def test_what_was_wrong_with_a_decoder_once_is_not_wrong_again(name: str, file: str) -> None:
    assert tried(TARGETS[name], corpus(name)[file]) in (True, False)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=INPUTS, database=None, deadline=None)
@given(random=st.randoms(use_true_random=True))
def test_whatever_is_sent_a_decoder_takes_it_or_says_why_not(name: str, random: Random) -> None:
    begun = seeds(name)

    assert tried(TARGETS[name], mutated(random.choice(begun), TARGETS[name].form, begun, random)) in (True, False)


def test_every_folder_of_the_corpus_is_a_decoders() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} <= TARGETS.keys()


def test_a_search_without_atheris_says_what_is_missing_and_fails() -> None:
    script = "import runpy, sys; sys.modules['atheris'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"

    done = subprocess.run(
        [sys.executable, "-c", script, Path(__file__).with_name("search.py")], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert "atheris is not installed" in done.stderr
