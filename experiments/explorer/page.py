"""The explorer's page, made of panels by Gradio, and its server on this machine.

A new type of field is a row of :data:`WIDGETS`.
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from functools import partial
from itertools import groupby
from typing import Any, TypeAlias

from experiments.explorer.panels import (
    ChoiceField,
    ChoicesField,
    Field,
    NumberField,
    Panel,
    SliderField,
    TextField,
)
from experiments.explorer.turns import Ended, Turns
from experiments.reports.blocks import Note
from experiments.reports.fragments import fragment
from univae.errors import InputError

__all__ = ["WIDGETS", "require_library", "serving"]

HOST = "127.0.0.1"
FIRST_PORT = 7860
PORTS = 100  # that are tried from FIRST_PORT on
QUEUE = "model"  # answers wait for each other
FONTS = ("system-ui", "sans-serif")  # of the machine: nothing is fetched
MONOSPACE = ("ui-monospace", "monospace")
NO_PROXY = "NO_PROXY"
MARKS = "\\`*_{}[]<>()#+-.!|~$&"  # that Markdown may read as its own

STYLE = """
.gradio-container { --font: system-ui, sans-serif; max-width: 76rem !important; }
.answer .prose table, .answer .prose tr { border: 0; }
.answer .prose table { border-collapse: collapse; width: auto; margin: 0 0 1rem; }
.answer .prose th, .answer .prose td { text-align: left; vertical-align: top; border: 0;
  border-bottom: 1px solid var(--border-color-primary); padding: .3rem 1rem .3rem 0;
  min-width: 5rem; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.answer .prose th, .answer .prose td:first-child { overflow-wrap: break-word; }
.answer .prose th { font-weight: 600; opacity: .7; }
.answer { overflow-x: auto; }
.answer figure { margin: 0 0 1rem; }
.answer img { max-width: 100%; height: auto; image-rendering: pixelated; border-radius: 4px; }
.answer ul { margin: 0; padding-left: 1.2rem; list-style: disc; }
@media (max-width: 700px) { .beside-sliders { order: -1; } }
.answer .warning { border-left: 4px solid #c33; padding-left: .8rem; }
"""

Gradio: TypeAlias = Any  # the library, which is optional
Widget: TypeAlias = Any


def require_library() -> Gradio:
    """Return the library Gradio, with its telemetry off.

    Raises:
        InputError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise InputError(
            "explore needs the extra explore: pip install 'univae[explore]'"
        ) from error
    return gradio


@contextmanager
def serving(
    title: str, about: str, panels: Sequence[Panel], port: int = 0, *, browser: bool = False
) -> Iterator[str]:
    """Serve a page of panels to this machine alone while the block runs, and yield its address.

    Args:
        title: the heading.
        about: a line below it.
        panels: the tabs.
        port: the port; 0: the first free one from 7860 on.
        browser: whether to open the page in a browser.

    Raises:
        InputError: Gradio is not installed, or the port is not free.
    """
    gradio = require_library()
    if next(_free_ports(port), None) is None:
        raise _taken(port)
    turns = Turns()
    page = _page(gradio, title, about, panels, turns)
    with _without_proxy(), redirect_stdout(sys.stderr):  # stdout is for the command's result
        _launch(gradio, page, port, browser=browser)
    try:
        yield str(page.local_url)
    finally:
        turns.end()
        with redirect_stdout(sys.stderr):
            page.close(verbose=False)


def _page(gradio: Gradio, title: str, about: str, panels: Sequence[Panel], turns: Turns) -> Any:
    """Return the page, not yet served."""
    with gradio.Blocks(title=title, analytics_enabled=False) as page:
        gradio.Markdown(f"# {_plain(title)}\n\n{_plain(about)}")
        with gradio.Tabs():
            for panel in panels:
                with gradio.Tab(panel.title):
                    _add(gradio, panel, turns)
    page.queue(default_concurrency_limit=1, api_open=False)
    return page


def _add(gradio: Gradio, panel: Panel, turns: Turns) -> None:
    """Add a panel: its fields beside its answer, or below each other on a narrow screen."""
    gradio.Markdown(_plain(panel.about))
    if panel.act is None:
        return
    has_sliders = any(isinstance(field, SliderField) and field.group for field in panel.fields)
    with gradio.Row():
        with gradio.Column(scale=2, min_width=300):
            widgets = _widgets(gradio, panel.fields)
            button = gradio.Button(panel.button, variant="primary")
        with gradio.Column(
            scale=3, min_width=300, elem_classes="beside-sliders" if has_sliders else None
        ):
            answer = gradio.HTML(elem_classes="answer", padding=False)
    triggers = [button.click]
    for field, widget in zip(panel.fields, widgets, strict=True):
        if isinstance(field, SliderField):
            triggers.append(widget.release)
        if isinstance(field, TextField) and field.lines == 1:
            triggers.append(widget.submit)

    def html(*values: Any) -> str:
        try:
            shown = turns.take(partial(panel.answer, *values))
        except Ended:
            shown = fragment(Note("the explorer has ended", is_warning=True))
        return f"<div data-may-break>{shown}</div>"  # a model may write long words

    gradio.on(
        triggers,
        html,
        widgets,
        answer,
        concurrency_limit=1,
        concurrency_id=QUEUE,
        trigger_mode="always_last",
        api_visibility="private",
    )


def _widgets(gradio: Gradio, fields: Sequence[Field]) -> list[Widget]:
    """Return the widgets of fields, in their order, with the sliders of a group below its name."""
    widgets: list[Widget] = []
    for group, members in groupby(fields, lambda field: getattr(field, "group", "")):
        if group:
            gradio.Markdown(f"**{_plain(group)}**")
        widgets += [WIDGETS[type(field)](gradio, field) for field in members]
    return widgets


def _text_box(gradio: Gradio, field: TextField) -> Widget:
    return gradio.Textbox(
        field.value, label=field.label, info=field.hint or None, lines=field.lines
    )


def _number(gradio: Gradio, field: NumberField) -> Widget:
    return gradio.Number(field.value, label=field.label, info=field.hint or None)


def _slider(gradio: Gradio, field: SliderField) -> Widget:
    return gradio.Slider(
        field.low,
        field.high,
        field.value,
        step=field.step,
        label=field.label,
        info=field.hint or None,
    )


def _choice(gradio: Gradio, field: ChoiceField) -> Widget:
    return gradio.Dropdown(
        list(field.choices), value=field.value, label=field.label, info=field.hint or None
    )


def _choices(gradio: Gradio, field: ChoicesField) -> Widget:
    return gradio.CheckboxGroup(
        list(field.choices), value=list(field.value), label=field.label, info=field.hint or None
    )


WIDGETS: Mapping[type, Callable[[Gradio, Any], Widget]] = {
    TextField: _text_box,
    NumberField: _number,
    SliderField: _slider,
    ChoiceField: _choice,
    ChoicesField: _choices,
}


def _theme(gradio: Gradio) -> Any:
    theme = gradio.themes.Default(primary_hue="blue", font=FONTS, font_mono=MONOSPACE)
    return theme.set(  # of hints below labels, which are too pale by default
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_400"
    )


def _plain(text: str) -> str:
    """Return a text whose marks Markdown shows as they are."""
    return "".join(f"\\{c}" if c in MARKS else c for c in text)


def _launch(gradio: Gradio, page: Any, port: int, *, browser: bool) -> None:
    """Serve a page at ``port``, or without one at the first that is free.

    Raises:
        InputError: it is taken.
    """
    for number in _free_ports(port):
        # taken by another program since it was found free: go on to the next
        with suppress(OSError):
            page.launch(
                server_name=HOST,
                server_port=number,
                share=False,
                inbrowser=browser,
                prevent_thread_lock=True,
                quiet=True,
                ssr_mode=False,
                footer_links=[],
                theme=_theme(gradio),
                css=STYLE,
                max_file_size=1,  # byte: no page takes a file
                app_kwargs={"middleware": [_own_host()]},
            )
            return
    raise _taken(port)


def _own_host() -> Any:
    """Return a check of requests: only those that name this machine as their host are answered.

    A page of another site could otherwise read answers under a name that leads here.
    """
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    return Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])


def _taken(port: int) -> InputError:
    if port:
        return InputError(f"--port {port}: another program has it; give another number, or 0")
    last = FIRST_PORT + PORTS - 1
    return InputError(f"the ports {FIRST_PORT} to {last} are taken; give --port another number")


def _free_ports(port: int) -> Iterator[int]:
    """Yield ``port``, or without one all of the range, as long as they are free."""
    for number in (port,) if port else range(FIRST_PORT, FIRST_PORT + PORTS):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((HOST, number))
            except OSError:
                continue
        yield number


@contextmanager
def _without_proxy() -> Iterator[None]:
    """Let requests to this machine pass by a proxy of the environment while the block runs."""
    before = os.environ.get(NO_PROXY)
    os.environ[NO_PROXY] = ",".join(filter(None, (before, HOST)))
    try:
        yield
    finally:
        if before is None:
            del os.environ[NO_PROXY]
        else:
            os.environ[NO_PROXY] = before
