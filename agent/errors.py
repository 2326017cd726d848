"""The one error of the node agent that people can cause or see."""


class NodeError(Exception):
    """An order cannot be done.

    Attributes:
        code: Stable, lower case with underscores.
        text: One sentence that says what happened and what to do.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
