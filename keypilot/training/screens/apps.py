"""The other screens: search, browser, notes, forms, settings, maps, home screen, calculator and dialler."""

from __future__ import annotations

from collections.abc import Callable

from keypilot.training.screens.conversations import comments, inbox, mail, messenger, search_field, title_bar
from keypilot.training.screens.paint import Box, Painter
from keypilot.training.screens.theme import WHITE, hsv, ink_on, mix


def search(p: Painter, area: Box, typing: bool) -> str:
    """A search field with suggestions or results under it."""
    rng, theme = p.rng, p.theme
    query = p.words.one("searches")
    body = search_field(
        p,
        area,
        query if typing or rng.random() < 0.6 else "",
        rng.choice(("Search", "Search or type URL", "Search apps", "搜索")),
    )
    y = body.y0 + 4
    results = not typing and rng.random() < 0.7
    while y < body.y1:
        if results:
            p.text(body.x0 + 16, y + 14, p.words.one("sites"), 11, theme.faint)
            p.text(
                body.x0 + 16,
                y + 34,
                f"{query.capitalize()}: {p.words.one('titles')}",
                16,
                theme.accent,
                most=body.width - 32,
            )
            for line in range(2):
                p.text(body.x0 + 16, y + 54 + 18 * line, p.words.paragraph(2), 12, theme.ink, most=body.width - 32)
            y += 104
        else:
            p.icon(body.x0 + 26, y + 22, theme.faint, 18, "search")
            p.text(body.x0 + 54, y + 22, p.words.one("searches"), 15, theme.ink, most=body.width - 110)
            p.icon(body.x1 - 24, y + 22, theme.faint, 16, "arrow")
            y += 46
    return f"a search for {query}"


def browser(p: Painter, area: Box, typing: bool) -> str:
    """A page in a browser; the address is being typed, or stands in a bar."""
    rng, theme = p.rng, p.theme
    site = p.words.one("sites")
    if typing:
        body = search_field(p, area, site[: rng.randint(2, len(site))], "Search or type web address")
    else:
        body = title_bar(p, area, site, icons=rng.randint(1, 3))
    y = body.y0
    if rng.random() < 0.6 and body.height > 200:
        p.photo(Box(body.x0, y, body.x1, y + rng.uniform(90, 190)))
        y += 196
    p.text(body.x0 + 16, y + 22, p.words.one("titles"), 22, theme.ink, bold=True, most=body.width - 32)
    y += 46
    for line in p.wrap(p.words.paragraph(30), 14, body.width - 32):
        if y + 20 > body.y1:
            break
        p.text(body.x0 + 16, y + 8, line, 14, theme.ink)
        y += 20
        if rng.random() < 0.06 and y + 120 < body.y1:
            p.photo(Box(body.x0 + 16, y + 6, body.x1 - 16, y + 110), 6)
            y += 120
    return f"a page of {site}"


def notes(p: Painter, area: Box, typing: bool) -> str:
    """A note: a title and a text, or a list to tick off, that fill the screen."""
    rng, theme = p.rng, p.theme
    title = p.words.one("titles")
    body = title_bar(p, area, title if rng.random() < 0.6 else "", icons=rng.randint(1, 4))
    if rng.random() < 0.4 and body.height > 120:  # tools above the keyboard
        tools = Box(body.x0, body.y1 - 44, body.x1, body.y1)
        count = rng.randint(3, 7)
        for index in range(count):
            p.icon(tools.x0 + tools.width * (index + 0.5) / count, tools.center[1], theme.ink, 21)
        body = Box(body.x0, body.y0, body.x1, tools.y0)
    y = body.y0 + 10
    if rng.random() < 0.5:
        p.text(body.x0 + 20, y + 14, title, 22, theme.ink, bold=True, most=body.width - 40)
        y += 40
    ticks = rng.random() < 0.3
    text = p.words.paragraph(rng.choice((1, 1, 2, 4, 12)))
    for line in p.wrap(text, 16, body.width - (80 if ticks else 40)):
        if y + 24 > body.y1:
            break
        if ticks:
            p.icon(body.x0 + 28, y + 12, theme.faint, 18, "square")
        p.text(body.x0 + (50 if ticks else 20), y + 12, line, 16, theme.ink)
        y += 24
    if typing or rng.random() < 0.5:
        p.mark("input_field", body, text=text)
    return f"a note: {title}"


