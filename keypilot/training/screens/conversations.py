"""Screens of messages: a conversation, a list of them, a mail being written, comments under a post."""

from __future__ import annotations

from keypilot.training.screens.paint import Box, Painter
from keypilot.training.screens.theme import WHITE, ink_on, mix


def title_bar(
    p: Painter,
    area: Box,
    text: str,
    *,
    back: bool | None = None,
    subtitle: str = "",
    avatar: bool = False,
    icons: int = 2,
) -> Box:
    """Draws an app bar at the top of `area` and marks it; gives what is left below."""
    rng, theme = p.rng, p.theme
    bar = Box(area.x0, area.y0, area.x1, area.y0 + rng.uniform(48, 64))
    p.rect(bar, theme.bar)
    middle = bar.center[1]
    x = bar.x0 + 16
    if rng.random() < 0.8 if back is None else back:
        p.icon(x + 8, middle, theme.bar_ink, 22, rng.choice(("arrow", "arrow", "menu", "close")))
        x += 36
    if avatar:
        p.avatar(x + 16, middle, 17)
        x += 44
    centered = not avatar and rng.random() < 0.2
    room = bar.x1 - x - 16 - icons * 36
    size = rng.uniform(16, 20)
    if centered:
        p.text(bar.center[0], middle, text, size, theme.bar_ink, bold=True, anchor="m", most=room)
    elif subtitle:
        p.text(x, middle - 8, text, size * 0.9, theme.bar_ink, bold=True, most=room)
        p.text(x, middle + 11, subtitle, 12, mix(theme.bar_ink, theme.bar, 0.35), most=room)
    else:
        p.text(x, middle, text, size, theme.bar_ink, bold=rng.random() < 0.5, most=room)
    for index in range(icons):
        p.icon(bar.x1 - 20 - index * 38, middle, theme.bar_ink, 21, "dots" if index == 0 else None)
    if rng.random() < 0.3:
        p.line([(bar.x0, bar.y1), (bar.x1, bar.y1)], theme.line)
    p.mark("title_bar", bar, text=text)
    return Box(area.x0, bar.y1, area.x1, area.y1)


def _bubbles(p: Painter, area: Box) -> None:
    """Messages from the bottom of `area` upwards, as many as there is room for; marks what they cover."""
    rng, theme = p.rng, p.theme
    group = rng.random() < 0.3
    avatars = group or rng.random() < 0.4
    mine = theme.accent if rng.random() < 0.5 else mix(theme.paper, theme.accent, rng.uniform(0.2, 0.4))
    theirs = theme.surface if theme.surface != theme.paper else mix(theme.paper, theme.ink, 0.1)
    if not theme.dark and rng.random() < 0.4:
        theirs = WHITE
    radius = rng.choice((4, 8, 14, 18, 22))
    size = rng.uniform(13, 17)
    widest = area.width * rng.uniform(0.6, 0.8)
    y = area.y1 - rng.uniform(4, 16)
    covered: list[Box] = []
    said: list[str] = []
    wanted = rng.choice((1, 2, 3, 6, 20, 20, 20))
    while len(covered) < wanted:
        own = rng.random() < 0.5
        left = area.x0 + (46 if avatars else 10)
        if rng.random() < 0.12:
            w, h = widest * rng.uniform(0.6, 1.0), rng.uniform(90, 200)
            if y - h < area.y0 + 4:
                break
            x = area.x1 - 10 - w if own else left
            box = Box(x, y - h, x + w, y)
            p.photo(box, radius)
        else:
            text = p.words.paragraph(rng.choice((1, 1, 1, 2, 3)))
            lines = p.wrap(text, size, widest - 24)
            w = max(p.text_width(line, size) for line in lines) + 24
            named = group and not own
            stamp = rng.random() < 0.5
            h = len(lines) * size * 1.35 + 14 + (16 if named else 0) + (12 if stamp else 0)
            if y - h < area.y0 + 4:
                break
            x = area.x1 - 10 - w if own else left
            box = Box(x, y - h, x + w, y)
            fill = mine if own else theirs
            p.rect(box, fill, radius)
            top = box.y0 + 7
            if named:
                p.text(x + 12, top + 7, p.words.name(), 11, theme.accent, bold=True, most=w - 24)
                top += 16
            for index, line in enumerate(lines):
                p.text(x + 12, top + (index + 0.5) * size * 1.35, line, size, ink_on(fill))
            if stamp:
                p.text(box.x1 - 8, box.y1 - 9, p.words.clock(), 9, mix(ink_on(fill), fill, 0.4), anchor="r")
            said.append(text)
        if avatars and not own:
            p.avatar(area.x0 + 26, box.y1 - 16, 15)
            box = Box(area.x0 + 11, box.y0, box.x1, box.y1)
        covered.append(box)
        y -= box.height + rng.uniform(3, 14)
        if rng.random() < 0.1 and y - 40 > area.y0:
            p.text(area.center[0], y - 12, p.words.date(), 11, theme.faint, anchor="m")
            y -= 28
    if covered:
        union = Box(
            min(b.x0 for b in covered),
            min(b.y0 for b in covered),
            max(b.x1 for b in covered),
            max(b.y1 for b in covered),
        )
        p.mark("chat_bubble", union, text=" ".join(reversed(said)))


