"""Strategies for cases: which file of a kind is changed, how, and what is done with it."""

from collections.abc import Sequence

from hypothesis import strategies as st

from abaw.fuzz.hdf5 import CHANGES as HDF5_CHANGES
from abaw.fuzz.mutation import DOCUMENTS, NAMES, TOKENS, VALUES, Case, Change

AT = st.floats(0, 1, exclude_max=True, width=32)
JUNK = st.binary(max_size=300)
LINES = st.sampled_from(["drop", "double", "swap", "empty", "mac", "windows", "one"])
PLACES = st.sampled_from(["missing", "folder", "link", "loop", "empty"])
IN_ARCHIVES = {".npz": ".npy", ".pt": ".pkl"}
TEXTS = (".txt", ".toml", ".csv", ".json", ".jsonl")

BYTES = st.one_of(
    st.tuples(st.just("flip"), st.tuples(AT, st.integers(0, 7))),
    st.tuples(st.just("cut"), st.tuples(AT)),
    st.tuples(st.just("remove"), st.tuples(AT, st.integers(1, 40))),
    st.tuples(st.just("insert"), st.tuples(AT, JUNK)),
    st.tuples(st.just("overwrite"), st.tuples(AT, st.binary(min_size=1, max_size=8) | JUNK)),
    st.tuples(st.just("repeat"), st.tuples(AT, st.integers(1, 60), st.sampled_from([0, 2, 3, 1000]))),
)
ANEW = st.one_of(
    st.tuples(st.just("replace_all"), st.tuples(JUNK)),
    st.tuples(st.just("fill"), st.tuples(st.sampled_from([2, 4, 8, 16, 64]), JUNK)),
    st.tuples(st.just("place"), st.tuples(PLACES)),
    st.tuples(st.just("rename"), st.tuples(st.integers(0, len(NAMES) - 1), st.booleans())),
)
TEXT = st.one_of(
    st.tuples(st.just("put_token"), st.tuples(AT, st.integers(0, len(TOKENS) - 1))),
    st.tuples(st.just("put_token"), st.tuples(AT, st.integers(0, len(TOKENS) - 1))),
    st.tuples(st.just("change_lines"), st.tuples(AT, LINES)),
)
HDF5 = st.tuples(st.just("hdf5"), st.tuples(AT, st.sampled_from(sorted(HDF5_CHANGES))))


def document(suffix: str) -> st.SearchStrategy[Change]:
    """Changes of the values of a document."""
    value = st.integers(0, len(VALUES) - 1)
    return st.one_of(
        st.tuples(st.just("set_value"), st.tuples(st.just(suffix), AT, value)),
        st.tuples(st.just("set_value"), st.tuples(st.just(suffix), AT, value)),
        st.tuples(st.just("drop_key"), st.tuples(st.just(suffix), AT)),
        st.tuples(st.just("rename_key"), st.tuples(st.just(suffix), AT, value)),
    )


def archive(inner: str) -> st.SearchStrategy[Change]:
    """Changes of the files in an archive."""
    inside = st.one_of(BYTES, *([document(inner)] * 2 if inner in DOCUMENTS else []))
    return st.one_of(
        st.tuples(st.just("change_member"), st.tuples(AT, inside)),
        st.tuples(st.just("change_member"), st.tuples(AT, inside)),
        st.tuples(st.just("rename_member"), st.tuples(AT, st.integers(0, len(VALUES) - 1))),
        st.tuples(st.just("drop_member"), st.tuples(AT)),
    )


def changes(suffix: str) -> st.SearchStrategy[tuple[Change, ...]]:
    """One to three changes that suit a file of a suffix, by far the most of them keep it nearly valid."""
    fitting = [BYTES, ANEW]
    if suffix in DOCUMENTS:
        fitting += [document(suffix)] * 3
    if suffix in TEXTS:
        fitting += [TEXT] * 3
    if suffix in IN_ARCHIVES:
        fitting += [archive(IN_ARCHIVES[suffix])] * 3
    if suffix in (".h5", ".hdf5"):
        fitting += [HDF5] * 4
    return st.lists(st.one_of(fitting), min_size=1, max_size=3).map(tuple)


def cases(kind: str, routes: Sequence[tuple[str, Sequence[str]]]) -> st.SearchStrategy[Case]:
    """Cases of a kind.

    Args:
        routes: what may be done with it, and the files that may be changed for it; one may be there several times.
    """

    def with_changes(pair: tuple[str, str]) -> st.SearchStrategy[Case]:
        route, file = pair
        suffix = "." + file.rpartition(".")[2]
        return st.builds(Case, st.just(kind), st.just(route), st.just(file), changes(suffix))

    pairs = [st.tuples(st.just(route), st.sampled_from(files)) for route, files in routes]
    return st.one_of(pairs).flatmap(with_changes)