def form(p: Painter, area: Box, typing: bool) -> str:
    """Fields to fill in, outlined, filled or underlined, one of them with the cursor; then a button."""
    rng, theme = p.rng, p.theme
    title = rng.choice(
        (
            "Sign in",
            "Create account",
            "Payment",
            "Address",
            "New contact",
            "Transfer",
            "Edit profile",
            "Checkout",
            "登录",
            "Settings",
        )
    )
    body = (
        title_bar(p, area, title, icons=rng.randint(0, 2))
        if rng.random() < 0.85
        else Box(area.x0, area.y0 + 20, area.x1, area.y1)
    )
    style = rng.choice(("outline", "fill", "underline"))
    side, height = rng.uniform(14, 30), rng.uniform(40, 58)
    y = body.y0 + rng.uniform(8, 40)
    if rng.random() < 0.3 and body.height > 300:
        button = Box(body.x0 + side, y, body.x0 + side + rng.uniform(100, 180), y + 40)
        p.rect(button, theme.accent, rng.choice((4, 20)))
        p.text(
            *button.center,
            rng.choice(("Scan card", "Change", "Choose photo", "Use location")),
            14,
            ink_on(theme.accent),
            anchor="m",
        )
        y += 60
    room = int((body.y1 - y - 4) // (height + 26))
    count = max(1, min(room, rng.randint(1, 6)))
    focus = rng.randrange(count)
    for index in range(count):
        label, value = p.words.one("fields"), p.words.typed()[:16] if rng.random() < 0.5 else ""
        if rng.random() < 0.5:
            p.text(body.x0 + side, y + 6, label, 12, theme.faint)
        field = Box(body.x0 + side, y + 16, body.x1 - side, y + 16 + height)
        if field.y1 > body.y1:
            break
        active = index == focus and typing
        edge = theme.accent if active else theme.faint
        radius = rng.choice((4.0, 10.0)) if style != "underline" else 0.0
        if style == "outline":
            p.rect(field, theme.paper, radius, edge, 2 if active else 1)
        elif style == "fill":
            p.rect(field, theme.surface, radius)
        if style != "outline":
            p.line([(field.x0, field.y1 - 1), (field.x1, field.y1 - 1)], edge, 2 if active else 1)
        x = field.x0 + (12 if style != "underline" else 0)
        width = p.text(
            x, field.center[1], value or label, 16, theme.ink if value else theme.faint, most=field.width - 30
        )
        if active:
            end = x + (width if value else 0) + 2
            p.line([(end, field.center[1] - 10), (end, field.center[1] + 10)], theme.accent, 1.8)
        if index == focus:
            p.mark("input_field", field, radius, value)
        y = field.y1 + 10
    if y + 56 < body.y1:
        button = Box(body.x0 + side, y + 8, body.x1 - side, y + 52)
        p.rect(button, theme.accent, rng.choice((4, 22)))
        p.text(
            *button.center,
            rng.choice(("Continue", "Next", "Save", "Sign in", "Pay", "确定")),
            15,
            ink_on(theme.accent),
            anchor="m",
            bold=True,
        )
    return f"a form: {title}"


def settings(p: Painter, area: Box, typing: bool) -> str:
    """Rows of settings with switches; searched where something is typed."""
    rng, theme = p.rng, p.theme
    title = rng.choice(
        ("Settings", "Keyboard", "Display", "Preferences", "Privacy", "设置", "Notifications", "Account")
    )
    if typing:
        body = search_field(p, area, p.words.setting()[0][:4], "Search settings")
    else:
        body = title_bar(p, area, title, icons=rng.randint(0, 2))
    row, icons = rng.uniform(52, 76), rng.random() < 0.5
    y = body.y0 + 8 - rng.choice((0, 0, row / 2))
    read: list[str] = []
    while y < body.y1:
        if y >= body.y0:
            name, detail = p.words.setting()
            x = body.x0 + 18
            if icons:
                p.icon(x + 10, y + row / 2, theme.accent if rng.random() < 0.3 else theme.faint)
                x += 44
            has_detail = rng.random() < 0.7
            p.text(x, y + row / 2 - (9 if has_detail else 0), name, 16, theme.ink, most=body.x1 - x - 70)
            if has_detail:
                p.text(x, y + row / 2 + 12, detail, 13, theme.faint, most=body.x1 - x - 70)
            if rng.random() < 0.5:
                p.toggle(body.x1 - 36, y + row / 2, rng.random() < 0.5)
            read.append(name)
        y += row
    p.texts["screen"] = " ".join(read[:8])
    return f"settings: {title}"


def maps(p: Painter, area: Box, typing: bool) -> str:
    """A map under a search field."""
    rng, theme = p.rng, p.theme
    land = mix(hsv(0.2, 0.08, 0.95), theme.paper, 0.5 if theme.dark else 0.1)
    p.rect(area, land)
    for _ in range(rng.randint(1, 4)):
        x, y, r = rng.uniform(area.x0, area.x1), rng.uniform(area.y0, area.y1), rng.uniform(40, 150)
        p.circle(x, min(y, area.y1), r, mix(land, hsv(rng.choice((0.3, 0.55)), 0.5, 0.8), 0.5))
    road = mix(land, WHITE, 0.8) if not theme.dark else mix(land, WHITE, 0.2)
    for _ in range(rng.randint(6, 16)):
        a = (rng.uniform(area.x0, area.x1), area.y0) if rng.random() < 0.5 else (area.x0, rng.uniform(area.y0, area.y1))
        b = (rng.uniform(area.x0, area.x1), area.y1) if rng.random() < 0.5 else (area.x1, rng.uniform(area.y0, area.y1))
        p.line([a, b], road, rng.uniform(2, 9))
    for _ in range(rng.randint(2, 8)):
        x, y = rng.uniform(area.x0 + 20, area.x1 - 60), rng.uniform(area.y0 + 80, max(area.y0 + 81, area.y1 - 20))
        p.circle(x, y, 7, hsv(rng.random(), 0.8, 0.9))
        p.text(
            x + 11,
            y,
            rng.choice(("Café", "Museum", "School", "Park", "Hotel", "Bank", "公园", "Station")),
            11,
            theme.ink,
        )
    place = rng.choice(("Café", "Station", "Museum", "pharmacy", "hotel near the harbour", "餐厅"))
    search_field(p, Box(area.x0 + 10, area.y0 + 4, area.x1 - 10, area.y0 + 80), place if typing else "", "Search here")
    if not typing and rng.random() < 0.5:
        card = Box(area.x0, area.y1 - rng.uniform(80, 180), area.x1, area.y1)
        p.rect(card, theme.paper, 16)
        p.text(card.x0 + 18, card.y0 + 30, place.capitalize(), 19, theme.ink, bold=True)
        p.text(card.x0 + 18, card.y0 + 54, "4.6 ★ 12 min", 13, theme.faint)
    return f"a map around {place}"


def home(p: Painter, area: Box, typing: bool) -> str:
    """A home screen: wallpaper, icons, a clock, a dock; with a keyboard, a search over the apps."""
    rng = p.rng
    p.photo(Box(0, 0, p.width, area.y1))
    top = area.y0
    if typing:
        top = search_field(p, area, p.words.one("apps")[:3], "Search apps").y0
    elif rng.random() < 0.6:
        p.text(area.center[0], top + 60, p.words.clock(), 52, WHITE, anchor="m")
        p.text(area.center[0], top + 104, p.words.date(), 15, WHITE, anchor="m")
        top += 140
    columns, size = rng.randint(4, 5), rng.uniform(44, 54)
    cell, rows = area.width / columns, max(1, min(rng.randint(2, 6), int((area.y1 - top - 90) // (size + 36))))
    radius = rng.choice((8.0, 14.0, size / 2))
    names: list[str] = []
    dock = [] if typing else [area.y1 - size / 2 - 24]
    for row, y in enumerate([*(top + 40 + (size + 34) * r for r in range(rows)), *dock]):
        for column in range(columns):
            if rng.random() < 0.2:
                continue
            x = area.x0 + cell * (column + 0.5)
            box = Box(x - size / 2, y - size / 2, x + size / 2, y + size / 2)
            if box.y1 > area.y1:
                continue
            p.rect(box, hsv(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.4, 1)), radius)
            p.icon(x, y, WHITE, size * 0.55)
            if row < rows:
                name = p.words.one("apps")
                p.text(x, y + size / 2 + 11, name, 11, WHITE, anchor="m", most=cell)
                names.append(name)
    p.texts["screen"] = " ".join(names[:8])
    return "a home screen"


def keypad(p: Painter, area: Box, typing: bool) -> str:
    """A calculator or a dialler: keys with numbers that are no keyboard."""
    rng, theme = p.rng, p.theme
    dialler = rng.random() < 0.5
    if rng.random() < 0.4:
        area = title_bar(p, area, "Phone" if dialler else "Calculator")
    top = area.y0 + area.height * rng.uniform(0.3, 0.5)
    number = "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 9)))
    p.text(
        area.center[0] if dialler else area.x1 - 24,
        (area.y0 + top) / 2,
        number,
        40,
        theme.ink,
        anchor="m" if dialler else "r",
    )
    labels = "123456789*0#" if dialler else "C()÷789×456-123+0.="
    columns = 3 if dialler else 4
    rows = -(-len(labels) // columns)
    cell, step = area.width / columns, (area.y1 - top - (70 if dialler else 0)) / rows
    round_keys = rng.random() < 0.6
    for index, label in enumerate(labels):
        x, y = area.x0 + cell * (index % columns + 0.5), top + step * (index // columns + 0.5)
        if round_keys:
            p.circle(
                x,
                y,
                min(cell, step) * 0.42,
                theme.surface if label.isdigit() else mix(theme.surface, theme.accent, 0.5),
            )
        p.text(x, y, label, 26, theme.ink, anchor="m")
    if dialler:
        p.circle(area.center[0], area.y1 - 36, 28, hsv(0.38, 0.8, 0.7))
        p.icon(area.center[0], area.y1 - 36, WHITE, 26, "phone")
    return "a phone's dial pad" if dialler else "a calculator"


def gallery(p: Painter, area: Box, typing: bool) -> str:
    """Pictures in a grid, a feed or a player."""
    rng, theme = p.rng, p.theme
    title = rng.choice(("Photos", "Gallery", "Feed", "Videos", "Music", "News", "相册"))
    body = title_bar(p, area, title, icons=rng.randint(0, 3))
    columns = rng.randint(1, 4)
    side, gap = body.width / columns, rng.uniform(0, 8)
    height = side * (1.0 if columns > 1 else rng.uniform(0.5, 0.8))
    y = body.y0
    while y < body.y1:
        for column in range(columns):
            x = body.x0 + column * side
            p.photo(Box(x + gap / 2, y + gap / 2, x + side - gap / 2, min(y + height - gap / 2, body.y1)), gap)
        y += height
        if columns == 1 and y + 40 < body.y1:
            p.text(body.x0 + 14, y + 18, p.words.sentence(), 15, theme.ink, bold=True, most=body.width - 28)
            y += 40
    return f"pictures: {title}"


App = Callable[[Painter, Box, bool], str]

#: name -> (what draws it, its weight without a keyboard, its weight with one).
APPS: dict[str, tuple[App, float, float]] = {
    "messenger": (messenger, 4, 8),
    "inbox": (inbox, 2, 1),
    "search": (search, 1, 2),
    "browser": (browser, 2, 1),
    "mail": (mail, 1, 2),
    "notes": (notes, 1.5, 3),
    "form": (form, 1.5, 4),
    "settings": (settings, 2, 0.7),
    "maps": (maps, 1, 1),
    "home": (home, 1.5, 0.5),
    "keypad": (keypad, 1, 0),
    "gallery": (gallery, 1.5, 0),
    "comments": (comments, 1, 1.5),
}
