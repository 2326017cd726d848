"""What tests do with the terminals' page in a browser, and how they look at it."""

from typing import Any

from playwright.async_api import Error, Page

from tests.fakes.serving import until

TEXT = """() => {
  const { terminal } = document.querySelector(".screen:not([hidden])") ?? {};
  if (!terminal) return "";
  const buffer = terminal.buffer.active;
  const lines = [];
  for (let y = 0; y < buffer.length; y++) {
    const line = buffer.getLine(y);
    const text = line.translateToString(true);
    if (line.isWrapped) lines[lines.length - 1] += text;
    else lines.push(text);
  }
  return lines.join("\\n").trimEnd();
}"""
CELLS = """(wanted) => {
  const { terminal } = document.querySelector(".screen:not([hidden])");
  const buffer = terminal.buffer.active;
  for (let y = buffer.length - 1; y >= 0; y--) {
    const line = buffer.getLine(y);
    if (!line.translateToString(true).startsWith(wanted)) continue;
    const cells = [];
    for (let x = 0; x < line.length; x++) {
      const cell = line.getCell(x);
      if (!cell.getChars() && cell.getWidth()) continue;
      cells.push({
        text: cell.getChars(), width: cell.getWidth(),
        rgb: cell.isFgRGB(), colour: cell.getFgColor(),
      });
    }
    return cells;
  }
  return [];
}"""
SIZE = """() => {
  const { terminal } = document.querySelector(".screen:not([hidden])");
  return [terminal.cols, terminal.rows];
}"""
MIDDLE = """(wanted) => {
  const { terminal } = document.querySelector(".screen:not([hidden])");
  const buffer = terminal.buffer.active;
  const box = terminal.element.querySelector(".xterm-screen").getBoundingClientRect();
  for (let y = terminal.rows - 1; y >= 0; y--) {
    const at = buffer.getLine(buffer.viewportY + y).translateToString(true).lastIndexOf(wanted);
    if (at < 0) continue;
    const width = box.width / terminal.cols;
    return [
      box.left + (at + wanted.length / 2) * width,
      box.top + (y + 0.5) * (box.height / terminal.rows),
      box.left + at * width,
      box.left + (at + wanted.length) * width,
    ];
  }
  return null;
}"""


async def text(page: Page) -> str:
    """All that the terminal shows and what was scrolled away; nothing while a page goes."""
    try:
        found: str = await page.evaluate(TEXT)
    except Error as error:
        if "Execution context was destroyed" not in str(error):
            raise
        return ""
    return found


async def shows(page: Page, wanted: str, *, within_s: float = 60) -> None:
    """Wait until a line of the terminal is `wanted`."""

    async def is_there() -> bool:
        return wanted in (await text(page)).splitlines()

    try:
        await until(is_there, within_s=within_s)
    except AssertionError:
        raise AssertionError(f"no line {wanted!r} in\n{await text(page)}") from None


async def ready(page: Page) -> None:
    """Wait for a prompt."""

    async def has_prompt() -> bool:
        return (await text(page)).rstrip().endswith("$")

    try:
        await until(has_prompt)
    except AssertionError:
        state = await page.locator("body").inner_text()
        raise AssertionError(f"no prompt in\n{await text(page)}\nat {page.url}\n{state}") from None


async def run(page: Page, command: str) -> None:
    """Type a command and Enter."""
    await page.keyboard.type(command)
    await page.keyboard.press("Enter")


async def cells(page: Page, beginning: str) -> list[dict[str, Any]]:
    """The cells of the last line that begins so."""
    found: list[dict[str, Any]] = await page.evaluate(CELLS, beginning)
    return found


async def size(page: Page) -> tuple[int, int]:
    """Columns and rows of the terminal."""
    columns, rows = await page.evaluate(SIZE)
    return columns, rows


async def place(page: Page, words: str) -> tuple[float, float, float, float]:
    """Where words are on the screen: their middle, their left and their right."""
    x, y, left, right = await page.evaluate(MIDDLE, words)
    return x, y, left, right