def composer(p: Painter, area: Box, typing: bool, hint: str) -> Box:
    """A row to write a message in, at the bottom of `area`; gives what is left above."""
    rng, theme = p.rng, p.theme
    text = p.words.typed() if typing and rng.random() < 0.85 else ""
    size = rng.uniform(14, 17)
    style = rng.choice(("pill", "pill", "bar", "box"))
    before, after = rng.randint(0, 2), rng.choice((0, 1, 1, 2))
    left, right = area.x0 + 8 + before * 40, area.x1 - 8 - after * 44
    lines = p.wrap(text, size, right - left - 28)[:4] if text else []
    height = max(1, len(lines)) * size * 1.35 + rng.uniform(18, 26)
    row = Box(area.x0, area.y1 - height - rng.uniform(2, 12), area.x1, area.y1)
    field = Box(left, row.center[1] - height / 2, right, row.center[1] + height / 2)
    back = theme.bar if rng.random() < 0.3 else theme.paper
    if style == "bar":
        back = mix(theme.paper, theme.accent, 0.1) if rng.random() < 0.5 else theme.surface
        field = row
    p.rect(row, back)
    fill = mix(back, WHITE if not theme.dark or rng.random() < 0.2 else theme.ink, 0.9 if not theme.dark else 0.12)
    if fill == back:
        fill = mix(back, theme.ink, 0.08)
    radius = {"pill": 24.0, "bar": 0.0, "box": rng.uniform(2, 10)}[style]
    if style == "bar":
        fill = back
    elif rng.random() < 0.3:
        p.rect(field, back, radius, mix(back, theme.ink, 0.3))
        fill = back
    else:
        p.rect(field, fill, radius)
    ink = ink_on(fill)
    for index in range(before):
        p.icon(
            area.x0 + 24 + index * 38,
            row.center[1],
            theme.accent if rng.random() < 0.3 else theme.faint,
            22,
            rng.choice(("plus", "clip", "camera", "face")),
        )
    for index in range(after):
        x, y = area.x1 - 26 - index * 42, row.center[1]
        if index == 0 and rng.random() < 0.5:
            p.circle(x, y, 18, theme.accent)
            p.icon(x, y, ink_on(theme.accent), 18, "send" if text else "mic")
        else:
            p.icon(x, y, theme.accent, 22, rng.choice(("send", "mic", "camera")))
    x = left + 14
    if lines:
        top = field.center[1] - len(lines) * size * 1.35 / 2
        for index, line in enumerate(lines):
            width = p.text(x, top + (index + 0.5) * size * 1.35, line, size, ink)
        if rng.random() < 0.7:
            end = top + len(lines) * size * 1.35
            p.line([(x + width + 1, end - size * 1.2), (x + width + 1, end - 2)], theme.accent, 1.6)
    else:
        p.text(x, field.center[1], hint, size, mix(ink, fill, 0.5), most=right - x - 20)
    p.mark("input_field", field, radius, text)
    return Box(area.x0, area.y0, area.x1, row.y0)


