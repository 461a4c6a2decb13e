"""OpenAI's content parts, tool calls and annotations, one at a time, to blocks and back.

Each kind has a reader, which gives a block or None where the shape is not the documented one, and a writer,
which gives the plain documented shape. What a reader met beyond what the writer will say is kept in the
block's `extra` and merged back in (`leftover`, `merge`), so nothing is lost and nothing is kept twice. A part that
cannot be read is kept whole in a DataBlock. No value is shared between what is read and what is made.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any, Literal

from threadline.model.blocks import (
    AnnotationRef,
    AudioBlock,
    Block,
    DataBlock,
    DocumentBlock,
    ErrorBlock,
    ImageBlock,
    MediaRef,
    RefusalBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
    VideoBlock,
)

Style = Literal["spaced", "ascii", "spaced_ascii", "object"] | None
Wire = dict[str, Any]

_STYLES: tuple[Style, ...] = (None, "spaced", "ascii", "spaced_ascii")
_DATA_URL = re.compile(r"data:([^;,]+);base64,(.*)", re.DOTALL)
_AUDIO_FORMATS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav"}


def copy_json(value: Any) -> Any:
    """A copy that shares no container with `value`."""
    if type(value) is dict:
        return {key: copy_json(item) for key, item in value.items()}
    if type(value) is list:
        return [copy_json(item) for item in value]
    if value is None or type(value) in (str, int, float, bool):
        return value
    return copy.deepcopy(value)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal in their types too: 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        if len(one) != len(other):
            return False
        # Texts are the keys of nearly every dict; 1 and True as keys are told apart by position.
        if not all(type(key) is str for key in one):
            pairs = zip(one.items(), other.items(), strict=True)
            return all(same(a, c) and same(b, d) for (a, b), (c, d) in pairs)
        return all(key in other and same(item, other[key]) for key, item in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return repr(one) == repr(other)
    return bool(one == other)


def leftover(wire: Wire, plain: Wire) -> Wire | None:
    """What `merge` must add to `plain` to give `wire`; None when nothing can, since it only adds."""
    if plain.keys() - wire.keys() or not all(type(key) is str for key in wire):
        return None
    extra: Wire = {}
    for key, value in wire.items():
        if key in plain and same(value, plain[key]):
            continue
        if type(value) is dict and type(plain.get(key)) is dict:
            inner = leftover(value, plain[key])
            if inner is None:
                return None
            extra[key] = inner
        else:
            extra[key] = copy_json(value)
    return extra


def merge(plain: Wire, extra: Wire | None) -> Wire:
    """`plain` with `extra` added to it, at every depth. Changes and returns `plain`."""
    for key, value in (extra or {}).items():
        if type(value) is dict and type(plain.get(key)) is dict:
            merge(plain[key], value)
        else:
            plain[key] = copy_json(value)
    return plain


# --- content parts ----------------------------------------------------------------------------------------


def read_part(part: Wire) -> Block:
    """The block of a content part."""
    kind = part.get("type")
    reader = _READERS.get(kind) if type(kind) is str else None
    block = reader(part) if reader else None
    extra = leftover(part, _plain_part(block)) if block else None
    if block is None or extra is None:
        return DataBlock.model_construct(extra=copy_json(part))
    if extra or isinstance(block, RefusalBlock):
        block.__dict__["extra"] = extra
    return block


def write_part(block: Block) -> Wire | None:
    """The content part of a block; None for a block that has no place in the content."""
    part = _plain_part(block)
    extra = block.__dict__.get("extra")
    return (
        merge(part, extra) if part or (extra is not None and isinstance(block, DataBlock)) else None
    )


def _read_text(part: Wire) -> Block | None:
    text = part.get("text")
    return TextBlock(text=text) if type(text) is str else None


def _read_refusal(part: Wire) -> Block | None:
    text = part.get("refusal")
    return RefusalBlock(text=text) if type(text) is str else None


def _read_image(part: Wire) -> Block | None:
    url = _inner(part, "image_url").get("url")
    return ImageBlock(media=_media_of_url(url)) if type(url) is str else None


def _read_video(part: Wire) -> Block | None:
    url = _inner(part, "video_url").get("url")
    return VideoBlock(media=_media_of_url(url)) if type(url) is str else None


def _read_audio(part: Wire) -> Block | None:
    sound = _inner(part, "input_audio")
    data, form = sound.get("data"), sound.get("format")
    if type(data) is not str or type(form) is not str:
        return None
    return AudioBlock(media=MediaRef(kind="data", data_base64=data, mime_type=f"audio/{form}"))


def _read_file(part: Wire) -> Block | None:
    file = _inner(part, "file")
    file_id, data, name = file.get("file_id"), file.get("file_data"), file.get("filename")
    name = name if type(name) is str else None
    if type(file_id) is str:
        return DocumentBlock(media=MediaRef(kind="file_id", file_id=file_id, filename=name))
    if type(data) is not str:
        return None
    mime, data = found.groups() if (found := _DATA_URL.fullmatch(data)) else (None, data)
    media = MediaRef(kind="data", data_base64=data, mime_type=mime, filename=name)
    return DocumentBlock(media=media)


_READERS: dict[str, Callable[[Wire], Block | None]] = {
    "text": _read_text,
    "refusal": _read_refusal,
    "image_url": _read_image,
    "video_url": _read_video,
    "input_audio": _read_audio,
    "file": _read_file,
}


def _inner(part: Wire, key: str) -> Wire:
    value = part.get(key)
    return value if type(value) is dict else {}


def _media_of_url(url: str) -> MediaRef:
    if found := _DATA_URL.fullmatch(url):
        mime, data = found.groups()
        return MediaRef(kind="data", data_base64=data, mime_type=mime)
    return MediaRef(kind="url", url=url)


def _plain_part(block: Block) -> Wire:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text}
    if isinstance(block, RefusalBlock):
        return {"type": "refusal", "refusal": block.text}
    if isinstance(block, (ImageBlock, VideoBlock)):
        return _link_part(block)
    if isinstance(block, AudioBlock) and block.media.kind == "data":
        form = (block.media.mime_type or "audio/wav").removeprefix("audio/")
        form = _AUDIO_FORMATS.get(form, form)
        return {
            "type": "input_audio",
            "input_audio": {"data": block.media.data_base64, "format": form},
        }
    if isinstance(block, (AudioBlock, DocumentBlock)):
        return _file_part(block.media, block.readable())
    if isinstance(block, DataBlock) and block.data_base64 is not None:
        mime = block.mime_type or "application/octet-stream"
        return _file_part(MediaRef(kind="data", data_base64=block.data_base64, mime_type=mime), "")
    if isinstance(block, DataBlock) and block.media is not None:
        return _file_part(block.media, "")
    if isinstance(block, (ErrorBlock, ToolResultBlock)):
        return {"type": "text", "text": block.readable()}
    return {}


def _link_part(block: ImageBlock | VideoBlock) -> Wire:
    media = block.media
    if media.kind == "file_id":
        return _file_part(media, "")
    kind, mime = ("image_url", "image/png") if block.type == "image" else ("video_url", "video/mp4")
    url = media.url
    if media.kind == "data":
        url = f"data:{media.mime_type or mime};base64,{media.data_base64 or ''}"
    return {"type": kind, kind: {"url": url}}


def _file_part(media: MediaRef, readable: str) -> Wire:
    named = {} if media.filename is None else {"filename": media.filename}
    if media.kind == "file_id":
        return {"type": "file", "file": {"file_id": media.file_id, **named}}
    if media.kind == "data":
        data = media.data_base64 or ""
        data = f"data:{media.mime_type};base64,{data}" if media.mime_type else data
        return {"type": "file", "file": {"file_data": data, **named}}
    # A chat message cannot point at a file on the web: say what is known of it.
    return {"type": "text", "text": readable or media.url or ""}


# --- tool calls -------------------------------------------------------------------------------------------


def read_call(call: Any, legacy: bool = False) -> ToolCallBlock | None:
    """The block of an entry of `tool_calls`, or of a `function_call` (`legacy`); None if it cannot be read."""
    if type(call) is not dict:
        return None
    kind = "function_call" if legacy else call.get("type", "")
    if type(kind) is not str or (kind == "function_call") is not legacy:
        return None
    body = call if legacy else _inner(call, "custom" if kind == "custom" else "function")
    block = ToolCallBlock(
        id="" if legacy else _str(call.get("id")), name=_str(body.get("name")), tool_type=kind
    )
    if kind == "custom":
        block.args = {"input": _str(body.get("input"))}
    else:
        block.args, block.args_text, block.args_style = read_arguments(body.get("arguments"))
    extra = leftover(call, _plain_call(block))
    if extra is None:
        return None
    block.extra = extra or None
    return block


def write_call(block: ToolCallBlock) -> Wire:
    """The entry of `tool_calls` (or the `function_call`) of a block."""
    return merge(_plain_call(block), block.extra)


def _plain_call(block: ToolCallBlock) -> Wire:
    body: Wire = {"name": block.name} if block.name else {}
    if block.tool_type == "custom" and type(block.args.get("input")) is str:
        body["input"] = block.args["input"]
    else:
        body["input" if block.tool_type == "custom" else "arguments"] = write_arguments(block)
    if block.tool_type == "function_call":
        return body
    call: Wire = {"id": block.id} if block.id else {}
    if block.tool_type:
        call["type"] = block.tool_type
    call["custom" if block.tool_type == "custom" else "function"] = body
    return call


def given_call(call: Wire) -> Wire:
    """An entry of `tool_calls` from a dict that a user gave: theirs as it is, or made from name and args."""
    if not {"function", "custom", "type"} & call.keys() and type(call.get("name")) is str:
        args = call.get("args", call.get("arguments", {}))
        text = args if type(args) is str else dump_json(args)
        head = {"id": call["id"]} if call.get("id") else {}
        return {**head, "type": "function", "function": {"name": call["name"], "arguments": text}}
    return merge({}, call)


def read_arguments(arguments: Any) -> tuple[Wire, str | None, Style]:
    """The parsed arguments, their exact text unless the style gives it back, and the style."""
    if type(arguments) is dict and all(type(key) is str for key in arguments):
        return copy_json(arguments), None, "object"
    if type(arguments) is not str:
        return {}, None, None
    args = _parse(arguments)
    for style in _STYLES if args is not None else ():
        if dump_json(args, style) == arguments:
            return args or {}, None, style
    return args or {}, arguments, None


def write_arguments(block: ToolCallBlock) -> Any:
    """The text of a call's arguments: the exact one it came with, unless `args` was changed since."""
    if block.args_text is not None and same(_parse(block.args_text) or {}, block.args):
        return block.args_text
    return (
        copy_json(block.args)
        if block.args_style == "object"
        else dump_json(block.args, block.args_style)
    )


