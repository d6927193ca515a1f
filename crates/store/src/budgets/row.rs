//! A budget as its row holds it, and what is left of it.

use remit_core::{Budget, Dimension, Spending};

use super::StoredBudget;

/// A budget in columns: calls, cost, amount, bytes and irreversible calls each.
pub(super) struct BudgetRow {
    allowed: [Option<i64>; 5],
    reserved: [i64; 5],
    spent: [i64; 5],
}

/// A row of `BUDGET` and `LOCK_BUDGET`.
pub(super) type Row = (
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
);

// === impl BudgetRow ===

impl BudgetRow {
    pub(super) fn of(row: Row) -> Self {
        Self {
            allowed: [row.0, row.1, row.2, row.3, row.4],
            reserved: [row.5, row.6, row.7, row.8, row.9],
            spent: [row.10, row.11, row.12, row.13, row.14],
        }
    }

    /// How much is left in every dimension; `None` where it limits nothing.
    pub(super) fn left(&self) -> [Option<i64>; 5] {
        let mut left = self.allowed;
        let used = self.reserved.into_iter().zip(self.spent);
        for (left, (reserved, spent)) in left.iter_mut().zip(used) {
            *left = left.map(|allowed| allowed.saturating_sub(reserved).saturating_sub(spent));
        }
        left
    }

    /// Names the dimension of which not enough is left for a call.
    ///
    /// How many bytes a call moves is known only afterwards: once as many as allowed were told of, be that none, none is left.
    pub(super) fn exhausted_by(&self, charges: [i64; 5]) -> Option<Dimension> {
        const DIMENSIONS: [Dimension; 5] = [
            Dimension::Calls,
            Dimension::Cost,
            Dimension::Amount,
            Dimension::Bytes,
            Dimension::Irreversible,
        ];
        let [_, _, _, allowed, _] = self.allowed;
        let [_, _, _, spent, _] = self.spent;
        let spent_all = allowed.is_some_and(|allowed| spent >= allowed);
        let lacks = self.left().into_iter().zip(charges).zip(DIMENSIONS);
        lacks
            .filter(|((left, charge), dimension)| {
                left.is_some_and(|left| *charge > left)
                    || (*dimension == Dimension::Bytes && spent_all)
            })
            .map(|(_, dimension)| dimension)
            .next()
    }

    pub(super) fn stored(&self) -> StoredBudget {
        // What was given back of an escrow may be told of before it was spent.
        let shown = |value: i64| u64::try_from(value).unwrap_or_default();
        let spending = |[calls, cost, amount, bytes, irreversible]: [i64; 5]| Spending {
            amount: shown(amount),
            bytes: shown(bytes),
            calls: shown(calls),
            cost: shown(cost),
            irreversible: shown(irreversible),
        };
        let [calls, cost, amount, bytes, irreversible] = self.allowed;
        StoredBudget {
            allowed: Budget {
                amount: amount.map(shown),
                bytes: bytes.map(shown),
                calls: calls.map(shown),
                cost: cost.map(shown),
                irreversible: irreversible.map(shown),
            },
            reserved: spending(self.reserved),
            spent: spending(self.spent),
        }
    }
}
