"""What is written as arrays of bytes: numbers, images, figures, sound."""
from __future__ import annotations

import io
import struct
import wave
import zlib
from typing import Any

import numpy as np

from fusetorch.tensor import Tensor


def make_np(x: Any) -> np.ndarray:
    """A tensor, an array, a list or a number as an array of at least one dimension; ``NotImplementedError`` for anything else."""
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        return np.atleast_1d((x.float() if x.dtype.name in ("bfloat16", "float16") else x).numpy())
    if isinstance(x, (np.ndarray, list)):
        return np.atleast_1d(np.asarray(x))
    if np.isscalar(x):
        return np.array([x])
    raise NotImplementedError(f"Got {type(x)}, but numpy array or torch tensor are expected.")


def png(image: np.ndarray) -> bytes:
    """An image (height, width, 1, 3 or 4 channels; uint8) as a PNG file.

    Source: Portable Network Graphics (PNG) Specification, W3C.
    """
    height, width, channels = image.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = image.reshape(height, -1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b"")


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Colours in [0, 1] as uint8; those that are uint8 already stay."""
    scale = 1 if image.dtype == np.uint8 else 255
    return (image.astype(np.float32) * scale).clip(0, 255).astype(np.uint8)


def grid(images: np.ndarray, columns: int = 8) -> np.ndarray:
    """Images (n, 3, height, width) side by side, as one (3, height, width)."""
    n, channels, height, width = images.shape
    columns = min(n, columns)
    rows = -(-n // columns)
    canvas = np.zeros((channels, rows, height, columns, width), images.dtype)
    for k in range(n):
        canvas[:, k // columns, :, k % columns] = images[k]
    return canvas.reshape(channels, rows * height, columns * width)


def to_hwc(image: np.ndarray, order: str) -> np.ndarray:
    """An image, or a batch of them as a grid, whose dimensions ``order`` names (``"CHW"``, ``"NHWC"``, ``"HW"``), as (height, width,
    channels) with three channels for a grey one."""
    order = order.upper()
    if len(set(order)) != len(order) or set(order) - set("NCHW"):
        raise AssertionError(f"You can not use the same dimension shordhand twice. input_format: {order}")
    if image.ndim != len(order):
        raise AssertionError(f"size of input tensor and input format are different. tensor shape: {image.shape}, input_format: {order}")
    if len(order) == 4:
        image = image.transpose([order.index(c) for c in "NCHW"])
        image = grid(np.repeat(image, 3, 1) if image.shape[1] == 1 else image)
        return image.transpose(1, 2, 0)
    if len(order) == 3:
        image = image.transpose([order.index(c) for c in "HWC"])
        return np.repeat(image, 3, 2) if image.shape[2] == 1 else image
    image = image.transpose([order.index(c) for c in "HW"])
    return np.stack([image] * 3, 2)


def figure_image(figures: Any, close: bool = True) -> np.ndarray:
    """Matplotlib figures drawn: (3, height, width), or (n, 3, height, width) for a list of them."""
    import matplotlib.pyplot as plt
    from matplotlib.backends import backend_agg

    def drawn(figure: Any) -> np.ndarray:
        canvas = backend_agg.FigureCanvasAgg(figure)
        canvas.draw()
        image = np.asarray(canvas.buffer_rgba())[..., :3].transpose(2, 0, 1).copy()
        if close:
            plt.close(figure)
        return image

    return np.stack([drawn(f) for f in figures]) if isinstance(figures, (list, tuple)) else drawn(figures)


def wav(samples: np.ndarray, rate: int) -> bytes:
    """One channel of samples in [-1, 1] as a WAV file of 16 bits."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767.0).astype("<i2").tobytes())
    return out.getvalue()


def gif(frames: np.ndarray, fps: float) -> bytes:
    """Frames (t, height, width, channels; uint8) as an animated GIF; needs Pillow."""
    from PIL import Image
    pictures = [Image.fromarray(f if f.shape[2] > 1 else f[..., 0]) for f in frames]
    out = io.BytesIO()
    pictures[0].save(out, "GIF", save_all=True, append_images=pictures[1:], duration=int(1000 / fps), loop=0)
    return out.getvalue()


def videos(v: np.ndarray) -> np.ndarray:
    """Videos (n, t, c, h, w) side by side, as (t, height, width, c)."""
    n, t, c, h, w = v.shape
    columns = 2 ** ((n.bit_length() + (n & (n - 1) != 0)) // 2) if n > 1 else 1
    rows = -(-n // columns)
    padded = np.concatenate([v, np.zeros((rows * columns - n, t, c, h, w), v.dtype)])
    return padded.reshape(rows, columns, t, c, h, w).transpose(2, 0, 4, 1, 5, 3).reshape(t, rows * h, columns * w, c)
