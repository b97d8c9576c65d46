"""A plan → text with a bar per card, JSON, or Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from diagnose.formats.layout import Styled, visible, wrapped
from diagnose.formats.markdown import plain as markdown_text
from diagnose.plan.structs import Load, Part, Plan

_FILLS = ("█", "▓", "▒", "░", "▚", "▞", "▤", "▥")
_PLAIN_FILLS = ("#", "=", "+", "-", "%", "*", "~", "o")
_MARKS = {True: ("ok", "✓", "yes"), False: ("error", "✗", "no"), None: ("faint", "?", "?")}
BAR = 60
"""Characters of a card's bar."""


def write(plan: Plan, plain: bool = False) -> str:
    """The plan as text of 80 columns; `plain` keeps to ASCII."""
    return "\n".join(line.text for line in lines(plan, plain)).rstrip() + "\n"


def lines(plan: Plan, plain: bool = False) -> Iterator[Styled]:
    """The plan as styled lines, safe to print on a terminal."""
    for line in _report(plan, plain):
        text = visible(line.text)
        yield Styled(line.role, text.encode("ascii", "replace").decode() if plain else text)


def write_json(plan: Plan) -> str:
    """One JSON object, indented, with a newline at its end; bytes are whole numbers."""
    import msgspec

    made = msgspec.to_builtins(plan)
    for card, load in zip(made["cards"], plan.cards, strict=True):
        card |= {"needed": load.needed, "free": load.free}
    return msgspec.json.format(msgspec.json.encode(made), indent=2).decode() + "\n"


def write_markdown(plan: Plan) -> str:
    """The plan as GitHub-flavoured Markdown."""
    return "\n".join(_document(plan)).rstrip() + "\n"


WRITERS: dict[str, Callable[[Plan], str]] = {"text": write, "json": write_json, "markdown": write_markdown}


def size(amount: int) -> str:
    """Bytes for a reader: 14.96 GiB, 380 MiB, 12 KiB."""
    if abs(amount) >= 1 << 30:
        return f"{amount / (1 << 30):.2f} GiB"
    if abs(amount) >= 10 << 20:
        return f"{amount / (1 << 20):.0f} MiB"
    return f"{amount / (1 << 10):,.0f} KiB" if abs(amount) >= 1 << 10 else f"{amount} bytes"


# --- text


def _report(plan: Plan, plain: bool) -> Iterator[Styled]:
    role, mark, word = _MARKS[plan.fits]
    yield from wrapped(role, _verdict(plan), f"{word if plain else mark} ", "  ")
    yield Styled("faint", f"  {_setting(plan)}")
    yield Styled("prose", "")
    for item in plan.unknown:
        yield from wrapped("prose", f"not known: {item}", "  - ", "    ")
    for load, count in _alike(plan.cards):
        yield from _card(load, count, plain)
    yield from _most(plan)
    if plan.changes:
        yield Styled("head", "It would fit if you")
        for number, change in enumerate(plan.changes, start=1):
            yield from wrapped("prose", change.what, f"  {number}. ", "     ")
            if change.flags:
                yield Styled("command", f"       {change.flags}")
        yield Styled("prose", "")
    if plan.fits and plan.command:
        yield Styled("head", "Start it with")
        yield Styled("command", f"  {plan.command}")
        yield Styled("prose", "")
    if plan.settings:
        yield Styled("head", "Settings" if plan.fits else "Settings it was reckoned with")
        for name, value in plan.settings.items():
            yield Styled("command", f"  {name}: {value}")
        yield Styled("prose", "")
    for note in plan.notes:
        yield from wrapped("faint", note, "  · " if not plain else "  - ", "    ")


def _verdict(plan: Plan) -> str:
    what = f"tuning {plan.model} ({plan.tune})" if plan.tune else f"{plan.model} with {plan.engine}"
    cards = _cards_told(plan)
    if plan.fits is None:
        return f"{what}: it cannot be told whether it fits"
    if plan.fits:
        return f"{what} fits on {cards}"
    short = max(-load.free for load in plan.cards)
    each = " on a card" if len(plan.cards) > 1 else ""
    return f"{what} does not fit on {cards}: {size(short)} are missing{each}"


def _cards_told(plan: Plan) -> str:
    return ", ".join(f"{count} × {load.card}" if count > 1 else load.card for load, count in _alike(plan.cards))


