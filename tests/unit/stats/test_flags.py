import ast
from pathlib import Path

import fairloop.stats
from fairloop.stats.flags import FLAGS, by_sentence, explain

WITH_REASON = ("insufficient", "undefined")
"""Flags whose sentence is made of what follows the colon."""


def raised(tree):
    """Texts that are put into something called flags; of an f-string its beginning."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AugAssign):
            targets, value = [node.target], node.value
        elif isinstance(node, ast.keyword) and node.arg == "flags":
            targets, value = [ast.Name("flags")], node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            targets, value = ([node.func.value] if node.func.attr == "append" else []), node
        else:
            continue
        if not any(isinstance(target, ast.Name) and target.id == "flags" for target in targets):
            continue
        other = (ast.JoinedStr, ast.Subscript, ast.Compare, ast.comprehension)
        inside = {id(part) for f in ast.walk(value) if isinstance(f, other) for part in ast.walk(f)}
        for text in ast.walk(value):
            if isinstance(text, ast.JoinedStr) and isinstance(text.values[0], ast.Constant):
                yield str(text.values[0].value)
            elif isinstance(text, ast.Constant) and isinstance(text.value, str) and id(text) not in inside:
                yield text.value


def has_sentence(text):
    name, colon, _ = text.partition(":")
    # The beginning of an f-string may end within the name.
    return name in FLAGS or name in WITH_REASON or (not colon and any(f.startswith(name) for f in FLAGS))


def test_every_flag_that_is_raised_has_a_sentence():
    folder = Path(fairloop.stats.__file__).parent
    found = {
        (source.name, text)
        for source in sorted(folder.glob("*.py"))
        for text in raised(ast.parse(source.read_text(encoding="utf-8")))
        if text.replace("_", "").replace(":", "").isalnum() and text.islower()
    }
    assert len(found) > 40
    assert [at for at in sorted(found) if not has_sentence(at[1])] == []


def test_a_flag_names_its_object():
    assert explain("pairs_across_groups:6").endswith("(6)")
    assert explain("insufficient:dark") == "left out, because it has no such rate: dark"
    assert by_sentence([("a", "one_group"), ("b", "one_group")]) == ["one group: nothing to compare: a, b"]
