"""Names of expressions: data sets and networks have different words for the same one."""

SAME_EXPRESSION = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "others": "other",
    "sad": "sadness",
    "surprised": "surprise",
}


def plain_expression(name: str) -> str:
    """The name of a class in lower case, that of an expression as in `abaw.core.tasks.EXPRESSIONS`."""
    lower = name.lower()
    return SAME_EXPRESSION.get(lower, lower)