def _parse(text: str) -> Wire | None:
    try:
        value = json.loads(text)
        json.dumps(
            value, allow_nan=False
        )  # Infinity and NaN are no JSON, and 1e999 reads as the former.
    except (ValueError, RecursionError):
        return None
    return value if type(value) is dict else None


def dump_json(value: Any, style: Style = None) -> str:
    """The JSON text of a value in a style; what JSON does not know becomes its `str`."""
    separators = (", ", ": ") if style in ("spaced", "spaced_ascii") else (",", ":")
    ascii_only = style in ("ascii", "spaced_ascii")
    return json.dumps(value, separators=separators, ensure_ascii=ascii_only, default=str)


def _str(value: Any) -> str:
    return value if type(value) is str else ""


# --- annotations ------------------------------------------------------------------------------------------


def read_citation(wire: Any) -> AnnotationRef | None:
    """The reference of a `url_citation`; its `extra` is never None, which is how `write_citation` knows it."""
    if type(wire) is not dict or wire.get("type") != "url_citation":
        return None
    body = _inner(wire, "url_citation")
    start, end = body.get("start_index"), body.get("end_index")
    ref = AnnotationRef(
        url=_str(body.get("url")) or None,
        title=_str(body.get("title")) or None,
        index=start if type(start) is int else None,
        end_index=end if type(end) is int else None,
    )
    ref.extra = leftover(wire, _plain_citation(ref))
    return None if ref.extra is None else ref


def write_citation(ref: AnnotationRef) -> Wire:
    """The `url_citation` of a reference."""
    return merge(_plain_citation(ref), ref.extra)


def _plain_citation(ref: AnnotationRef) -> Wire:
    body = {
        "url": ref.url,
        "title": ref.title,
        "start_index": ref.index,
        "end_index": ref.end_index,
    }
    known = {key: value for key, value in body.items() if value is not None}
    return {"type": "url_citation", "url_citation": known}
