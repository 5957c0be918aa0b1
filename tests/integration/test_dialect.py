"""CSVs as spreadsheets and services write them: read where that is certain, else told what is wrong."""

import re
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from forecaster.cli.load import say_what_is_not_loaded
from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files.intake import Intake, read_listeners, read_mldr, read_streams
from forecaster.files.listing import Listing
from forecaster.files.parts import read_parts
from tests.users import as_nobody, public_directory

STREAMS = "cm_track_id,cm_artist_id,date,daily_streams\n1,2,2024-02-29,3\n1,2,2024-03-01,4\n"


def saved(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path) -> BadFileError:
    with pytest.raises(BadFileError) as error:
        read_streams(path, track_id=1, artist_id=2)
    assert str(path) in str(error.value)
    assert "needs quotes" not in (error.value.hint or "")
    return error.value


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_separator_is_read_and_said(tmp_path: Path, separator: str) -> None:
    usual = read_streams(saved(tmp_path / "usual.csv", STREAMS))
    other = read_streams(saved(tmp_path / "t.csv", STREAMS.replace(",", separator)))
    assert usual.notes == ()
    assert other.rows.equals(usual.rows)
    (note,) = other.notes
    assert "read with the separator" in note


@pytest.mark.parametrize(
    ("text", "rate", "words"),
    [
        ("cm_artist_id;mldr\n900;0,05\n", 0.05, ["(semicolon)", "decimal commas"]),
        ("cm_artist_id;mldr\n900;1,125\n901;0,5\n", 1.125, ["(semicolon)", "decimal commas"]),
        ("cm_artist_id\tmldr\n900\t-,5\n", -0.5, ["tab", "decimal commas"]),
        ('cm_artist_id,mldr\n900,"0,125"\n', 0.125, ["decimal commas"]),
        ("cm_artist_id;mldr\n900;5e-2\n", 0.05, ["(semicolon)"]),
        ("sep=;\r\ncm_artist_id;mldr\r\n900;0,05\r\n", 0.05, ["first line (sep=)", "decimal commas"]),
        ('"sep=,"\ncm_artist_id,mldr\n900,0.05\n', 0.05, ["first line (sep=)"]),
        ("\ufeffSEP=\t\ncm_artist_id\tmldr\n900\t0.05\n", 0.05, ["separator tab"]),
    ],
)
def test_rates_of_a_spreadsheet_are_read_and_how_is_said(
    tmp_path: Path, text: str, rate: float, words: list[str]
) -> None:
    intake = read_mldr(saved(tmp_path / "t.csv", text))
    assert intake.rows.row(0) == (900, rate)
    for note, word in zip(intake.notes, words, strict=True):
        assert word in note


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    text = STREAMS.replace(",", "\t")
    assert read_streams(saved(tmp_path / "t.csv", text.encode(encoding))).rows.height == 2


@pytest.mark.parametrize("values", [["1,234"], ["0,5", "0.5"], ["1.234,5", "0,5"]])
def test_a_comma_that_may_be_either_is_refused(tmp_path: Path, values: list[str]) -> None:
    rows = "".join(f"{artist};{value}\n" for artist, value in enumerate(values))
    with pytest.raises(BadFileError, match=r"may be decimal or between thousands|row 1 \(line 2\)") as error:
        read_mldr(saved(tmp_path / "t.csv", f"cm_artist_id;mldr\n{rows}"))
    assert error.value.hint is not None
    assert re.search("with a point|have a point", error.value.hint)


@pytest.mark.parametrize(
    "value", ['"1,234"', "1.234", "1 234", "12'345", "12.345.678", "1\u202f234", "-1\u00a0234", "1\u2019000"]
)
def test_separators_of_thousands_are_named(tmp_path: Path, value: str) -> None:
    error = refusal(saved(tmp_path / "t.csv", f"date,daily_streams\n2024-01-01,{value}\n"))
    assert "row 1 (line 2): daily_streams is" in str(error)
    assert re.fullmatch(r"write -?[0-9]+, not (['\"])-?[0-9 ,.'\u2019]+\1", error.hint or "")


def test_whole_numbers_may_have_decimal_commas(tmp_path: Path) -> None:
    text = "date;streams\n2024-01-01;1000,0\n2024-01-02;7\n"
    intake = read_streams(saved(tmp_path / "t.csv", text), track_id=1, artist_id=2)
    assert intake.rows["daily_streams"].to_list() == [1000, 7]
    assert intake.notes[1] == "daily_streams read with decimal commas"
    error = refusal(saved(tmp_path / "t.csv", text.replace("1000,0", "1000,5")))
    assert error.hint == "'1000,5' is not a whole number, and only whole numbers can be stored"
    error = refusal(saved(tmp_path / "t.csv", text.replace("1000,0", "1000,00")))
    assert error.hint == "write whole numbers, without decimals"


