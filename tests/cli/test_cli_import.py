"""Files of people in and out: every format, rows that are refused, imports that stop in the middle."""

from __future__ import annotations

import asyncio
import concurrent.futures
import csv
import io
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.cli.run import PROGRAM, Cli
from tests.clients.forms import until
from tests.clients.line import Line

from multimail.cli import vcard
from multimail.cli.importing import _Place

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Account

JSONL = {"email": "elena@acme.test", "name": "Elena", "metadata": {"n": 1, "on": True, "deep": {"a.b": [1, "2", None]}}}


def crm(rows: int, bad: set[int], **given: str) -> str:
    """A CSV as a CRM writes it, with semicolons, in which these rows have no good address."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";")
    writer.writerow(["First Name", "Last Name", "E-Mail", "Open Tickets", "Firma", "Note"])
    for number in range(rows):
        address = ("", "no address")[number % 2] if number in bad else f"p{number}@crm.test"
        writer.writerow([f"Ann{number}", "Müller", address, number, "Acme; Ltd", 'two\nlines "quoted"'])
    return text.getvalue()


async def metadata(cli: Cli, email: str) -> Any:
    """What is known of somebody."""
    return (await cli.json("contacts", "show", email))["contact"]["metadata"]


async def test_a_crm_export_of_2000_rows(cli: Cli) -> None:
    """A dry run changes nothing; then good rows become contacts, bad ones a file that can be mended and imported."""
    bad = {7, 500, 1999}
    file = cli.file("crm.csv", crm(2000, bad))
    mapped = ("contacts", "import", file, "--map", "Firma=metadata.company.name", "--map", "Note=-")
    dry = await cli.json(*mapped, "--dry-run")
    assert (dry["rows"], dry["new"], dry["known"], dry["refused"]) == (2000, 1997, 0, 3)
    assert dry["columns"]["E-Mail"] == "email"
    assert dry["columns"]["Open Tickets"] == "metadata.open_tickets"
    assert dry["samples"][0]["metadata"] == {"open_tickets": "0", "company": {"name": "Acme; Ltd"}}
    assert (await cli.json("contacts", "search", "--count"))["count"] == 0

    errors = cli.folder / "refused.csv"
    done = await cli.json(*mapped, "--types", "--errors", errors, code=1)
    assert {name: done[name] for name in ("rows", "created", "updated", "unchanged", "refused")} == {
        "rows": 2000, "created": 1997, "updated": 0, "unchanged": 0, "refused": 3,
    }  # fmt: skip
    assert done["refusals"][0]["line"] == 7 * 2 + 2
    shown = (await cli.json("contacts", "show", "p12@crm.test"))["contact"]
    assert (shown["name"], shown["metadata"]) == (
        "Ann12 Müller",
        {"open_tickets": 12, "company": {"name": "Acme; Ltd"}},
    )

    with errors.open(encoding="utf-8", newline="") as written:
        refused = list(csv.DictReader(written, delimiter=";"))
    assert [each["First Name"] for each in refused] == ["Ann7", "Ann500", "Ann1999"]
    assert all(each["multimail_error"] for each in refused)
    assert refused[1]["Note"] == 'two\nlines "quoted"'
    mended = errors.read_text(encoding="utf-8").replace("no address", "mended@crm.test")
    again = await cli.json("contacts", "import", cli.file("mended.csv", mended), code=1)
    assert (again["created"], again["refused"]) == (1, 1)
    assert "multimail_error" not in await metadata(cli, "mended@crm.test")


async def test_an_import_that_was_killed_goes_on(cli: Cli, account: Account) -> None:
    """After SIGKILL the same command does the rest and nothing twice; one that ended well is done anew."""
    rows = 600
    file = cli.file(
        "people.jsonl", "".join(json.dumps({"email": f"k{n}@crm.test", "n": n}) + "\n" for n in range(rows))
    )
    async with await account.client() as client, Line(account.running.grpc_port, asks=20_000).up() as line:
        direct = cli.env["MULTIMAIL_TARGET"]
        cli.env["MULTIMAIL_TARGET"] = f"127.0.0.1:{line.port}"
        process = await asyncio.create_subprocess_exec(
            PROGRAM, "contacts", "import", file, env=os.environ | cli.env, stdout=asyncio.subprocess.DEVNULL
        )
        await until(client.contacts.count, lambda count: count >= 20)
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        assert await client.contacts.count() < rows

        line.asks = None
        cli.env["MULTIMAIL_API_KEY"] = await account.key()  # an import is its account's, whichever key began it
        done = await cli.run("contacts", "import", file, "--json")
        assert "Going on with the import that was interrupted" in done.err
        told = json.loads(done.out)
        assert (done.code, told["created"], told["unchanged"]) == (0, rows, 0)
        assert await client.contacts.count() == rows
        made = [each.contact_id async for each in await client.notifications.list(types="contact_created")]
        assert len(made) == len(set(made)) == rows
    cli.env["MULTIMAIL_TARGET"] = direct
    small = cli.file("small.jsonl", '{"email": "s@crm.test"}\n')
    assert (await cli.json("contacts", "import", small))["created"] == 1
    assert (await cli.json("contacts", "import", small))["unchanged"] == 1
    assert list((cli.folder / "state").rglob("imports/*")) == []


def test_the_name_of_an_import_is_kept_from_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All who start the same import take one name, which is as old as the first start, and forgotten when too old."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    place = _Place(["a file"])
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        (name,) = {found.result() for found in [threads.submit(place.begun) for _ in range(8)]}
    assert name
    (kept,) = tmp_path.rglob("imports/*")
    begun = time.time() - 20 * 86_400
    os.utime(kept, (begun, begun))
    assert (place.begun(), kept.stat().st_mtime) == (name, pytest.approx(begun))
    os.utime(kept, (begun - 10 * 86_400,) * 2)
    assert place.begun() not in ("", name)


async def test_refused_rows_of_csv_are_kept_whole(cli: Cli) -> None:
    """A row with too many values is written back whole and refused again; lines are counted as the file has them."""
    errors = cli.folder / "errors.csv"
    file = cli.file("in.csv", "sep=;\n\nemail;company\na@x.test;Acme; Inc\n")
    for line in (4, 2):
        done = await cli.json("contacts", "import", file, "--errors", errors, code=1)
        assert (done["refused"], done["refusals"][0]["line"]) == (1, line)
        file = cli.file("again.csv", errors.read_bytes())
    assert list(csv.reader(io.StringIO(errors.read_text()), delimiter=";")) == [
        ["multimail_error", "email", "company"], ["has 4 values for 3 columns", "a@x.test", "Acme", " Inc"],
    ]  # fmt: skip
    assert (await cli.json("contacts", "search", "--count"))["count"] == 0


async def test_the_imported_file_is_never_the_one_of_errors(cli: Cli) -> None:
    """Refused rows do not replace the file they come from; a folder that is not there is named, and nothing begun."""
    file = cli.file("in.csv", "email\na@x.test\nb\n")
    (cli.folder / "link.csv").symlink_to(file)
    for errors in (file, cli.folder / "link.csv"):
        done = await cli.run("contacts", "import", file, "--errors", errors)
        assert (done.code, "is the file that is imported" in done.err) == (2, True)
    assert file.read_text() == "email\na@x.test\nb\n"
    lost = await cli.run("contacts", "import", file, "--errors", cli.folder / "no" / "e.csv")
    assert (lost.code, lost.err) == (1, f"{cli.folder / 'no'}: No such file or directory.\n")
    assert "Going on" not in (await cli.run("contacts", "import", file)).err


async def test_odd_lines_of_json_are_rows_like_others(cli: Cli) -> None:
    """Names that are no paths become keys; what nests too deep is refused, in a dry run too, and written back."""
    deep = '{"email": "c@x.test", "n": ' + "[" * 900 + "]" * 900 + "}"
    rows = '{"email": "a@x.test", "metadata.": 1, "metadata.a..b": 2}\n' + deep + '\n{"email": "d@x.test"}\n'
    file, errors = cli.file("in.jsonl", rows), cli.folder / "errors.jsonl"
    dry = await cli.json("contacts", "import", file, "--dry-run")
    assert (dry["new"], dry["refused"]) == (2, 1)
    done = await cli.json("contacts", "import", file, "--errors", errors, code=1)
    assert (done["created"], done["refusals"][0]["line"]) == (2, 2)
    assert await metadata(cli, "a@x.test") == {"metadata.": 1, "metadata.a..b": 2}
    assert json.loads(errors.read_text())["multimail_line"] == deep


@pytest.mark.parametrize("kind", ["jsonl", "vcf", "csv"])
async def test_what_is_exported_comes_back(cli: Cli, account: Account, tmp_path: Path, kind: str) -> None:
    """Exported and imported elsewhere, contacts are the same; CSV needs `--types` for that."""
    people = [
        JSONL,
        {"email": "b+c@acme.test", "name": 'Bo; "B", \\ Ünal', "metadata": {"note": "one\ntwo; three, four \\ five"}},
        {"email": "c@acme.test", "last_contacted": "2026-01-02T03:04:05Z"},
        {"email": "d@acme.test", "name": "名前 " * 40, "metadata": {"long": "ü" * 500, "empty": {}}},
    ]
    await cli.say("contacts", "import", cli.file("in.jsonl", "\n".join(map(json.dumps, people))))
    out = cli.folder / f"out.{kind}"
    assert (await cli.run("contacts", "export", "-o", out)).err == f"4 contacts are in {out}.\n"
    assert out.stat().st_mode & 0o777 == 0o600

    other = Cli(account.__class__(account.name + "x", account.running, account.commands), "", tmp_path)
    other.env["MULTIMAIL_API_KEY"], _ = await account.running.keys.create(account.name + "x", "t", ("read", "write"))
    done = await other.json("contacts", "import", out, *(["--types"] if kind == "csv" else []))
    assert (done["created"], done["refused"]) == (4, 0)

    def kept(found: dict[str, Any]) -> dict[str, Any]:
        return {name: found.get(name) for name in ("email", "name", "metadata", "last_contacted")}

    before, after = [
        sorted((kept(each) for each in await one.lines("contacts", "export")), key=lambda each: each["email"])
        for one in (cli, other)
    ]
    assert before == after


async def test_an_export_is_whole_or_not_there(cli: Cli) -> None:
    """A filter that is refused leaves the file as it was; conditions choose; stdout holds nothing but contacts."""
    await cli.say("contacts", "import", cli.file("in.jsonl", json.dumps(JSONL) + '\n{"email": "b@acme.test"}'))
    out = cli.file("out.csv", "precious")
    assert (await cli.run("contacts", "export", "--filter", "(", "-o", out)).code == 2
    assert out.read_text() == "precious"
    assert [path.name for path in cli.folder.iterdir() if path.name.startswith(".")] == []
    chosen = await cli.lines("contacts", "export", "-w", "metadata.n=1")
    assert [each["email"] for each in chosen] == ["elena@acme.test"]
    assert chosen == await cli.lines("contacts", "export", "-w", "metadata.n=1", "--json")
    both = await cli.say("contacts", "export", "--json", "--format", "csv", code=2)
    assert not both
    text = await cli.say("contacts", "export", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [rows[0][name] for name in ("email", "metadata.n", "metadata.on", 'metadata.deep."a.b"')] == [
        "elena@acme.test", "1", "true", '[1, "2", null]',
    ]  # fmt: skip


VCARDS = """BEGIN:VCARD\r
VERSION:4.0\r
N:Ruiz;Elena;;;\r
item1.EMAIL;TYPE=work:old@acme.test\r
EMAIL;PREF=1:elena@acme.test\r
TEL;VALUE=uri;TYPE="cell,home":tel:+49-30-1\r
TEL:+49 30 2\r
ORG:Acme\\; Ltd;Sales\r
ADR:;;1 Main\\nStreet;Oslo;;0150;Norway\r
NOTE:folded\r
  here\\, twice\r