def messenger(p: Painter, area: Box, typing: bool) -> str:
    """A conversation, with or without somebody writing."""
    rng, theme = p.rng, p.theme
    name = p.words.name()
    subtitle = rng.choice(("", "", "online", "last seen today", "3 members", "typing…", "在线"))
    body = title_bar(p, area, name, back=True, subtitle=subtitle, avatar=rng.random() < 0.6, icons=rng.randint(0, 4))
    if rng.random() < 0.25:
        p.photo(body)
    elif rng.random() < 0.4:
        p.rect(body, mix(theme.paper, theme.accent, rng.uniform(0.05, 0.25)))
    body = composer(
        p,
        body,
        typing,
        rng.choice(("Message", "Type a message", "Text message", "Write a message…", "iMessage", "输入消息", "Aa")),
    )
    if rng.random() < 0.92:
        _bubbles(p, body)
    return f"a chat with {name}"


def inbox(p: Painter, area: Box, typing: bool) -> str:
    """A list of conversations or mails, under a title or a search field."""
    rng, theme = p.rng, p.theme
    if typing or rng.random() < 0.3:
        body = search_field(
            p,
            area,
            p.words.name()[:5] if typing else "",
            rng.choice(("Search", "Search messages", "Search in mail", "搜索")),
        )
    else:
        body = title_bar(
            p, area, rng.choice(("Messages", "Chats", "Inbox", "Mail", "消息", "All inboxes")), icons=rng.randint(1, 3)
        )
    row, y = rng.uniform(56, 84), body.y0 + 6 - rng.choice((0, 0, 30))
    size, avatars = rng.uniform(14, 17), rng.random() < 0.85
    read: list[str] = []
    while y < body.y1:
        middle = y + row / 2
        if y > body.y0 - 4:
            name, said = p.words.name(), p.words.sentence()
            x = body.x0 + 16
            if avatars:
                p.avatar(x + 20, middle, 20)
                x += 56
            bold = rng.random() < 0.4
            p.text(x, middle - 10, name, size, theme.ink, bold=bold, most=body.x1 - x - 70)
            p.text(x, middle + 11, said, size - 2, theme.ink if bold else theme.faint, most=body.x1 - x - 30)
            p.text(body.x1 - 14, middle - 10, p.words.date(), 11, theme.faint, anchor="r")
            read.append(f"{name}: {said}")
        y += row
    if rng.random() < 0.6:
        fab = Box(body.x1 - 76, area.y1 - 84, body.x1 - 18, area.y1 - 26)
        p.rect(fab, theme.accent, rng.choice((16, 29)))
        p.icon(*fab.center, ink_on(theme.accent), 24, "plus")
    p.texts["screen"] = " ".join(read[:6])
    return "a list of conversations"