@pytest.mark.parametrize(
    ("day", "advice"),
    [
        ("31/01/2024", ": these seem to be day, month and year"),
        ("01.02.2024", ": these seem to be day, month and year"),
        ("1/31/24", ": these seem to be month, day and year"),
        ("01/02/2024", ": these may have the day or the month first"),
        ("2024/01/31", ""),
    ],
)
def test_a_day_in_another_format_is_told_how_to_write_it(tmp_path: Path, day: str, advice: str) -> None:
    error = refusal(saved(tmp_path / "t.csv", f"date,streams\n{day},5\n"))
    assert error.hint == f"write days as 2024-01-31{advice}"


def test_lines_above_the_column_names_are_left_out_and_lines_still_counted(tmp_path: Path) -> None:
    above = 'Song report\nSong,"A Song"\n\n'
    intake = read_streams(
        saved(tmp_path / "t.csv", f"{above}date,streams\n2024-01-01,10\n"), track_id=1, artist_id=2
    )
    assert intake.rows["daily_streams"].to_list() == [10]
    assert intake.notes == ("3 lines above the column names left out, the first is 'Song report'",)
    error = refusal(saved(tmp_path / "bad.csv", f"{above}date,streams\n2024-01-01,10\nx,11\n"))
    assert "row 2 (line 6): date is 'x'" in str(error)
    error = refusal(saved(tmp_path / "ragged.csv", f"sep=,\n{above[:12]}date,streams\n2024-01-01\n"))
    assert "row 1 (line 4) has 1 value, the header has 2" in str(error)
    error = refusal(saved(tmp_path / "row.csv", "2024-01-01,9\ndate,streams\n2024-01-02,10\n"))
    assert "'2024-01-01,9' is above the column names, and may be a row" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "Song report\nSong,A Song\n\nDate,Plays\n2024-01-01,10\n",
        ',,,"A note.",\nPosition,"Track Name",Artist,Streams,URL\n1,"A Song",Someone,5,https://example.org/x\n',
        "Song,A Song\nDay,Count\n2024-01-01,10\n",
    ],
)
def test_lines_above_unknown_column_names_are_the_hint(tmp_path: Path, text: str) -> None:
    assert re.search("first line .* above", refusal(saved(tmp_path / "t.csv", text)).hint or "")


def test_a_row_of_another_length_is_told_what_it_may_lack(tmp_path: Path) -> None:
    with pytest.raises(BadFileError) as longer:
        read_mldr(saved(tmp_path / "t.csv", "cm_artist_id,mldr\n900,0,05\n"))
    assert longer.value.hint == "a value with a comma in it needs quotes, and a decimal number a point"
    shorter = refusal(saved(tmp_path / "t.csv", "date,daily_streams\n2024-01-01,3\nTotal\n"))
    assert shorter.hint is not None
    assert "remove lines that are not rows" in shorter.hint


@pytest.mark.parametrize(
    ("columns", "advice"),
    [
        (
            "Date,Plays",
            "rename 'Date' to 'date', 'Plays' to 'streams', if that is what it holds; expected",
        ),
        ("timestp,Daily_Streams", "rename 'timestp' to 'date', 'Daily_Streams' to 'daily_streams'"),
        ("date", "separated by commas"),
    ],
)
def test_unknown_columns_are_told_what_to_be_renamed_to(tmp_path: Path, columns: str, advice: str) -> None:
    error = refusal(saved(tmp_path / "t.csv", f"{columns}\n{','.join('1' for _ in columns.split(','))}\n"))
    assert advice in (error.hint or "")


def test_the_timeline_of_a_song_is_read_and_that_of_an_artist_refused(tmp_path: Path) -> None:
    song = saved(tmp_path / "song-timeline.csv", "date,streams\n2026-01-01,120\n2026-01-02,131\n")
    assert read_streams(song, track_id=1, artist_id=2).rows["daily_streams"].to_list() == [120, 131]
    artist = "date,listeners,streams,followers\n2026-01-01,1,120,5\n"
    assert "are of an artist, not of one track" in str(refusal(saved(tmp_path / "a.csv", artist)))


