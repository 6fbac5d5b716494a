"""Any file becomes the right upright RGB pixels, or an error with its name."""

from __future__ import annotations

import io
import re
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image
from timm.data import create_transform

from benchmark.errors import PoolError, UnreadablePicture
from benchmark.model_card import InputSpec
from benchmark.model_sources import load_card
from stimuli.pictures import BACKGROUND, canonical_crop, decode, model_view, resize_to, to_pixels
from tests.conftest import paint_picture

PAINTED = paint_picture(0)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels_of(image: Image.Image, kind: str, **options: object) -> np.ndarray:
    return to_pixels(decode(encode(image, kind, **options), "it")).astype(int)


def ramp(low: float, high: float, kind: type) -> np.ndarray:
    return np.linspace(low, high, 16 * 20).reshape(16, 20).astype(kind)


# -------------------------------------------------------------------- modes


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_ordinary_pixels_arrive_as_they_are(kind: str) -> None:
    assert np.array_equal(pixels_of(Image.fromarray(PAINTED), kind), PAINTED)


@pytest.mark.parametrize("ink", [(0, 0, 0, 0), (255, 0, 0, 0), (0, 128, 255, 0), (30, 60, 90, 100), (0, 0, 0, 255)])
@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_cmyk_ink_becomes_its_light(kind: str, ink: tuple[int, int, int, int]) -> None:
    image = Image.new("CMYK", (32, 32), ink)
    light = [(255 - colour) * (255 - ink[3]) / 255 for colour in ink[:3]]
    assert np.abs(pixels_of(image, kind) - light).max() <= 4


def test_greyscale_has_three_equal_channels() -> None:
    grey = ramp(0, 255, np.uint8)
    assert np.array_equal(pixels_of(Image.fromarray(grey), "PNG"), np.repeat(grey[..., None], 3, axis=2))


def test_black_and_white_becomes_0_and_255() -> None:
    bits = PAINTED[..., 0] > 128
    assert np.array_equal(pixels_of(Image.fromarray(bits), "PNG")[..., 1], np.where(bits, 255, 0))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