def search_field(p: Painter, area: Box, text: str, hint: str) -> Box:
    """A search field across the top of `area`, marked as the input field; gives what is left below."""
    rng, theme = p.rng, p.theme
    height = rng.uniform(40, 54)
    side = rng.uniform(0, 18)
    field = Box(area.x0 + side, area.y0 + rng.uniform(4, 12), area.x1 - side, area.y0 + 12 + height)
    fill = mix(theme.paper, theme.accent, 0.25) if rng.random() < 0.4 else theme.surface
    radius = rng.choice((0, 4, 12, 26))
    if rng.random() < 0.25:
        p.rect(field, theme.paper, radius, theme.faint)
        fill = theme.paper
    else:
        p.rect(field, fill, radius)
    ink, middle = ink_on(fill), field.center[1]
    p.icon(field.x0 + 22, middle, mix(ink, fill, 0.3), 20, rng.choice(("search", "arrow", "menu")))
    if text:
        width = p.text(field.x0 + 44, middle, text, 16, ink, most=field.width - 100)
        p.line([(field.x0 + 46 + width, middle - 9), (field.x0 + 46 + width, middle + 9)], theme.accent, 1.6)
    else:
        p.text(field.x0 + 44, middle, hint, 16, mix(ink, fill, 0.5), most=field.width - 100)
    for index in range(rng.randint(0, 2)):
        p.icon(field.x1 - 22 - index * 34, middle, mix(ink, fill, 0.3), 20)
    p.mark("input_field", field, radius, text)
    return Box(area.x0, field.y1 + 4, area.x1, area.y1)


def mail(p: Painter, area: Box, typing: bool) -> str:
    """A mail that is being written: recipients, subject, body."""
    rng, theme = p.rng, p.theme
    body = title_bar(
        p, area, rng.choice(("Compose", "New message", "Reply", "写邮件", "")), back=True, icons=rng.randint(1, 3)
    )
    y = body.y0
    focus = rng.choice(("body", "body", "subject"))
    subject = p.words.one("titles")
    for label, value in (("To", p.words.name()), ("Subject", subject)):
        if y + 48 > body.y1:
            break
        row = Box(body.x0, y, body.x1, y + 48)
        x = row.x0 + 16
        x += p.text(x, row.center[1], label, 14, theme.faint) + 12
        p.text(x, row.center[1], value, 15, theme.ink, most=row.x1 - x - 16)
        p.line([(row.x0, row.y1), (row.x1, row.y1)], theme.line)
        if label == "Subject" and focus == "subject":
            p.mark("input_field", row, text=subject)
        y = row.y1
    text = p.words.paragraph(rng.randint(1, 6)) if typing or rng.random() < 0.5 else ""
    rest = Box(body.x0, y, body.x1, body.y1)
    line = 21.0
    for index, words in enumerate(p.wrap(text, 15, rest.width - 32) if text else []):
        if y + 14 + (index + 1) * line > rest.y1:
            break
        p.text(rest.x0 + 16, y + 14 + (index + 0.5) * line, words, 15, theme.ink)
    if not text:
        p.text(rest.x0 + 16, y + 24, "Compose email", 15, theme.faint)
    if focus == "body" and rest.height > 24:
        p.mark("input_field", rest, text=text)
    return f"an email about {subject}"


def comments(p: Painter, area: Box, typing: bool) -> str:
    """A post with its picture, and a row to comment in."""
    rng, theme = p.rng, p.theme
    name = p.words.name()
    body = title_bar(p, area, rng.choice(("Comments", "Post", name, "评论")), back=True, icons=rng.randint(0, 2))
    body = composer(p, body, typing, "Add a comment…")
    y = body.y0
    if body.height > 260:
        photo = Box(body.x0, y, body.x1, y + body.height * rng.uniform(0.3, 0.55))
        p.photo(photo)
        y = photo.y1 + 8
        for index, kind in enumerate(("heart", "mail", "send")):
            p.icon(body.x0 + 24 + index * 40, y + 12, theme.ink, 22, kind)
        y += 30
    while y + 44 < body.y1:
        p.avatar(body.x0 + 28, y + 20, 15)
        p.text(body.x0 + 54, y + 12, p.words.name(), 13, theme.ink, bold=True, most=body.width - 90)
        p.text(body.x0 + 54, y + 30, p.words.sentence(), 13, theme.ink, most=body.width - 70)
        y += 50
    return f"comments under a post of {name}"