@pytest.mark.parametrize("names", ["Date,Streams", "date;streams", "Date;Streams", "DATE\tSTREAMS"])
def test_the_names_of_a_timeline_may_have_capital_letters(tmp_path: Path, names: str) -> None:
    for above in ("", "A Song\n"):
        text = f"{above}{names}\n2026-01-01{names[4]}120\n"
        intake = read_streams(saved(tmp_path / "t.csv", text), track_id=1, artist_id=2)
        assert intake.rows.select("date", "daily_streams").rows() == [(date(2026, 1, 1), 120)]
    with pytest.raises(BadFileError) as without_ids:
        read_streams(tmp_path / "t.csv")
    assert f"it has {names[:4]!r}, {names[5:]!r}" in str(without_ids.value)
    assert "if it is about one track, give --track-id and --artist-id; " in (without_ids.value.hint or "")
    artist = text.replace(names, f"{names}{names[4]}Followers").replace("120", f"120{names[4]}5")
    assert "are of an artist" in str(refusal(saved(tmp_path / "a.csv", artist)))


def test_streams_that_rise_every_day_may_be_totals(tmp_path: Path) -> None:
    def read(values: range, name: str) -> Intake:
        days = "".join(f"2026-01-{n + 1:02},{value}\n" for n, value in enumerate(values))
        return read_streams(saved(tmp_path / name, f"date,streams\n{days}"), track_id=1, artist_id=2)

    assert read(range(100, 129), "few.csv").notes == ()
    assert read(range(130, 100, -1), "falling.csv").notes == ()
    (note,) = read(range(100, 130), "rising.csv").notes
    assert "if they are totals so far" in note


@pytest.mark.parametrize(
    "value", [" " * 30_000, "," * 30_000 + "x", "0" * 30_000 + "x", "1," * 15_000, "Jan " + " " * 30_000]
)
def test_a_value_without_end_costs_no_more_than_its_length(tmp_path: Path, value: str) -> None:
    for text in (f'cm_artist_id;mldr\n1;"{value}"\n', f"{value}\ncm_artist_id;mldr\n1;x\n"):
        with pytest.raises(BadFileError):
            read_mldr(saved(tmp_path / "t.csv", text))
    with pytest.raises(BadFileError):
        read_listeners(saved(tmp_path / "t.csv", f'Date,Monthly Listeners\n"{value}",1\n'), artist_id=1)


def parts(directory: Path) -> Intake:
    return read_parts(directory, read_streams, key=("cm_track_id", "date"))


def test_the_files_of_a_directory_are_one(tmp_path: Path) -> None:
    saved(tmp_path / "b.csv", STREAMS.replace("\n1,", "\n7,"))
    saved(tmp_path / "a.csv", STREAMS.replace(",", ";"))
    saved(tmp_path / "_SUCCESS", "")
    saved(tmp_path / ".b.csv", "x")
    saved(tmp_path / "readme.txt", "x")
    intake = parts(tmp_path)
    assert intake.rows["cm_track_id"].to_list() == [1, 1, 7, 7]
    assert intake.notes == (
        "a.csv: read with the separator ';' (semicolon)",
        "2 names not read: .b.csv, readme.txt",
    )


def test_a_day_in_two_files_of_a_directory_is_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        saved(tmp_path / name, STREAMS)
    with pytest.raises(BadFileError) as error:
        parts(tmp_path)
    assert "2 duplicates by cm_track_id and date in different files; nothing was stored" in str(error.value)
    assert "cm_track_id 1, date 2024-02-29: a.csv row 1 and b.csv row 1" in str(error.value)


def test_a_directory_that_is_no_list_of_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionError, match="directory without tables"):
        parts(tmp_path)
    saved(tmp_path / "a.csv", STREAMS)
    for hidden in ("_temporary", ".x"):
        (tmp_path / hidden).mkdir()
    assert parts(tmp_path).notes == ("2 names not read: .x, _temporary",)
    (tmp_path / "deeper").mkdir()
    with pytest.raises(InvalidOptionError, match="contains directories: deeper"):
        parts(tmp_path)
    (tmp_path / "_delta_log").mkdir()
    with pytest.raises(BadFileError, match="is a table of Delta Lake"):
        parts(tmp_path)


@pytest.mark.parametrize(("log", "format_"), [("_delta_log", "Delta Lake"), (".hoodie", "Apache Hudi")])
def test_a_parquet_file_of_a_table_of_another_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str, format_: str
) -> None:
    (tmp_path / "table" / log).mkdir(parents=True)
    (tmp_path / "table" / "day=1").mkdir()
    part = tmp_path / "table" / "day=1" / "p.PARQUET"
    pl.read_csv(saved(tmp_path / "t.csv", STREAMS)).write_parquet(part)
    (tmp_path / "link.parquet").symlink_to(part)
    monkeypatch.chdir(part.parent)
    for path in (part, part.parent, tmp_path / "link.parquet", Path("p.PARQUET"), Path()):
        with pytest.raises(BadFileError, match=f"table is a table of {format_}: only its log says"):
            parts(path)


