"""Writes crm_export.csv: a made-up CRM export, the same every time."""

from __future__ import annotations

import csv
import random
from pathlib import Path

PEOPLE = 320
COMPANIES = [
    ("Northwind Traders", "northwind.test"),
    ("Blue Yonder Air", "blueyonder.test"),
    ("Fabrikam", "fabrikam.test"),
    ("Müller & Söhne", "mueller-soehne.test"),
    ("Contoso Labs", "contoso.test"),
    ("Größe GmbH", "größe.test"),
    ("Tailspin Toys", "tailspin.test"),
    ("Litware", "litware.test"),
]
FIRST = [
    "Ana",
    "Björn",
    "Chloé",
    "Dmitri",
    "Elena",
    "Farid",
    "Greta",
    "Hiro",
    "Ines",
    "Jamal",
    "Katarzyna",
    "Liam",
    "Mei",
    "Noor",
    "Olu",
    "Pia",
    "Quinn",
    "Rosa",
    "Sven",
    "Tariq",
]
LAST = [
    "Álvarez",
    "Becker",
    "Cohen",
    "Dubois",
    "Eriksen",
    "Fischer",
    "García",
    "Haddad",
    "Ivanova",
    "Jansen",
    "Kowalski",
    "López",
    "Müller",
    "Nakamura",
    "O'Neil",
]
PLANS = ["free", "pro", "pro", "enterprise"]


def main() -> None:
    """Writes the file beside this one."""
    dice = random.Random(20)
    with (Path(__file__).parent / "crm_export.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(
            ["email", "name", "company", "plan", "open_tickets", "renewal", "tags", "city", "days_since_last_contact"]
        )
        for number in range(PEOPLE):
            company, domain = COMPANIES[number % len(COMPANIES)]
            first, last = FIRST[number % len(FIRST)], LAST[(number * 7) % len(LAST)]
            local = f"{first}.{last}{number}".lower().replace("'", "").encode("ascii", "ignore").decode()
            address = f"{local}@{domain}" if number % 9 else f"{local.title()}@{domain.upper()}"
            rows.writerow(
                [
                    address,
                    f"{first} {last}" if number % 13 else "",
                    company,
                    dice.choice(PLANS),
                    dice.choice(["", 0, 1, 2, 5, 12]),
                    f"2027-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}",
                    ";".join(dice.sample(["beta", "vip", "reseller", "trial"], dice.randint(0, 2))),
                    dice.choice(["", "Oslo", "München", "São Paulo", "東京"]),
                    dice.choice(["", "", 1, 6, 29, 31, 45, 120, 400]),
                ]
            )


if __name__ == "__main__":
    main()
