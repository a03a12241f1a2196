"""Plug-ins of other distributions: found, ordered, loaded once; broken ones are one warning that names them."""

import logging
import sys
from pathlib import Path

import pytest

from abaw.core import plugins
from abaw.core.plugins import load_group, load_named
from abaw.tests.support.plugins import write_distribution

GROUP = "abaw.fruit"
FRUIT = {
    "sour_fruit": "print('imported')\nLEMON = 'yellow'\nCOUNT = 3\n",
    "sweet_fruit": "MELON = 'green'\n",
    "bad_fruit": "raise RuntimeError('rotten')\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in FRUIT:
        sys.modules.pop(name, None)
    plugins._loaded.clear()
    plugins._named.clear()


def write_fruit(folder: Path) -> None:
    sour = {"lemon": "sour_fruit:LEMON", "count": "sour_fruit:COUNT", "lime": "sour_fruit:LIME"}
    write_distribution(folder, "sour-fruit", "1.5", {GROUP: sour}, FRUIT)
    sweet = {"melon": "sweet_fruit:MELON", "lemon": "sweet_fruit:MELON", "bad": "bad_fruit:APPLE"}
    write_distribution(folder, "a-sweet-fruit", "2.0", {GROUP: sweet, "abaw.other": {"x": "sweet_fruit:MELON"}}, {})


def test_plugins_are_loaded_once_and_say_where_they_come_from(folder, capsys):
    write_fruit(folder)

    found = load_group(GROUP, str)
    load_group(GROUP, str)

    assert [(one.name, one.value, one.source, one.built_in) for one in found] == [
        ("lemon", "green", "a-sweet-fruit 2.0", False),
        ("melon", "green", "a-sweet-fruit 2.0", False),
        ("lemon", "yellow", "sour-fruit 1.5", False),
    ]
    assert capsys.readouterr().out == "imported\n"
    assert load_group("abaw.nothing", str) == ()


def test_each_broken_plugin_is_one_warning_that_names_its_distribution(folder, caplog):
    write_fruit(folder)
    with caplog.at_level(logging.WARNING):
        load_group(GROUP, str)
        load_group(GROUP, str)
    messages = sorted(record.getMessage() for record in caplog.records)
    assert messages == [
        "Plug-in bad (abaw.fruit) of a-sweet-fruit 2.0 is left out: RuntimeError: rotten.",
        "Plug-in count (abaw.fruit) of sour-fruit 1.5 is left out: TypeError: sour_fruit:COUNT is a int, not a str.",
        "Plug-in lime (abaw.fruit) of sour-fruit 1.5 is left out: AttributeError: module 'sour_fruit' has no attribute "
        "'LIME'.",
    ]


def test_a_distribution_without_a_version_or_name_is_named_as_far_as_it_can(folder, caplog):
    for name, content in (("sour", "Name: sour"), ("nameless", "Version: 1")):
        write_distribution(folder, name, "0", {GROUP: {name: "bad_fruit:APPLE"}}, FRUIT)
        (folder / f"{name}-0.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\n{content}\n")
    load_group(GROUP, str)
    assert "Plug-in sour (abaw.fruit) of sour is left out" in caplog.text
    assert "Plug-in nameless (abaw.fruit) of an unknown distribution is left out" in caplog.text


def test_a_name_that_is_taken_is_left_out_and_named(folder, caplog):
    write_fruit(folder)
    found = load_named(GROUP, str)
    assert {name: one.value for name, one in found.items()} == {"lemon": "green", "melon": "green"}
    assert "Plug-in lemon (abaw.fruit) of sour-fruit 1.5 is left out: ValueError: the name is taken by a-sweet" in (
        caplog.text
    )


def test_a_checkout_lists_its_own_plugins_whatever_its_metadata_says(folder, tmp_path, monkeypatch):
    write_fruit(folder)
    stale = {GROUP: {"cherry": "own_fruit:KIWI"}}
    write_distribution(folder, "abaw", "0.0.1", stale, {"own_fruit": "PEAR = 'brown'\nKIWI = 'green'\n"})
    listed = tmp_path / "setup.cfg"
    listed.write_text(f"[options.entry_points]\n{GROUP} =\n    pear = own_fruit:PEAR\n    kiwi = own_fruit:KIWI\n")
    monkeypatch.setattr(plugins, "CHECKOUT_LIST", listed)

    found = load_group(GROUP, str)

    assert [(one.name, one.built_in) for one in found[:2]] == [("kiwi", True), ("pear", True)]
    assert [one.name for one in found[2:]] == ["lemon", "melon", "lemon"]
    assert found[0].source.startswith("abaw ") and found[0].source != "abaw 0.0.1"


def test_an_installed_package_has_its_plugins_from_its_metadata(folder, tmp_path, monkeypatch):
    write_distribution(folder, "abaw", "9.9", {GROUP: {"plum": "blue_fruit:PLUM"}}, {"blue_fruit": "PLUM = 'blue'\n"})
    monkeypatch.setattr(plugins, "CHECKOUT_LIST", tmp_path / "missing.cfg")
    assert [(one.name, one.source, one.built_in) for one in load_group(GROUP, str)] == [("plum", "abaw 9.9", True)]
