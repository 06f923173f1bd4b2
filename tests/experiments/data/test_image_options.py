"""Options of image files: sizes, channels, transparency, depth, damage, classes and formats."""

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from experiments.data.image_files import ImageFiles
from experiments.data.image_options import ExactReading, ImageReading
from experiments.data.image_resizing import RESIZES
from experiments.data.readers import read, read_training_set
from experiments.data.records import describe
from tests.experiments.data.test_image_files import grey, png, saved
from univae.errors import InputError


def read_with(path: Path, **options: object) -> object:
    return read(path, ImageFiles(ImageReading(**options)))


def notes_of(folder: Path, **options: object) -> list[str]:
    data = read(folder, ImageFiles(ImageReading(**options)))
    return [note.removeprefix(f"{data.name}: ") for note in data.notes]


# Formats


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tiff", "gif", "tif", "PNG"])
def test_every_lossless_format_gives_back_its_pixels(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    saved(tmp_path / f"a.{suffix}", grey(8, 6), **options)
    assert np.array_equal(read(tmp_path).values[0, 0], grey(8, 6))


def test_an_image_is_known_by_its_first_bytes_where_its_name_has_no_suffix(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", grey(8, 6))
    (tmp_path / "a.png").rename(tmp_path / "0001")
    (tmp_path / "README").write_text("about these images")
    data = read(tmp_path)
    assert len(data) == 1
    assert data.notes == (f"{tmp_path.name}: other files left out: 1 (README)",)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz"])
def test_a_tar_is_read_as_its_folder_is(tmp_path: Path, suffix: str) -> None:
    for number, name in enumerate(["cat/1.png", "dog/0.png"]):
        saved(tmp_path / "set" / name, grey(2, 8, 6)[number])
    with tarfile.open(tmp_path / f"pack{suffix}", "w:gz" if "gz" in suffix else "w") as archive:
        archive.add(tmp_path / "set", "./set")
    # the folder that all images share is none of their classes
    data = read(tmp_path / f"pack{suffix}")
    assert np.array_equal(data.values, read(tmp_path / "set").values)
    assert (data.name, data.class_names) == ("pack", ("cat", "dog"))


def test_names_in_an_archive_may_begin_with_a_dot_and_a_slash(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", grey(8, 6))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in ("./cat/a.png", "./dog/b.png"):
            archive.writestr(name, (tmp_path / "a.png").read_bytes())
    assert read(tmp_path / "set.zip").class_names == ("cat", "dog")


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8bjunk"])
def test_a_damaged_tar_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"^[^\n]*{name} cannot be read \([^\n]*$"):
        read(tmp_path / name)


# What is no image, and classes


@pytest.mark.parametrize(
    "other", ["cat/Thumbs.db", "desktop.ini", "README.txt", "labels.csv", "dog/notes.json"]
)
def test_files_of_other_programs_are_counted_and_make_no_class(tmp_path: Path, other: str) -> None:
    for name in ("cat/1.png", "dog/1.png"):
        saved(tmp_path / "set" / name, grey(8, 8))
    (tmp_path / "set" / other).write_bytes(b"\xd0\xcf\x11\xe0")
    data = read(tmp_path / "set")
    assert data.labels.tolist() == [0, 1]
    assert f"set: other files left out: 1 ({other})" in data.notes


def test_a_folder_without_images_names_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(InputError, match=r"holds no image \(only notes.md\); give PNG, JPEG"):
        read(tmp_path)


def test_the_first_folder_is_the_class_and_deeper_ones_are_noted(tmp_path: Path) -> None:
    for name in ("all/cat/old/1.png", "all/cat/2.png", "all/dog/new/3.png"):
        saved(tmp_path / "set" / name, grey(8, 8))
    data = read(tmp_path / "set")
    assert data.labels.tolist() == [0, 0, 1]
    assert data.class_names == ("cat", "dog")
    deep = "set: images lie up to 2 folders deep: the first folder is the class"
    assert data.notes[0] == deep


def test_class_names_are_in_the_record_of_the_data(tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/1.png"):
        saved(tmp_path / name, grey(8, 8))
    record = describe(read(tmp_path), str(tmp_path))
    assert (record["classes"], record["class_names"]) == (2, ("cat", "dog"))


def test_images_in_one_folder_have_no_class(tmp_path: Path) -> None:
    saved(tmp_path / "only" / "1.png", grey(8, 8))
    data = read(tmp_path)
    assert (data.labels, data.class_names) == (None, ())


# Transparency


def half_transparent(path: Path) -> np.ndarray:
    """Save a colour image whose left half is transparent; return its pixels."""
    array = np.zeros((4, 8, 4), np.uint8)
    array[..., :3] = (200, 30, 90)
    array[:, 4:, 3] = 255
    saved(path, array)
    return array


@pytest.mark.parametrize(
    ("background", "colour"),
    [
        ("white", (255, 255, 255)),
        ("black", (0, 0, 0)),
        ("grey", (128, 128, 128)),
        ("#10FF80", (16, 255, 128)),
    ],
)
def test_transparent_pixels_show_the_background_and_opaque_ones_their_colour(
    tmp_path: Path, background: str, colour: tuple[int, int, int]
) -> None:
    half_transparent(tmp_path / "a.png")
    images = read_with(tmp_path, background=background).values
    assert images[0, :, 0, 0].tolist() == list(colour)
    assert images[0, :, 0, 7].tolist() == [200, 30, 90]
    note = f"1 of 1 images with transparent pixels, flattened onto {background}"
    assert note in notes_of(tmp_path, background=background)


def test_a_flattened_pixel_is_the_mean_of_colour_and_background_by_its_alpha(
    tmp_path: Path,
) -> None:
    array = np.random.default_rng(1).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    saved(tmp_path / "a.png", array)
    share = array[..., 3:] / 255
    expected = share * array[..., :3] + (1 - share) * np.array([16, 255, 128])
    flat = np.moveaxis(read_with(tmp_path, background="#10ff80").values[0], 0, -1)
    assert np.abs(flat - expected).max() <= 1  # Pillow rounds twice


def test_alpha_that_is_kept_is_the_last_channel(tmp_path: Path) -> None:
    array = half_transparent(tmp_path / "a.png")
    saved(tmp_path / "b.png", array[..., :3])
    data = read_with(tmp_path, alpha="keep")
    assert data.shape == (4, 4, 8)
    assert np.array_equal(data.values[0], np.moveaxis(array, -1, 0))
    assert (data.values[1, 3] == 255).all()
    assert "1 of 2 images without alpha, read as opaque" in notes_of(tmp_path, alpha="keep")


def test_grey_with_alpha_is_flattened_to_grey_or_kept_as_two_channels(tmp_path: Path) -> None:
    array = np.stack([grey(4, 4), np.full((4, 4), 255, np.uint8)], -1)
    array[0, 0, 1] = 0
    saved(tmp_path / "a.png", array)
    flat = read_with(tmp_path)
    assert flat.shape == (1, 4, 4)
    assert flat.values[0, 0, 0, 0] == 255
    assert np.array_equal(flat.values[0, 0].ravel()[1:], array[..., 0].ravel()[1:])
    assert np.array_equal(read_with(tmp_path, alpha="keep").values[0, 1], array[..., 1])
    assert read_with(tmp_path, background="#ff0000").shape == (3, 4, 4)


def test_an_alpha_that_is_opaque_is_left_out_with_a_note(tmp_path: Path) -> None:
    array = half_transparent(tmp_path / "a.png")
    array[..., 3] = 255
    saved(tmp_path / "a.png", array)
    assert notes_of(tmp_path) == ["1 of 1 images with an alpha channel that is opaque, left out"]
    exact = read(tmp_path, ImageFiles(ExactReading()))
    assert np.array_equal(exact.values[0], np.moveaxis(array[..., :3], -1, 0))


def test_a_transparent_colour_of_a_palette_is_flattened(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=0)
    assert read_with(tmp_path).values[0, :, 0].T.tolist() == [[255, 255, 255], [40, 50, 60]]


# Channels, bits


def test_one_colour_image_makes_all_colour_unless_channels_says_grey(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", grey(8, 6))
    saved(tmp_path / "b.png", grey(8, 6, 3))
    mixed = read_with(tmp_path)
    assert mixed.shape == (3, 8, 6)
    assert (mixed.values[0] == grey(8, 6)).all()
    assert notes_of(tmp_path) == ["1 of 2 images grey, read as colour"]
    dull = read_with(tmp_path, channels="1")
    assert np.array_equal(dull.values[0, 0], grey(8, 6))
    luma = grey(8, 6, 3) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(dull.values[1, 0] - luma).max() <= 1
    assert notes_of(tmp_path, channels="1") == ["1 of 2 images of colour, read as grey"]


def test_grey_images_are_colour_where_three_channels_are_asked_for(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", grey(8, 6))
    assert (read_with(tmp_path, channels="3").values[0] == grey(8, 6)).all()


def test_colour_whose_pixels_are_grey_stays_colour_but_for_channels_1(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", np.repeat(grey(8, 6)[..., None], 3, -1))
    assert read_with(tmp_path).shape == (3, 8, 6)
    assert np.array_equal(read_with(tmp_path, channels="1").values[0, 0], grey(8, 6))


@pytest.mark.parametrize(("channels", "colour"), [(1, 0), (3, 2)])
def test_bits_8_keeps_the_high_byte_of_16_bits(tmp_path: Path, channels: int, colour: int) -> None:
    array = np.random.default_rng(2).integers(0, 65_536, (5, 6, channels)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(png(array, 16, colour))
    data = read_with(tmp_path, bits=8)
    assert np.array_equal(np.moveaxis(data.values[0], 0, -1), array >> 8)
    note = "1 of 1 images of 16 bits a channel, of which the high 8 are kept"
    assert notes_of(tmp_path, bits=8) == [note]
    with pytest.raises(InputError, match=r"got 16 bits a channel; convert it"):
        read(tmp_path, ImageFiles(ExactReading(bits=8)))


def test_a_tiff_of_16_bits_is_reduced_and_one_of_real_numbers_refused(tmp_path: Path) -> None:
    array = np.random.default_rng(2).integers(0, 65_536, (5, 6)).astype(np.uint16)
    saved(tmp_path / "deep" / "a.tiff", array)
    assert np.array_equal(read_with(tmp_path / "deep", bits=8).values[0, 0], array >> 8)
    saved(tmp_path / "real" / "a.tiff", array.astype(np.float32))
    with pytest.raises(InputError, match=r"must be grey or RGB of 8 bits; got 32 bits"):
        read_with(tmp_path / "real", bits=8)


def test_the_colours_of_print_are_converted_and_lab_is_refused(tmp_path: Path) -> None:
    (tmp_path / "print").mkdir()
    red = Image.fromarray(np.full((8, 8, 3), (255, 0, 0), np.uint8))
    red.convert("CMYK").save(tmp_path / "print" / "a.tiff")
    assert read_with(tmp_path / "print").values[0, :, 0, 0].tolist() == [255, 0, 0]
    notes = notes_of(tmp_path / "print")
    assert notes[0].startswith("1 of 1 images of the colours of print (CMYK)")
    with pytest.raises(InputError, match=r"has the colours of print \(CMYK\), which would be lost"):
        read(tmp_path / "print", ImageFiles(ExactReading()))
    (tmp_path / "lab").mkdir()
    Image.new("LAB", (8, 8)).save(tmp_path / "lab" / "a.tiff")
    with pytest.raises(InputError, match=r"must be grey or RGB of 8 bits; got mode LAB; convert"):
        read_with(tmp_path / "lab")


@pytest.mark.parametrize(("profile", "count"), [(b"...Adobe RGB...", 1), (b"...sRGB IEC...", 0)])
def test_a_colour_profile_is_noted_unless_it_is_srgb(
    tmp_path: Path, profile: bytes, count: int
) -> None:
    saved(tmp_path / "a.png", grey(8, 6, 3), icc_profile=profile)
    profiles = [note for note in notes_of(tmp_path) if "colour profile other than sRGB" in note]
    assert len(profiles) == count


# Sizes


def test_sizes_that_differ_are_resized_as_pillow_does(tmp_path: Path) -> None:
    images = {"a.png": grey(20, 30, 3), "b.png": grey(16, 9, 3), "c.png": grey(8, 8, 3)}
    for name, array in images.items():
        saved(tmp_path / name, array)
    filter_ = Image.Resampling.LANCZOS
    plain: dict[str, Callable[[Image.Image], Image.Image]] = {
        "crop": lambda image: ImageOps.fit(image, (8, 8), filter_),
        "pad": lambda image: ImageOps.pad(image, (8, 8), filter_, color=(16, 32, 48)),
        "stretch": lambda image: image.resize((8, 8), filter_),
    }
    assert plain.keys() == RESIZES.keys()
    for name, resize in plain.items():
        data = read_with(tmp_path, size=8, resize=name, background="#102030")
        for row, array in enumerate(images.values()):
            expected = np.asarray(resize(Image.fromarray(array))).astype(int)
            assert np.abs(np.moveaxis(data.values[row], 0, -1) - expected).max() == 0


def test_a_margin_is_the_background_and_transparent_where_alpha_is_kept(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", np.full((2, 8), 100, np.uint8))
    padded = read_with(tmp_path, size=8, resize="pad").values[0, 0]
    assert (padded[:3] == 255).all()
    assert (padded[3:5] == 100).all()
    assert (padded[5:] == 255).all()
    array = np.full((2, 8, 4), 100, np.uint8)
    saved(tmp_path / "a.png", array)
    kept = read_with(tmp_path, size=8, resize="pad", alpha="keep").values[0]
    assert (kept[3, 0] == 0).all()
    assert (kept[:, 3:5] == 100).all()


def test_size_reduces_images_of_one_size_and_notes_what_it_enlarges(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", grey(16, 16))
    assert read_with(tmp_path, size=4).shape == (1, 4, 4)
    assert notes_of(tmp_path, size=4) == []
    assert notes_of(tmp_path, size=32) == ["1 of 1 images enlarged to --size"]


def test_images_of_one_bit_that_are_resized_are_grey(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", np.eye(8, dtype=bool))
    assert read_with(tmp_path, size=8).levels == 2
    assert read_with(tmp_path, size=4).levels == 256


@pytest.mark.parametrize(
    ("options", "names"),
    [({"size": 8}, "--size"), ({"alpha": "keep", "bits": 8}, "--alpha, --bits")],
)
def test_options_of_image_files_are_refused_for_arrays(
    tmp_path: Path, options: dict[str, object], names: str
) -> None:
    np.save(tmp_path / "a.npy", grey(5, 8, 8))
    with pytest.raises(InputError, match=rf"^{names}: for image files only; --data .*a.npy holds"):
        read_training_set(str(tmp_path / "a.npy"), ImageFiles(ImageReading(**options)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": -1}, r"size must be 0 \(as they are\) or more; got size=-1"),
        ({"resize": "pad"}, r"resize=pad needs a size to resize images to; give --size"),
        ({"background": "pink"}, r"background must be white, black, grey or #rrggbb; got"),
    ],
)
def test_options_of_image_files_have_rules(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageReading(**options)


# Damage


def test_damaged_images_are_refused_by_name_or_left_out_with_a_count(tmp_path: Path) -> None:
    for number in range(4):
        saved(tmp_path / f"{number}.png", grey(4, 64, 64)[number])
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[:-2000])
    (tmp_path / "2.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"2.png cannot be read as an image .*--skip-damaged"):
        read_with(tmp_path)
    data = read_with(tmp_path, skip_damaged=True)
    assert np.array_equal(data.values[:, 0], grey(4, 64, 64)[[0, 3]])
    assert notes_of(tmp_path, skip_damaged=True) == [
        "damaged or too large images left out: 2 (1.png, 2.png)"
    ]
    for number in (0, 3):
        (tmp_path / f"{number}.png").unlink()
    with pytest.raises(
        InputError, match=r"all 2 images are damaged or too large, (1|2).png for one"
    ):
        read_with(tmp_path, skip_damaged=True)