CATEGORIES:vip,friend\r
PHOTO:data:image/png;base64,AAAA\r
END:VCARD\r
BEGIN:VCARD
VERSION:2.1
N:M=FCller;Zo=EB
FN;CHARSET=iso-8859-1;ENCODING=QUOTED-PRINTABLE:Zo=EB=20=
M=FCller
EMAIL;INTERNET:zoe@acme.test
END:VCARD
BEGIN:VCARD
VERSION:3.0
FN:Nobody
END:VCARD
BEGIN:VCARD
VERSION:3.0
broken line
EMAIL:x@acme.test
END:VCARD
BEGIN:VCARD
EMAIL:cut@acme.test
"""


async def test_vcards_of_all_versions(cli: Cli) -> None:
    """Versions 2.1 to 4.0 are read, folded, quoted and grouped; a card that is none is refused and written back."""
    file, errors = cli.file("people.vcf", VCARDS), cli.folder / "refused.vcf"
    done = await cli.json("contacts", "import", file, "--errors", errors, code=1)
    assert (done["created"], [each["line"] for each in done["refusals"]]) == (2, [22, 26, 31])
    elena = (await cli.json("contacts", "show", "elena@acme.test"))["contact"]
    assert (elena["name"], elena["metadata"]) == (
        "Elena Ruiz",
        {
            "phone": ["+49-30-1", "+49 30 2"], "company": "Acme; Ltd", "note": "folded here, twice",
            "other_emails": ["old@acme.test"], "tags": ["vip", "friend"],
            "address": {"street": "1 Main\nStreet", "city": "Oslo", "postal_code": "0150", "country": "Norway"},
        },
    )  # fmt: skip
    assert (await cli.json("contacts", "show", "zoe@acme.test"))["contact"]["name"] == "Zoë Müller"
    text = errors.read_text()
    assert text.count("X-MULTIMAIL-ERROR:") == text.count("BEGIN:VCARD") == 3
    assert "broken line" in text


async def test_refused_cards_are_kept_whole(cli: Cli) -> None:
    """A card is written back as often as it is refused; one without an end takes no card behind it along."""
    card = "BEGIN:VCARD\r\nEMAIL:ann at acme.test\r\n{}END:VCARD\r\n"
    file, errors = cli.file("in.vcf", "BEGIN:VCARD\r\nEMAIL:cut@x.test\r\n" + card.format("")), cli.folder / "e.vcf"
    for _ in range(3):
        done = await cli.json("contacts", "import", file, "--errors", errors, code=1)
        assert done["refused"] == 2
        file = cli.file("again.vcf", errors.read_bytes())
    text = errors.read_text().replace("\n ", "")
    assert "\nEMAIL:ann at acme.test\nX-MULTIMAIL-ERROR:" in text
    assert (text.count("X-MULTIMAIL-ERROR"), text.count("\nEND:VCARD\n")) == (2, 1)
    agent = "BEGIN:VCARD\nAGENT:\nBEGIN:VCARD\nFN:Agent\nEND:VCARD\nEMAIL:boss@x.test\nEND:VCARD\n"
    (inside,) = vcard.cards(agent.splitlines())
    assert inside.whole


async def test_edits_of_an_address_book_come_back(cli: Cli) -> None:
    """What was changed or added in an exported card wins over the metadata that the card keeps; all else stays."""
    before = {"phone": "1", "company": " Acme; Ltd ", "note": "a\nb", "n": 2, "title": ["x"]}
    await cli.say("contacts", "upsert", "a@x.test", "--metadata", json.dumps(before))
    card = await cli.say("contacts", "export", "--format", "vcard")
    edited = card.replace("TEL:1\n", "TEL:2\nURL:x.test\nTITLE:y\n")
    assert (await cli.json("contacts", "import", cli.file("same.vcf", card)))["unchanged"] == 1
    await cli.json("contacts", "import", cli.file("edited.vcf", edited))
    assert await metadata(cli, "a@x.test") == before | {"phone": "2", "url": "x.test"}


@pytest.mark.parametrize(
    ("name", "content", "args", "code", "said"),
    [
        ("a.csv", b"email\na@b.test\n\xff\n", [], 2, "--encoding cp1252"),
        ("a.csv", "email;name\na@b.test;Zoë\n".encode("utf-16"), [], 0, "1 created"),
        ("a.csv", b"\xef\xbb\xbfemail\na@b.test\n", [], 0, "1 created"),
        ("a.csv", "email,name\na@b.test,Zoë\n".encode("cp1252"), ["--encoding", "cp1252"], 0, "1 created"),
        ("a.csv", b"email\n", ["--encoding", "klingon"], 2, "no encoding known"),
        ("a.csv", b"", [], 2, "is empty"),
        ("a.csv", b"name,plan\nBo,pro\n", [], 2, "--map 'COLUMN=email'"),
        ("a.csv", b"email,x\na@b.test,1\n", ["--map", "y=metadata.y"], 2, "no column 'y'"),
        ("a.csv", b"email,x\na@b.test,1\n", ["--map", "x=company"], 2, "metadata.company"),
        ("a.csv", b"email,email\na@b.test,1\n", [], 2, "Two columns"),
        ("a.csv", b"a,b\na@b.test,1\n", ["--map", "a=email", "--map", "b=email"], 2, "two columns go to email"),
        ("a.csv", b"email,x\na@b.test,1,2\nb@b.test\n\n", [], 1, "1 created, 0 updated, 0 unchanged, 1 refused"),
        ("a.csv", b'email,x\na@b.test,"1\nb@b.test,2\nc@b.test,3\n', [], 2, "line 2 of"),
        ("a.csv", b'email,x\na@b.test,"1\nb@b.test,"2"\n', [], 2, "close every quote"),
        ("a.csv", b'email,"x\n' + b"y" * 99 + (b"\n" + b"z" * 99) * 50_000, [], 2, "line 1 of"),
        ("a.csv", b"email\n" + b"x" * (5 << 20), [], 2, "longer than 4 MiB"),
        ("a.tsv", b"email\tn\na@b.test\t1\n", [], 0, "1 created"),
        ("a.txt", b"email/n\na@b.test/1\n", ["--delimiter", "/"], 0, "1 created"),
        ("a.jsonl", b'{"email": 1}\n[]\nnonsense\n{"name": "x"}\n' + b"[" * 5000 + b"\n", [], 1, "5 refused"),
        ("a.jsonl", b'{"email": "a@b.test", "n": NaN}\n{"email": "\\ud800@b.test"}\n', [], 1, "2 refused"),
        ("a.json", b'[{"email": "a@b.test"}]', [], 2, "one JSON array"),
        ("a.xlsx", b"PK", [], 2, "does not tell its format"),
        ("a.vcf", b"nothing of the kind", [], 0, "0 rows"),
    ],
)  # fmt: skip
async def test_files_of_every_kind(cli: Cli, name: str, content: bytes, args: list[str], code: int, said: str) -> None:
    """What can be read is read, whatever wrote it; what cannot is refused in a sentence, before anything is done."""
    done = await cli.run("contacts", "import", cli.file(name, content), *args, "--errors", cli.folder / "errors")
    assert (done.code, said in done.out + done.err) == (code, True), done
    if code == 2:
        assert (await cli.json("contacts", "search", "--count"))["count"] == 0


async def test_an_import_from_a_pipe(cli: Cli) -> None:
    """Stdin is read as it comes, and a name lets it be taken up again."""
    rows = '{"email": "a@b.test"}\n{"email": "b@b.test"}\n'
    for _ in range(2):
        done = await cli.run(
            "contacts", "import", "-", "--format", "jsonl", "--import-id", "mine", "--json", stdin=rows
        )
        assert (done.code, json.loads(done.out)["created"]) == (0, 2)
    away = await cli.run("contacts", "import", "-", "--format", "jsonl", "--patience", "1s", stdin=rows,
                         MULTIMAIL_TARGET="127.0.0.1:9")  # fmt: skip
    assert away.code == 5
    assert "--import-id" in away.err


async def test_memory_stays_flat(cli: Cli, tmp_path: Path) -> None:
    """A file is read row by row: six times the rows take no more memory, also where every one is refused here."""
    script = tmp_path / "peak.py"
    script.write_text(
        "import sys, tracemalloc\nfrom pathlib import Path\nimport multimail\n"
        "from multimail.cli import columns, files, importing, rows\n"
        "source, counted = files.Source(Path(sys.argv[1]), None), importing._Count()\nsource.digest()\n"
        "tracemalloc.start()\nread = rows.opened(source, 'csv', None)\n"
        "mapping = columns.Columns({}, typed=True, named_by_people=True)\n"
        "with multimail.Client() as client:\n"
        "    read = importing._read(read, mapping)\n"
        "    importing._run(client, read, 'x', 9.0, counted, counted.refuse, lambda _: None)\n"
        "print(counted.outcomes['refused'], tracemalloc.get_traced_memory()[1])\n"
    )

    async def peak(rows: int) -> int:
        text = crm(rows, set(range(rows))).replace("no address", "")
        process = await asyncio.create_subprocess_exec(
            sys.executable, script, cli.file(f"{rows}.csv", text), env=os.environ | cli.env,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        count, most = map(int, (await process.communicate())[0].split())
        assert count == rows
        return most

    assert await peak(6_000) < await peak(1_000) + (256 << 10)