def _setting(plan: Plan) -> str:
    if plan.tune:
        return f"{plan.concurrency} × {plan.context:,} tokens per card and step"
    told = f"{plan.concurrency} × {plan.context:,} tokens"
    if plan.tensor_parallel > 1:
        told += f" · tensor parallel {plan.tensor_parallel}"
    if plan.pipeline_parallel > 1:
        shared = plan.engine in ("vllm", "sglang")
        told += f" · {plan.pipeline_parallel} stages" if shared else f" · layers over {plan.pipeline_parallel} cards"
    return told


def _alike(cards: tuple[Load, ...]) -> Iterator[tuple[Load, int]]:
    """Cards that hold the same once, with how many they are."""
    counted: dict[Load, int] = {}
    for load in cards:
        counted[load] = counted.get(load, 0) + 1
    yield from counted.items()


def _card(load: Load, count: int, plain: bool) -> Iterator[Styled]:
    head = f"{load.card}: {size(load.memory)}, of which {size(load.usable)} may be used"
    yield Styled("head", f"{head} (each of {count})" if count > 1 else head)
    fills = _PLAIN_FILLS if plain else _FILLS
    yield Styled("prose", f"  [{bar(load, fills)}]")
    for part, fill in zip(load.parts, (*fills, *fills), strict=False):
        about = "" if part.exact else ("~" if plain else "≈")
        first = f"  {fill} {part.name:<17}{about + size(part.bytes):>11}  "
        yield from (
            wrapped("prose", part.how, first, " " * len(first)) if part.how else iter([Styled("prose", first.rstrip())])
        )
    free = load.free
    yield Styled("prose", f"    {'free' if free >= 0 else 'missing':<17}{size(abs(free)):>11}")
    yield Styled("prose", "")


def bar(load: Load, fills: tuple[str, ...], width: int = BAR) -> str:
    """The parts as lengths of a bar of `width`; dots are free, and what does not fit is cut off behind a mark."""
    whole = max(load.usable, 1)
    made = ""
    done = 0
    for part, fill in zip(load.parts, (*fills, *fills), strict=False):
        done += part.bytes
        made += fill * (min(width, round(done * width / whole)) - len(made))
    if load.free < 0:
        return made[: width - 1].ljust(width - 1, fills[0]) + "!"
    return made + "." * (width - len(made))


def _most(plan: Plan) -> Iterator[Styled]:
    if plan.fits is None:
        return
    told = []
    if plan.largest_context:
        count = (
            f" in batches of {plan.concurrency}"
            if plan.tune
            else (f" for {plan.concurrency} at once" if plan.concurrency > 1 else "")
        )
        told.append(f"{plan.largest_context:,} tokens{count}")
    if plan.largest_concurrency > 0:
        told.append(f"{plan.largest_concurrency:,} {'per card' if plan.tune else 'at once'} of {plan.context:,} tokens")
    if told:
        yield from wrapped("prose", f"At most: {', or '.join(told)}", "", "  ")
        yield Styled("prose", "")


# --- Markdown


def _document(plan: Plan) -> Iterator[str]:
    yield f"### {_MARKS[plan.fits][1]} {_plain(_verdict(plan))}"
    yield ""
    yield _plain(_setting(plan))
    yield ""
    for item in plan.unknown:
        yield f"- not known: {_plain(item)}"
    for load, count in _alike(plan.cards):
        yield f"**{_plain(load.card)}**{f' (each of {count})' if count > 1 else ''}"
        yield ""
        yield "| part | size | how |"
        yield "|---|---:|---|"
        for part in load.parts:
            yield _row(part)
        yield f"| {'free' if load.free >= 0 else 'missing'} | {size(abs(load.free))} | of {size(load.usable)} that may be used |"
        yield ""
    yield from (line.text for line in _most(plan))
    for change in plan.changes:
        yield f"- it would fit if you {_plain(change.what)}" + (f": `{visible(change.flags)}`" if change.flags else "")
    if plan.fits and plan.command:
        yield from ("", "```sh", visible(plan.command), "```")
    if plan.settings:
        yield from ("", "```yaml", *(visible(f"{name}: {value}") for name, value in plan.settings.items()), "```")
    for note in plan.notes:
        yield f"- {_plain(note)}"


def _row(part: Part) -> str:
    return f"| {part.name} | {'' if part.exact else '≈ '}{size(part.bytes)} | {_plain(part.how)} |"


def _plain(text: str) -> str:
    return markdown_text(text).replace("|", "&#124;")