def test_palette_colours_are_looked_up(kind: str) -> None:
    image = Image.fromarray(PAINTED).quantize(17)
    assert np.array_equal(pixels_of(image, kind), to_pixels(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("highest", [65535, 20000, 200])
def test_sixteen_bits_are_scaled_by_their_types_range(kind: str, highest: int) -> None:
    values = ramp(0, highest, np.uint16)
    expected = np.rint(values / 257)
    assert np.abs(pixels_of(Image.fromarray(values), kind)[..., 0] - expected).max() <= 1


def test_more_than_sixteen_bits_are_scaled_by_their_own_range_and_not_cut_off() -> None:
    values = ramp(-1_000_000, 3_000_000, np.int32)
    expected = np.rint((values + 1_000_000.0) / 4_000_000 * 255)
    assert np.abs(pixels_of(Image.fromarray(values), "TIFF")[..., 0] - expected).max() <= 1


def test_eight_bits_in_wide_integers_keep_their_values() -> None:
    values = ramp(0, 255, np.int32)
    assert np.array_equal(pixels_of(Image.fromarray(values), "TIFF")[..., 0], values)


def test_floats_between_0_and_1_are_scaled_by_255() -> None:
    values = ramp(0.2, 0.6, np.float32)
    assert np.array_equal(pixels_of(Image.fromarray(values), "TIFF")[..., 2], np.rint(values * 255))


def test_other_floats_are_scaled_by_their_own_range() -> None:
    values = ramp(-3, 5, np.float32)
    assert np.array_equal(pixels_of(Image.fromarray(values), "TIFF")[..., 0], np.rint((values + 3.0) / 8 * 255))


def test_a_uniform_float_picture_is_uniform() -> None:
    assert np.ptp(pixels_of(Image.fromarray(np.full((9, 9), 7.0, np.float32)), "TIFF")) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_float_picture_that_is_not_finite_is_refused_by_name(bad: float) -> None:
    values = ramp(0, 1, np.float32)
    values[3, 3] = bad
    with pytest.raises(UnreadablePicture, match=r"odd\.tif.*NaN or infinite"):
        decode(encode(Image.fromarray(values), "TIFF"), "odd.tif")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparent_parts_show_the_grey_of_the_page(kind: str) -> None:
    alpha = ramp(0, 255, np.uint8)
    colour = np.broadcast_to(np.array([250, 10, 90], np.uint8), (16, 20, 3))
    image = Image.fromarray(np.dstack([colour, alpha]))
    share = alpha[..., None] / 255
    expected = share * colour + (1 - share) * np.array(BACKGROUND)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert np.abs(pixels_of(image, kind, **options) - expected).max() <= 1


def test_transparent_grey_and_transparent_palette_entries_show_the_grey_of_the_page() -> None:
    grey = Image.merge("LA", [Image.new("L", (8, 8), 240), Image.new("L", (8, 8), 0)])
    assert (pixels_of(grey, "PNG") == BACKGROUND).all()
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert (pixels_of(palette, "PNG", transparency=1) == BACKGROUND).all()
    assert (pixels_of(palette, "PNG", transparency=0) == (255, 0, 0)).all()
    keyed = Image.fromarray(np.broadcast_to(np.array([1, 2, 3], np.uint8), (8, 8, 3)).copy())
    assert (pixels_of(keyed, "PNG", transparency=(1, 2, 3)) == BACKGROUND).all()


def test_every_mode_gives_eight_bit_rgb_of_the_same_size() -> None:
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LA", "I;16", "I", "F"):
        image = Image.new(mode, (13, 7))
        decoded = decode(encode(image, "TIFF"), mode)
        assert (decoded.mode, decoded.size) == ("RGB", (13, 7)), mode


# -------------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_rotated_picture_stands_upright(kind: str, orientation: int) -> None:
    upright = np.zeros((40, 64, 3), np.uint8)
    upright[:20, :32], upright[:20, 32:], upright[20:, :32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    # How a camera that was held in this way stores the upright picture (the EXIF standard, tag 0x0112).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    seen = pixels_of(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    assert seen.shape == upright.shape
    assert np.abs(seen - upright).max() <= 6


# -------------------------------------------------------------------- files that can't be read


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_truncated_file_is_refused_by_name(kind: str) -> None:
    whole = encode(Image.fromarray(PAINTED), kind)
    with pytest.raises(UnreadablePicture, match="half of it"):
        decode(whole[: len(whole) // 2], "half of it")


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_what_is_no_picture_is_refused_by_name_with_what_to_do(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadablePicture, match=re.escape(str(path))) as caught:
        decode(path, str(path))
    assert isinstance(caught.value, PoolError)
    assert "--skip-unreadable" in str(caught.value)


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePicture, match=r"gone\.png is missing"):
        decode(tmp_path / "gone.png", "gone.png")


def test_a_decompression_bomb_is_refused_by_name_before_it_goes_off() -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(UnreadablePicture, match=r"bomb\.png.*pixels"):
        decode(bomb, "bomb.png")


def test_a_damaged_tag_beside_the_orientation_does_no_harm() -> None:
    """Writing EXIF data anew fails on a signed number in an unsigned tag; turning the picture does not need it."""
    tiff = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", 2)
    tiff += struct.pack("<HHIi", 0x100, 9, 1, -1) + struct.pack("<HHIHH", 0x112, 3, 1, 6, 0) + struct.pack("<I", 0)
    content = encode(Image.fromarray(PAINTED), "JPEG", exif=b"Exif\x00\x00" + tiff)
    with Image.open(io.BytesIO(content)) as image:
        assert image.getexif()[0x112] == 6
        expected = to_pixels(image.transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(to_pixels(decode(content, "it")), expected)


@pytest.mark.parametrize("failure", [NotImplementedError("DDS kind 99"), struct.error("bad"), KeyError("tag"),
                                     MemoryError(), RecursionError("deep"), AttributeError("no")])  # fmt: skip
def test_whatever_a_decoder_raises_is_an_unreadable_picture_with_its_name(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Image.Image) -> None:
        raise failure

    content = encode(Image.fromarray(PAINTED), "PNG")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(UnreadablePicture, match=r"odd\.png can't be read: .*--skip-unreadable"):
        decode(content, "odd.png")


def test_a_dds_of_an_unsupported_kind_is_refused_by_name() -> None:
    header = struct.pack("<4sIIIIIII", b"DDS ", 124, 0x1007, 8, 8, 0, 0, 0) + bytes(44)
    header += struct.pack("<II4sIIIII", 32, 4, b"ZZZZ", 0, 0, 0, 0, 0) + bytes(20)
    with pytest.raises(UnreadablePicture, match=r"strange\.dds"):
        decode(header + bytes(64), "strange.dds")


def test_postscript_is_never_handed_to_another_program() -> None:
    with pytest.raises(UnreadablePicture, match="no picture"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "it")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_used_and_that_can_be_told(kind: str) -> None:
    frames = [Image.fromarray(paint_picture(number)) for number in (0, 1, 2)]
    options = {"lossless": True} if kind == "WEBP" else {}
    moving = decode(encode(frames[0], kind, save_all=True, append_images=frames[1:], **options), "it")
    still = decode(encode(frames[0], kind, **options), "it")
    assert np.array_equal(to_pixels(moving), to_pixels(still))
    assert (moving.info, still.info) == ({"frames": "many"}, {})


WHOLE = {kind: encode(Image.fromarray(PAINTED), kind) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")}


@settings(max_examples=300, deadline=None)
@given(kind=some.sampled_from(sorted(WHOLE)), data=some.data())
def test_a_damaged_file_gives_a_picture_or_an_error_with_its_name(kind: str, data: some.DataObject) -> None:
    content = bytearray(WHOLE[kind])
    # Most of what a decoder trips over stands in the first bytes.
    places = some.one_of(some.integers(0, 80), some.integers(0, len(content) - 1))
    for _ in range(data.draw(some.integers(1, 4))):
        content[data.draw(places)] = data.draw(some.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # decoders warn about damage that they can get over
        try:
            decoded = decode(bytes(content), "damaged")
        except UnreadablePicture as error:
            assert "damaged" in str(error)
        else:
            assert decoded.mode == "RGB"


# -------------------------------------------------------------------- crops


SIZES = [(500, 375), (375, 500), (256, 256), (224, 224), (640, 333), (333, 501), (100, 80), (1024, 257), (257, 999)]


@pytest.mark.parametrize("size", SIZES)
def test_the_canonical_crop_is_the_papers_resize_256_and_center_crop_224(size: tuple[int, int]) -> None:
    image = Image.fromarray(paint_picture(1, *size))
    transforms = torchvision.transforms
    paper = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    assert np.array_equal(to_pixels(canonical_crop(image, 224)), to_pixels(paper(image)))


@settings(max_examples=40, deadline=None)
@given(width=some.integers(1, 400), height=some.integers(1, 400), number=some.integers(0, 5))
def test_any_shape_of_picture_is_cropped_as_the_paper_crops_it(width: int, height: int, number: int) -> None:
    image = Image.fromarray(paint_picture(number, 40, 30)).resize((width, height))
    transforms = torchvision.transforms
    paper = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(56)])
    if max(width, height) < 20 * min(width, height):
        assert np.array_equal(to_pixels(canonical_crop(image, 56)), to_pixels(paper(image)))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "convnext_b"])
@pytest.mark.parametrize("size", [(500, 375), (333, 501), (300, 300)])
def test_a_models_own_view_is_timms_evaluation_transform(name: str, size: tuple[int, int]) -> None:
    spec = load_card(name).input
    image = Image.fromarray(paint_picture(2, *size))
    transform = create_transform(
        (3, spec.size, spec.size), interpolation=spec.interpolation, crop_pct=spec.crop_ratio, normalize=False
    )
    expected = np.rint(transform(image).numpy().transpose(1, 2, 0)).astype(int)
    assert np.array_equal(to_pixels(model_view(image, spec)).astype(int), expected)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 40), (40, 1), (7, 7)])