def test_a_file_of_deletions_is_named(tmp_path: Path) -> None:
    pl.DataFrame({"file_path": ["x"], "pos": [1]}).write_parquet(tmp_path / "1-deletes.parquet")
    with pytest.raises(BadFileError, match=r"1-deletes\.parquet lists rows that an Apache Iceberg table"):
        parts(tmp_path)


def test_what_may_not_be_looked_at_is_named() -> None:
    with public_directory() as place:
        (place / "closed").mkdir(0o700)
        saved(place / "closed" / "a.csv", STREAMS)
        with as_nobody():
            for path in (place / "closed" / "a.csv", place / "closed"):
                with pytest.raises(BadFileError, match="cannot be read: Permission denied"):
                    parts(path)


@pytest.mark.parametrize(
    "text",
    [
        "5,7,2024-01-01,1000\n5,7,2024-01-02,1000\n",
        "5,5,2024-01-01,1000\n5,7,2024-01-02,1000\n",
        "5,7,2024-01-01,1000\n5,7\n",
        "2024-01-01 00:00:00;1000\n2024-01-02 00:00:00;5\n",
    ],
)
def test_a_file_without_column_names_is_told_to_get_them(tmp_path: Path, text: str) -> None:
    assert "the first line has values: add a line of column names" in (
        refusal(saved(tmp_path / "t.csv", text)).hint or ""
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04\x14\0", "a zip archive or an Excel workbook"),
        (b'[{"date": "2024-01-01"}]', "JSON"),
        (b'{\n  "date": []}', "JSON"),
        (b"\xef\xbb\xbf <!DOCTYPE html><html>", "a web page or XML"),
        (b"\x1f\x8b\x08\0", "packed with gzip"),
        (b"PAR1", "a Parquet file"),
    ],
)
def test_what_is_no_csv_is_named(tmp_path: Path, content: bytes, what: str) -> None:
    error = refusal(saved(tmp_path / "t.csv", content))
    assert str(error).endswith(f"is {what}, not a CSV")
    assert error.hint


@pytest.mark.parametrize("name", ["t.tsv", "t.TXT"])
def test_other_endings_of_text_are_told_the_right_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidOptionError) as error:
        parts(saved(tmp_path / name, STREAMS))
    assert "rename a table of text, also one with tabs, to .csv" in (error.value.hint or "")


def test_columns_that_only_the_path_has_are_named(tmp_path: Path) -> None:
    (tmp_path / "cm_track_id=1").mkdir()
    part = saved(tmp_path / "cm_track_id=1" / "p.csv", STREAMS.replace("cm_track_id", "x"))
    with pytest.raises(InvalidOptionError, match="contains directories: cm_track_id=1") as whole:
        parts(tmp_path)
    assert "if the column cm_track_id is only in the path, write it into the files first" in (
        whole.value.hint or ""
    )
    for path in (part, part.parent):
        with pytest.raises(BadFileError, match="lacks the column cm_track_id") as error:
            parts(path)
        assert "cm_track_id is only in the path: write it into the file; expected" in (error.value.hint or "")


def test_no_name_of_a_file_begins_a_line(tmp_path: Path) -> None:
    saved(tmp_path / "a.csv", STREAMS)
    saved(tmp_path / "b\nError: b.txt", "")
    assert parts(tmp_path).notes == ("1 name not read: b\\nError: b.txt",)
    (warning,) = Listing(str(tmp_path), passed_over=["b\nError: b.txt"]).warnings()
    assert "the first is b\\nError: b.txt:" in warning
    saved(tmp_path / "c\nError: c.csv", STREAMS)
    with pytest.raises(BadFileError, match=r"c\\nError: c\.csv contains a line end"):
        parts(tmp_path)


def test_columns_that_are_not_needed_are_shown_on_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = STREAMS.replace("daily_streams", 'daily_streams,,"a\nb"').replace(",3\n", ",3,,\n")
    intake = read_streams(saved(tmp_path / "t.csv", text.replace(",4\n", ",4,,\n")))
    with caplog.at_level("INFO", "forecaster"):
        say_what_is_not_loaded(Path("t.csv"), intake)
    assert caplog.messages == ["t.csv: columns not needed: '', a\\nb"]
