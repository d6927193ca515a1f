//! The ledger itself: each fault it is there for, planted, is found.

use std::time::{Duration, Instant};

use remit_chaos::{Call, Entry, Ledger, Outcome, Totals};

fn call(outcome: Outcome) -> Call {
    Call {
        client: 0,
        agent: "invoice-bot",
        sent: Instant::now(),
        took: Duration::ZERO,
        outcome,
    }
}

fn decided(id: &str) -> Call {
    call(Outcome::Decided {
        id: id.to_owned(),
        permit: true,
        revision: 1,
    })
}

fn lost(unsent: bool) -> Call {
    let error = "the connection ended".to_owned();
    call(Outcome::Lost { error, unsent })
}

fn entry(sequence: u64, id: &str) -> Entry {
    Entry {
        replica: "replica".to_owned(),
        sequence,
        id: id.to_owned(),
        permit: true,
    }
}

/// Three questions were asked, two were answered, and a fourth never left its client.
fn books() -> Ledger {
    let mut ledger = Ledger::new();
    ledger.hear(&[decided("a"), decided("b"), lost(false), lost(true)]);
    ledger
}

#[test]
fn sound_books_balance() {
    let totals = books().against(&[entry(1, "a"), entry(2, "b")]);
    let sound = Totals {
        asked: 3,
        answered: 2,
        recorded: 2,
        ..Totals::default()
    };
    assert_eq!(totals, sound);
    totals.check().unwrap();
    // The question whose answer was lost may have been recorded.
    let totals = books().against(&[entry(3, "b"), entry(2, "lost"), entry(1, "a")]);
    assert_eq!(totals.recorded, 3);
    totals.check().unwrap();
}

#[test]
fn every_planted_fault_is_found() {
    type Count = fn(&Totals) -> usize;
    let denied = Entry {
        permit: false,
        ..entry(2, "b")
    };
    let cases: [(&str, &[Entry], Count); 7] = [
        ("nothing recorded", &[], |totals| totals.missing),
        ("an answer missing", &[entry(1, "a")], |totals| {
            totals.missing
        }),
        ("another verdict", &[entry(1, "a"), denied], |totals| {
            totals.differing
        }),
        (
            "a decision twice",
            &[entry(1, "a"), entry(2, "b"), entry(3, "b")],
            |totals| totals.duplicates,
        ),
        (
            "a place twice",
            &[entry(1, "a"), entry(2, "b"), entry(2, "lost")],
            |totals| totals.duplicates,
        ),
        ("a gap", &[entry(1, "a"), entry(3, "b")], |totals| {
            totals.gaps
        }),
        ("no beginning", &[entry(2, "a"), entry(3, "b")], |totals| {
            totals.gaps
        }),
    ];
    for (what, entries, count) in cases {
        let totals = books().against(entries);
        assert!(count(&totals) > 0, "{what}: {totals}");
        totals.check().unwrap_err();
    }
    let unasked = ["a", "b", "c", "d"].iter().zip(1..);
    let unasked: Vec<Entry> = unasked.map(|(id, number)| entry(number, id)).collect();
    books().against(&unasked).check().unwrap_err();
    let mut twice = books();
    twice.hear(&[decided("b")]);
    let totals = twice.against(&[entry(1, "a"), entry(2, "b")]);
    assert_eq!(totals.duplicates, 1, "{totals}");
    totals.check().unwrap_err();
}