def test_tiny_pictures_are_enlarged_to_a_whole_crop(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (12, 200, 99))
    crop = to_pixels(canonical_crop(image, 224))
    assert crop.shape == (224, 224, 3)
    assert (crop == (12, 200, 99)).all()


@pytest.mark.parametrize("size", [(1, 12_000), (30_000, 2)])
def test_a_thin_picture_is_cropped_before_it_is_resized(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    image.putdata([(n % 7 * 30, n % 5 * 50, n % 11 * 20) for n in range(size[0] * size[1])])
    tracemalloc.start()
    crop = to_pixels(canonical_crop(image, 224))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert crop.shape == (224, 224, 3)
    assert most < 2**24
    # The middle of it, enlarged, is what the whole would have shown there.
    middle, short = max(size) // 2, min(size)
    box = (0, middle - 4, 1, middle + 4) if size[0] < size[1] else (middle - 8, 0, middle + 8, 2)
    part = image.crop(box)
    part = part.resize((256 * part.width // short, 256 * part.height // short), Image.Resampling.BILINEAR)
    left, top = (part.width - 224) // 2, (part.height - 224) // 2
    assert np.abs(crop.astype(int) - to_pixels(part.crop((left, top, left + 224, top + 224)))).max() <= 2


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("ratio", [0.9, 1.0, 1.15])
@pytest.mark.parametrize("size", [(500, 375), (101, 300), (60, 60)])
def test_every_crop_mode_of_timm_is_applied_as_timm_applies_it(mode: str, ratio: float, size: tuple[int, int]) -> None:
    spec = InputSpec.model_validate(
        {"size": 64, "crop_ratio": ratio, "crop_mode": mode, "interpolation": "bicubic", "mean": (0.5, 0.4, 0.3),
         "std": (0.2, 0.2, 0.2)}
    )  # fmt: skip
    image = Image.fromarray(paint_picture(2, *size))
    transform = create_transform((3, 64, 64), interpolation="bicubic", crop_pct=ratio, crop_mode=mode,
                                 mean=spec.mean, std=spec.std, normalize=False)  # fmt: skip
    expected = np.rint(transform(image).numpy().transpose(1, 2, 0)).astype(int)
    assert np.array_equal(to_pixels(model_view(image, spec)).astype(int), expected)


def test_the_common_crop_mode_leaves_hashes_of_older_studies_as_they_were() -> None:
    spec = load_card("efficientnet_lite0").input
    assert set(spec.model_dump()) == {"size", "crop_ratio", "interpolation", "mean", "std"}
    assert spec.model_copy(update={"crop_mode": "squash"}).model_dump()["crop_mode"] == "squash"


def test_the_crop_is_taken_from_the_centre() -> None:
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 64:] = 255
    crop = to_pixels(canonical_crop(Image.fromarray(pixels), 56)).astype(int)
    assert np.array_equal(crop, 255 - crop[:, ::-1])


def test_resizing_to_the_same_size_changes_no_pixel() -> None:
    image = Image.fromarray(paint_picture(3, 48, 48))
    assert np.array_equal(to_pixels(resize_to(image, 48)), to_pixels(image))
    assert resize_to(image, 32).size == (32, 32)


def test_a_models_view_has_the_size_of_its_input() -> None:
    spec = InputSpec(size=60, crop_ratio=0.9, interpolation="bicubic", mean=(0, 0, 0), std=(1, 1, 1))
    assert model_view(Image.new("RGB", (300, 70)), spec).size == (60, 60)
